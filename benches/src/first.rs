//! The time to the first byte of a new connection: from connect to the first byte of the answer, as a client sees it.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::http;

/// Clients at once: few, so that none waits for another.
const CLIENTS: usize = 8;
/// How often the round trip is measured.
const PINGS: usize = 9;
/// Nothing within this is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Median and 99th percentile; none if there was no answer at all.
    pub percentiles: Option<[Duration; 2]>,
    /// Connections without an answer.
    pub failed: u64,
}

/// The median time of a TCP connect to `address`: one round trip.
pub fn round_trip(address: SocketAddr) -> Result<Duration> {
    let connect = |_| {
        let begun = Instant::now();
        TcpStream::connect_timeout(&address, PATIENCE).map(|_| begun.elapsed())
    };
    let times = (0..PINGS).map(connect).collect::<io::Result<Vec<_>>>();
    let mut times = times.map_err(Error::io(format!("measuring the round trip to {address}")))?;
    times.sort_unstable();
    Ok(times[PINGS / 2])
}

/// Opens connection after connection to `address`, asks on each once, and closes it, for `seconds`.
pub fn run(address: SocketAddr, seconds: Duration, interrupted: &(dyn Fn() -> bool + Sync)) -> Result<Found> {
    let until = Instant::now() + seconds;
    let client = || {
        let mut times = Vec::new();
        while Instant::now() < until && !interrupted() {
            times.push(once(address));
        }
        times
    };
    let all: Vec<io::Result<Duration>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap_or_default()).collect()
    });
    if interrupted() {
        return Err(Error::Interrupted);
    }
    let failed = all.iter().filter(|outcome| outcome.is_err()).count() as u64;
    Ok(Found { percentiles: percentiles(all.into_iter().flatten().collect()), failed })
}

fn once(address: SocketAddr) -> io::Result<Duration> {
    let begun = Instant::now();
    let mut stream = http::connect(address)?;
    http::request(&mut stream, "/")?;
    stream.read_exact(&mut [0])?;
    Ok(begun.elapsed())
}

fn percentiles(mut times: Vec<Duration>) -> Option<[Duration; 2]> {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied();
    Some([at(50)?, at(99)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn percentiles_of_none_one_and_many() {
        let ms = Duration::from_millis;
        assert_eq!(percentiles(Vec::new()), None);
        assert_eq!(percentiles(vec![ms(7)]), Some([ms(7); 2]));
        assert_eq!(percentiles((0..200).rev().map(ms).collect()), Some([ms(100), ms(198)]));
    }

    #[test]
    fn what_answers_is_timed_and_what_does_not_has_failed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]).unwrap();
            stream.write_all(b"H").unwrap();
        });
        assert!(once(address).is_ok());
        server.join().unwrap();
        assert!(once(address).is_err());
    }
}

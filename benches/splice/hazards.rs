//! What a way does to a stream's bytes and ends, and to the memory of the machine.

use crate::{
    load::connection,
    relay::{Mode, Relay},
};
use rustix::net::sockopt;
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

/// A stream that stands still for longer has stalled.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than two connections hold by Linux's defaults, with their largest buffers: a writer that has not been stopped then is not.
const MOST: usize = 64 << 20;
/// Bytes each way.
const LENGTH: usize = 1 << 20;

type Hazard = fn(Mode) -> io::Result<()>;

const HAZARDS: [(&str, Hazard); 6] = [
    ("an end each way behind 1 MiB", half_close),
    ("both ways at once, and both ends", both_ways),
    ("bytes before the relay has it", queued),
    ("the same, and more meanwhile", streaming),
    ("a reset", reset),
    ("a reader that has stopped", stopped),
];

/// Tries each on so many connections, and prints how many came out right, and the first fault.
pub(crate) fn show(modes: &[Mode], times: u32) {
    println!("| hazard | way | right | first fault |\n|---|---|---|---|");
    for (name, hazard) in HAZARDS {
        for mode in modes {
            // One is enough to see memory filled, and costs some.
            let times = if name.ends_with("stopped") { 1 } else { times };
            let faults: Vec<_> = (0..times).filter_map(|_| hazard(*mode).err()).collect();
            let fault = faults.first().map_or_else(|| "–".into(), ToString::to_string);
            println!("| {name} | {mode:?} | {} of {times} | {fault} |", times as usize - faults.len());
        }
    }
}

/// Client, relay's two, endpoint.
type Four = (TcpStream, (TcpStream, TcpStream), TcpStream);

fn four() -> io::Result<Four> {
    let ((client, left), (right, endpoint)) = (connection()?, connection()?);
    for end in [&client, &endpoint] {
        end.set_read_timeout(Some(PATIENCE))?;
        end.set_write_timeout(Some(PATIENCE))?;
    }
    Ok((client, (left, right), endpoint))
}

fn half_close(mode: Mode) -> io::Result<()> {
    let (client, pair, endpoint) = four()?;
    let relay = Relay::start(mode, vec![pair])?;
    let asked = thread::spawn(move || {
        say(&client, 1, LENGTH)?;
        client.shutdown(Shutdown::Write)?;
        hear(&client, 2, LENGTH)?;
        hear_end(&client)
    });
    let answered = (|| {
        hear(&endpoint, 1, LENGTH)?;
        hear_end(&endpoint)?;
        say(&endpoint, 2, LENGTH)
    })();
    drop(endpoint);
    both(answered, asked, relay)
}

fn both_ways(mode: Mode) -> io::Result<()> {
    let (client, pair, endpoint) = four()?;
    let relay = Relay::start(mode, vec![pair])?;
    let one = thread::spawn(move || at_once(&client, 1, 2));
    let other = at_once(&endpoint, 2, 1);
    both(other, one, relay)
}

/// Says all of `own` and hears all of `other` at the same time.
fn at_once(socket: &TcpStream, own: u8, other: u8) -> io::Result<()> {
    thread::scope(|scope| {
        let says = scope.spawn(|| {
            say(socket, own, LENGTH)?;
            socket.shutdown(Shutdown::Write)
        });
        let heard = hear(socket, other, LENGTH).and_then(|()| hear_end(socket));
        let said = says.join().unwrap_or_else(|_| Err(io::Error::other("a panic")));
        heard.and(said)
    })
}

/// The client has said all it has to say before the relay knows of it.
fn queued(mode: Mode) -> io::Result<()> {
    let (client, pair, endpoint) = four()?;
    say(&client, 1, 10_000)?;
    let relay = Relay::start(mode, vec![pair])?;
    let heard = hear(&endpoint, 1, 10_000);
    drop((client, endpoint));
    relay.stop()?;
    heard
}

/// It goes on while the relay takes the connection.
fn streaming(mode: Mode) -> io::Result<()> {
    let (client, pair, endpoint) = four()?;
    let says = thread::spawn(move || {
        let pieces = 200;
        (0..pieces).try_for_each(|piece| say_from(&client, 1, piece * 5000, 5000)).map(|()| client)
    });
    let relay = Relay::start(mode, vec![pair])?;
    let heard = hear(&endpoint, 1, 1_000_000);
    drop(endpoint);
    let said = says.join().unwrap_or_else(|_| Err(io::Error::other("a panic")));
    relay.stop()?;
    heard.and(said.map(drop))
}

fn reset(mode: Mode) -> io::Result<()> {
    let (client, pair, mut endpoint) = four()?;
    let relay = Relay::start(mode, vec![pair])?;
    say(&client, 1, 1000)?;
    hear(&endpoint, 1, 1000)?;
    sockopt::set_socket_linger(&client, Some(Duration::ZERO))?;
    drop(client);
    let found = endpoint.read(&mut [0]);
    relay.stop()?;
    match found {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        other => Err(io::Error::other(format!("found {other:?}, expected a reset"))),
    }
}

/// Nobody reads: the client must be stopped, and then everything must arrive.
fn stopped(mode: Mode) -> io::Result<()> {
    let (client, pair, endpoint) = four()?;
    let relay = Relay::start(mode, vec![pair])?;
    client.set_write_timeout(Some(Duration::from_millis(500)))?;
    let mut said = 0;
    while said < MOST && say_once(&client, 1, said, 64 << 10).map(|n| said += n).is_ok() {}
    let result = if said < MOST {
        hear(&endpoint, 1, said)
    } else {
        Err(io::Error::other(format!("the writer was not stopped within {} MiB", MOST >> 20)))
    };
    drop((client, endpoint));
    relay.stop()?;
    result
}

fn both(here: io::Result<()>, there: thread::JoinHandle<io::Result<()>>, relay: Relay) -> io::Result<()> {
    let there = there.join().unwrap_or_else(|_| Err(io::Error::other("a panic")));
    relay.stop()?;
    here.and(there)
}

/// The byte at a place: a prime period, so that nothing lost or swapped leaves it as it was.
fn byte(seed: u8, at: usize) -> u8 {
    let place = (at % 65_521) as u32;
    (place.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed
}

fn say(to: &TcpStream, seed: u8, length: usize) -> io::Result<()> {
    say_from(to, seed, 0, length)
}

fn say_from(to: &TcpStream, seed: u8, from: usize, length: usize) -> io::Result<()> {
    let mut at = from;
    while at < from + length {
        at += say_once(to, seed, at, (from + length - at).min(16 << 10))?;
    }
    Ok(())
}

fn say_once(mut to: &TcpStream, seed: u8, at: usize, length: usize) -> io::Result<usize> {
    let bytes: Vec<u8> = (at..at + length).map(|at| byte(seed, at)).collect();
    to.write(&bytes)
}

fn hear(mut from: &TcpStream, seed: u8, length: usize) -> io::Result<()> {
    let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
    while at < length {
        let most = buffer.len().min(length - at);
        let n = match from.read(&mut buffer[..most]) {
            Ok(0) => return Err(io::Error::other(format!("it ended after {at} bytes of {length}"))),
            Ok(n) => n,
            Err(error) => return Err(io::Error::other(format!("after {at} bytes of {length}: {error}"))),
        };
        if let Some(wrong) = buffer[..n].iter().zip(at..).position(|(found, at)| *found != byte(seed, at)) {
            return Err(io::Error::other(format!("byte {} of {length} is wrong", at + wrong)));
        }
        at += n;
    }
    Ok(())
}

fn hear_end(mut from: &TcpStream) -> io::Result<()> {
    match from.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("there is more than was said")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both that run in the gateway's own process are held to all of it; the kernel's way is measured, not relied upon.
    #[test]
    fn what_copies_and_what_splices_keep_bytes_and_ends() {
        for mode in [Mode::Copy, Mode::Splice, Mode::Auto] {
            for (name, hazard) in HAZARDS {
                hazard(mode).unwrap_or_else(|error| panic!("{name}, {mode:?}: {error}"));
            }
        }
    }
}

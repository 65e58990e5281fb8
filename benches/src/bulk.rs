//! Bulk transfer over plain TCP: a server that is sink and source, and the clients of one measurement.
//!
//! A client's first byte says which way: [`DOWN`] asks for bytes without end, [`UP`] announces them. Bytes are counted
//! where they arrive.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::http;

/// First byte of a client that wants to receive.
const DOWN: u8 = b'D';
/// First byte of a client that will send.
const UP: u8 = b'U';
/// Large enough that the harness's own system calls are few beside those of the proxies.
const CHUNK: usize = 256 * 1024;
/// How often a blocked socket looks whether it should stop.
const POLL: Duration = Duration::from_millis(300);
/// More connections than any case opens, with what is still closing from the one before.
const MAX_CONNECTIONS: usize = 64;

/// Which way the bytes go, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the server.
    Down,
    /// To the server.
    Up,
}

/// What moved in the measured window.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// Bytes that arrived.
    pub bytes: u64,
    /// The window.
    pub seconds: f64,
    /// Streams that broke off.
    pub broken: u64,
}

/// The sink and source, in threads of this process.
#[derive(Debug)]
pub struct Server {
    port: u16,
    listener: TcpListener,
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address`, in the calling thread's network.
    pub fn start(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).map_err(Error::io(format!("listening on {address}")))?;
        let accepting = listener.try_clone().map_err(Error::io("duplicating a listener"))?;
        let received = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let acceptor = {
            let (received, stop) = (Arc::clone(&received), Arc::clone(&stop));
            thread::spawn(move || accept(&accepting, &received, &stop))
        };
        Ok(Self { port: address.port(), listener, received, stop, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the acceptor, in whichever network it is.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Accepts until told to stop, then waits for the connections' threads, which poll the same flag.
fn accept(listener: &TcpListener, received: &AtomicU64, stop: &AtomicBool) {
    let open = AtomicUsize::new(0);
    thread::scope(|scope| {
        for stream in listener.incoming() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let Ok(stream) = stream else { continue };
            if open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
                continue;
            }
            open.fetch_add(1, Ordering::Relaxed);
            let open = &open;
            scope.spawn(move || {
                // A client that leaves ends its connection with an error here: that is how every transfer ends.
                let _ = serve(stream, received, stop);
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

fn serve(mut stream: TcpStream, received: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(POLL))?;
    stream.set_write_timeout(Some(POLL))?;
    let mut way = [0];
    while !stop.load(Ordering::Relaxed) {
        match stream.read_exact(&mut way) {
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
            Ok(()) if way[0] == DOWN => return send(&mut stream, stop),
            Ok(()) => return receive(&mut stream, received, stop),
        }
    }
    Ok(())
}

fn send(stream: &mut TcpStream, stop: &AtomicBool) -> io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&chunk) {
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, received: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => _ = received.fetch_add(count as u64, Ordering::Relaxed),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// One measurement: who is called, how, for how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Where to connect to: a proxy, or the server itself.
    pub address: SocketAddr,
    /// Which way.
    pub direction: Direction,
    /// How many connections at once.
    pub streams: usize,
    /// Before the window opens: handshakes, windows and buffers grow.
    pub warm_up: Duration,
    /// The window.
    pub window: Duration,
}

impl Load {
    /// Runs it. `edge` is called as the window opens and as it closes (to read the proxies' CPU time).
    pub fn run(&self, server: &Server, interrupted: impl Fn() -> bool, mut edge: impl FnMut()) -> Result<Transfer> {
        let received_here = AtomicU64::new(0);
        let counter = if self.direction == Direction::Up { &*server.received } else { &received_here };
        let stop = AtomicBool::new(false);
        let broken = AtomicU64::new(0);
        let mut streams = Vec::new();
        for _ in 0..self.streams {
            streams.push(self.connect().map_err(Error::io(format!("bulk connection to {}", self.address)))?);
        }
        thread::scope(|scope| {
            for mut stream in streams {
                let (received_here, stop, broken) = (&received_here, &stop, &broken);
                scope.spawn(move || {
                    let ended = match self.direction {
                        Direction::Up => send(&mut stream, stop),
                        Direction::Down => receive(&mut stream, received_here, stop),
                    };
                    broken.fetch_add(u64::from(ended.is_err()), Ordering::Relaxed);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
            let transfer = self.watch(counter, &interrupted, &mut edge);
            stop.store(true, Ordering::Relaxed);
            transfer
        })
        .map(|(bytes, seconds)| Transfer { bytes, seconds, broken: broken.load(Ordering::Relaxed) })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut stream = http::connect(self.address)?;
        stream.set_read_timeout(Some(POLL))?;
        stream.set_write_timeout(Some(POLL))?;
        stream.write_all(&[if self.direction == Direction::Up { UP } else { DOWN }])?;
        Ok(stream)
    }

    fn watch(&self, count: &AtomicU64, interrupted: &dyn Fn() -> bool, edge: &mut dyn FnMut()) -> Result<(u64, f64)> {
        sleep(self.warm_up, interrupted)?;
        let opened = Instant::now();
        let before = count.load(Ordering::Relaxed);
        edge();
        sleep(self.window, interrupted)?;
        let bytes = count.load(Ordering::Relaxed) - before;
        let seconds = opened.elapsed().as_secs_f64();
        edge();
        Ok((bytes, seconds))
    }
}

/// Whether bytes come from `address`, now.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let mut stream = http::connect(address)?;
    stream.write_all(&[DOWN])?;
    stream.read_exact(&mut [0; 1024])
}

/// Sleeps in short pieces, so that an interruption is noticed.
pub fn sleep(duration: Duration, interrupted: &dyn Fn() -> bool) -> Result<()> {
    let until = Instant::now() + duration;
    loop {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::local;
    use crate::ports::Ports;

    #[test]
    fn bytes_move_and_are_counted_both_ways() {
        let server = Server::start(local(Ports::new(std::process::id()).take().unwrap())).unwrap();
        probe(local(server.port())).unwrap();
        for direction in [Direction::Down, Direction::Up] {
            let (warm_up, window) = (Duration::from_millis(20), Duration::from_millis(100));
            let load = Load { address: local(server.port()), direction, streams: 2, warm_up, window };
            let mut edges = 0;
            let transfer = load.run(&server, || false, || edges += 1).unwrap();
            assert!(transfer.bytes > 0 && transfer.seconds > 0.0 && transfer.broken == 0, "{transfer:?}");
            assert_eq!(edges, 2);
        }
    }

    #[test]
    fn an_interruption_ends_the_load() {
        let server = Server::start(local(Ports::new(std::process::id() + 1).take().unwrap())).unwrap();
        let hour = Duration::from_secs(3600);
        let load =
            Load { address: local(server.port()), direction: Direction::Up, streams: 1, warm_up: hour, window: hour };
        assert!(matches!(load.run(&server, || true, || ()), Err(Error::Interrupted)));
    }
}

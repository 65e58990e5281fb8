//! Clients and endpoints that say and hear messages of fixed sizes, as fast as the other side lets them.

use crate::relay::{Mode, Relay};
use rustix::event::epoll;
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A load.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    connections: usize,
    /// Bytes that a client says, and that it hears for them; 0: nothing, it goes on at once.
    says: usize,
    hears: usize,
}

/// All of them.
pub(crate) const CASES: [Case; 5] = [
    Case { name: "ping", connections: 1, says: 128, hears: 128 },
    Case { name: "ping64", connections: 64, says: 128, hears: 128 },
    Case { name: "page64", connections: 64, says: 128, hears: 16 << 10 },
    Case { name: "body8", connections: 8, says: 128, hears: 1 << 20 },
    Case { name: "bulk", connections: 1, says: 1 << 20, hears: 0 },
];

impl Case {
    /// What its rate counts.
    pub(crate) fn unit(&self) -> &'static str {
        if self.hears == 0 { "MiB" } else { "exchanges" }
    }

    /// What its CPU seconds are for.
    pub(crate) fn per(&self) -> &'static str {
        if self.hears == 0 { "GiB" } else { "100,000" }
    }

    /// How many messages that is.
    fn unit_messages(&self) -> f64 {
        if self.hears == 0 { 1024.0 } else { 100_000.0 }
    }
}

/// What came of a round.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Exchanges or MiB a second.
    pub(crate) rate: f64,
    /// How often [`Case::per`] was done.
    pub(crate) units: f64,
    /// CPU seconds of the machine for one of those.
    pub(crate) cpu: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Both ends of a new connection over loopback, the one that has connected first.
pub(crate) fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    Ok((client, server))
}

/// Runs it for so long.
pub(crate) fn run(case: &Case, mode: Mode, length: Duration) -> io::Result<Figures> {
    let (mut clients, mut endpoints, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..case.connections {
        let ((client, left), (right, endpoint)) = (connection()?, connection()?);
        clients.push(client);
        endpoints.push(endpoint);
        pairs.push((left, right));
    }
    let relay = Relay::start(mode, pairs)?;
    let stop = Arc::new(AtomicBool::new(false));
    let side = |says, hears, first| Arc::new(Side { says, hears, first, stop: stop.clone(), done: AtomicU64::new(0) });
    let (ask, answer) = (side(case.says, case.hears, true), side(case.hears, case.says, false));
    let sides = [(ask.clone(), clients), (answer.clone(), endpoints)];
    let threads = sides.map(|(side, sockets)| thread::spawn(move || side.run(&sockets)));
    let counter = if case.hears == 0 { &answer } else { &ask };
    let begun = Instant::now();
    let before = counter.done.load(Ordering::Relaxed);
    thread::sleep(length);
    let messages = (counter.done.load(Ordering::Relaxed) - before) as f64;
    let rate = messages / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let [times, heard] = threads.map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))));
    relay.stop()?;
    heard?;
    let mut times = times?;
    times.sort_unstable();
    let part = |of: usize| times.get(times.len() * of / 100).map_or(0.0, |nanos| f64::from(*nanos) / 1000.0);
    let (p50, p99) = if case.hears == 0 { (0.0, 0.0) } else { (part(50), part(99)) };
    Ok(Figures { rate, units: (messages / case.unit_messages()).max(f64::MIN_POSITIVE), cpu: 0.0, p50, p99 })
}

/// Times that are kept of a round.
const MOST_TIMES: usize = 4 << 20;

/// One side of all connections.
#[derive(Debug)]
struct Side {
    says: usize,
    hears: usize,
    /// Whether it speaks first.
    first: bool,
    done: AtomicU64,
    stop: Arc<AtomicBool>,
}

/// One connection of a side: what is left to say and to hear of this turn.
struct Talk<'a> {
    socket: &'a TcpStream,
    says: usize,
    hears: usize,
    since: Instant,
}

impl Side {
    fn run(&self, sockets: &[TcpStream]) -> io::Result<Vec<u32>> {
        let mut buffer = vec![0; 256 << 10];
        let mut times = Vec::new();
        let mut talks = Vec::new();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (at, socket) in sockets.iter().enumerate() {
            socket.set_nonblocking(true)?;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, socket, epoll::EventData::new_u64(at as u64), flags)?;
            let says = if self.first { self.says } else { 0 };
            talks.push(Talk { socket, says, hears: self.hears, since: Instant::now() });
        }
        let mut events = Vec::with_capacity(128);
        while !self.stop.load(Ordering::Relaxed) {
            events.clear();
            crate::relay::wait(&epoll, &mut events)?;
            for event in &events {
                let talk = usize::try_from(event.data.u64()).ok().and_then(|at| talks.get_mut(at));
                let Some(talk) = talk else { continue };
                self.turn(talk, &mut buffer, &mut times)?;
            }
        }
        Ok(times)
    }

    /// Says and hears until it would wait.
    fn turn(&self, talk: &mut Talk<'_>, buffer: &mut [u8], times: &mut Vec<u32>) -> io::Result<()> {
        let mut socket = talk.socket;
        while !self.stop.load(Ordering::Relaxed) {
            let moved = if talk.says > 0 {
                let most = talk.says.min(buffer.len());
                socket.write(&buffer[..most])
            } else {
                let most = talk.hears.min(buffer.len());
                socket.read(&mut buffer[..most])
            };
            match moved {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) if talk.says > 0 => talk.says -= n,
                Ok(n) => talk.hears -= n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if talk.says == 0 && talk.hears == 0 {
                self.done.fetch_add(1, Ordering::Relaxed);
                if self.first && times.len() < MOST_TIMES {
                    times.push(u32::try_from(talk.since.elapsed().as_nanos()).unwrap_or(u32::MAX));
                }
                (talk.says, talk.hears, talk.since) = (self.says, self.hears, Instant::now());
            }
        }
        Ok(())
    }
}

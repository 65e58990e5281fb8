//! What is between clients and endpoints, in one of several ways: a thread with epoll, as a core of the gateway is.

mod copy;
mod pipe;
mod verdict;

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
    net::{Shutdown, sockopt},
};
use std::{
    io,
    net::TcpStream,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Bytes of the buffer that all streams of a core share: as the gateway has it.
const SCRATCH: usize = 64 << 10;
/// Moves each way before the other way has its turn: as the gateway has it.
const ROUNDS: usize = 4;

/// How bytes get from one socket to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// recv(2) and send(2), with 64 KiB.
    Copy,
    /// splice(2) through a pipe for each way.
    Splice,
    /// As `copy` until a read has filled the buffer, as `splice` until one has brought little.
    Auto,
    /// In the kernel: a stream verdict redirects what comes to the other socket.
    Verdict,
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It waits for one of its sockets.
    Waits,
    /// There may be more at once.
    More,
    /// It looks again in a moment: nothing will tell it.
    Soon,
    /// Its end was passed on.
    Done,
}

/// One way of a stream.
trait Way {
    /// Moves what there is. `ends`: an end may lie behind it, which raises no edge any more.
    fn turn(&mut self, from: &TcpStream, to: &TcpStream, scratch: &mut [u8], ends: bool) -> io::Result<Turn>;
}

struct Pair {
    sockets: Option<(TcpStream, TcpStream)>,
    ways: [(Box<dyn Way>, Turn); 2],
    /// Whether one of the sockets has told of its end.
    ends: bool,
}

/// A running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Relay {
    /// Relays between the two of each pair.
    pub(crate) fn start(mode: Mode, pairs: Vec<(TcpStream, TcpStream)>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, (started, result)) = (stop.clone(), std::sync::mpsc::sync_channel(1));
        let thread = thread::Builder::new().name("relay".into()).spawn(move || {
            let set_up = set_up(mode, pairs);
            match set_up {
                Ok((epoll, mut pairs, _kernel)) => {
                    let _ = started.send(Ok(()));
                    serve(&epoll, &mut pairs, &stopped)
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                    Ok(())
                }
            }
        })?;
        result.recv().map_err(io::Error::other)??;
        Ok(Self { stop, thread })
    }

    /// Ends it, and all its connections.
    pub(crate) fn stop(self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the relay panicked")))
    }
}

type Made = (OwnedFd, Vec<Pair>, Option<verdict::Redirects>);

fn set_up(mode: Mode, sockets: Vec<(TcpStream, TcpStream)>) -> io::Result<Made> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let kernel = if mode == Mode::Verdict { Some(verdict::Redirects::new()?) } else { None };
    let mut pairs = Vec::new();
    for (left, right) in sockets {
        for (socket, side) in [(&left, 0), (&right, 1)] {
            socket.set_nonblocking(true)?;
            let flags =
                epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
            epoll::add(&epoll, socket, epoll::EventData::new_u64(pairs.len() as u64 * 2 + side), flags)?;
        }
        let way = |from: &TcpStream, to: &TcpStream| -> io::Result<(Box<dyn Way>, Turn)> {
            let way: Box<dyn Way> = match mode {
                Mode::Copy => Box::new(copy::Copy::default()),
                Mode::Splice => Box::new(pipe::Pipe::new()?),
                Mode::Auto => Box::new(pipe::Auto::default()),
                Mode::Verdict => Box::new(verdict::Verdict::new(from, to)?),
            };
            Ok((way, Turn::Waits))
        };
        let ways = [way(&left, &right)?, way(&right, &left)?];
        if let Some(kernel) = &kernel {
            kernel.join(&left, &right)?;
        }
        pairs.push(Pair { sockets: Some((left, right)), ways, ends: false });
    }
    Ok((epoll, pairs, kernel))
}

fn serve(epoll: &OwnedFd, pairs: &mut [Pair], stop: &AtomicBool) -> io::Result<()> {
    let mut scratch = vec![0; SCRATCH];
    let mut events = Vec::with_capacity(128);
    while !stop.load(Ordering::Relaxed) {
        events.clear();
        wait_for(epoll, &mut events, if pairs.iter().any(Pair::looks_again) { SOON } else { AT_MOST })?;
        let seen = events.iter().map(|event| {
            let (at, flags) = (event.data.u64() as usize / 2, event.flags);
            let ends = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            if let Some(pair) = pairs.get_mut(at) {
                pair.ends |= flags.intersects(ends);
            }
            at
        });
        let mut due: Vec<usize> = seen.collect();
        let soon = (0..pairs.len()).filter(|&at| pairs[at].looks_again());
        due.extend(soon);
        due.dedup();
        for at in due {
            if let Some(pair) = pairs.get_mut(at) {
                pair.serve(&mut scratch, stop);
            }
        }
    }
    Ok(())
}

impl Pair {
    fn looks_again(&self) -> bool {
        self.sockets.is_some() && self.ways.iter().any(|(_, turn)| *turn == Turn::Soon)
    }

    /// Moves until both ways wait. A failure of one socket becomes a reset of both.
    fn serve(&mut self, scratch: &mut [u8], stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed)
            && let Some((left, right)) = &self.sockets
        {
            let mut failed = false;
            for (at, (from, to)) in [(left, right), (right, left)].into_iter().enumerate() {
                let (way, turn) = &mut self.ways[at];
                if *turn != Turn::Done {
                    match way.turn(from, to, scratch, self.ends) {
                        Ok(now) => *turn = now,
                        Err(_) => failed = true,
                    }
                }
            }
            if failed {
                for socket in [left, right] {
                    // It is gone already, or it becomes a reset.
                    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
                }
            }
            if failed || self.ways.iter().all(|(_, turn)| *turn == Turn::Done) {
                self.sockets = None;
            } else if !self.ways.iter().any(|(_, turn)| *turn == Turn::More) {
                return;
            }
        }
    }
}

/// Passes the end of a way on.
fn finish(to: &TcpStream) -> Turn {
    // If it has failed, the other way sees that.
    let _ = rustix::net::shutdown(to, Shutdown::Write);
    Turn::Done
}

/// So long at most, or whoever is to stop would not see it.
const AT_MOST: Duration = Duration::from_millis(50);
const SOON: Duration = Duration::from_millis(1);

/// Waits for events, for [`AT_MOST`].
pub(crate) fn wait(epoll: &OwnedFd, events: &mut Vec<epoll::Event>) -> io::Result<()> {
    wait_for(epoll, events, AT_MOST)
}

fn wait_for(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, limit: Duration) -> io::Result<()> {
    let limit = Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() };
    match epoll::wait(epoll, spare_capacity(events), Some(&limit)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

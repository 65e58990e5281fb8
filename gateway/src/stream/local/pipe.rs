//! Bulk between two local sockets, by splice(2) through a pipe: its bytes never come up from the kernel.

use crate::{metrics::CoreMetrics, socket::Socket};
use rustix::{
    io::Errno,
    net::RecvFlags,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll},
};

/// Pipes of a core at once, of two descriptors each. Whatever is beyond is copied.
pub const MOST: u64 = 64;
/// So many may be kept by streams that have nothing to move: the others are for those that have. Streams whose reader has stopped keep theirs,
/// and what is in them.
const IDLE: u64 = 48;
/// Bytes that a pipe may hold. The kernel counts in pages, each of which may hold less than it could.
const SIZE: usize = 256 << 10;
/// A read of so many bytes begins it: all that a core reads at once.
pub(super) const MUCH: usize = 64 << 10;
/// Fewer bytes at once are better copied.
const LITTLE: usize = 16 << 10;
/// A pipe that has moved less than this in all was not worth its making.
const WORTH: u64 = 64 << 10;

/// Why there is no pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPipe {
    /// The core has as many as it may, or a socket is in the local hop, which bulk is taken out of: both are asked for little.
    Now,
    /// The kernel gives none: it is not asked again for this way.
    Ever,
}

/// One way's pipe, counted among those of its core.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes in it.
    holds: usize,
    /// Bytes of the last move into it.
    last: usize,
    /// Bytes of all of them.
    moved: u64,
    counters: Arc<CoreMetrics>,
}

impl Pipe {
    /// One from `from` to `to`. Bytes of sockets in the local hop may not be taken past them.
    ///
    /// # Errors
    /// Why there is none. None of it is worth a failure of the stream.
    pub(super) fn between(counters: &Arc<CoreMetrics>, from: &Socket, to: &Socket) -> Result<Self, NoPipe> {
        if from.is_in_local_hop() || to.is_in_local_hop() || counters.splice_pipes.get() >= MOST {
            return Err(NoPipe::Now);
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|_| NoPipe::Ever)?;
        // Who has used up what all processes of a user may have is given pipes of two pages, which are worse than copying.
        fcntl_setpipe_size(&write, SIZE).map_err(|_| NoPipe::Ever)?;
        counters.splice_pipes.set(counters.splice_pipes.get() + 1);
        Ok(Self { read, write, holds: 0, last: SIZE, moved: 0, counters: counters.clone() })
    }

    /// Fills the empty pipe from a socket. What does not go that way is read into `room`: an end, what lies at an urgent mark, at which
    /// splice(2) stops for good with 0 or EAGAIN, and what another program has redirected to the socket, which it does not see. So only
    /// recv(2) tells of an end, and of a socket that has nothing. How many bytes, wherever they are.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>, room: &mut [u8]) -> Result<usize, Errno> {
        // As the pipe is empty, it is never the pipe that would wait.
        match splice(from, None, &self.write, None, SIZE, FLAGS) {
            Ok(0) | Err(Errno::AGAIN) => {
                let n = rustix::net::recv(from, room, RecvFlags::empty())?.0;
                self.last = n;
                Ok(n)
            }
            Ok(n) => {
                (self.holds, self.last) = (n, n);
                self.moved += n as u64;
                self.counters.spliced_bytes.add(n as u64);
                Ok(n)
            }
            Err(error) => Err(error),
        }
    }

    /// Empties it into a socket.
    pub(super) fn poll_empty(&mut self, cx: &mut Context<'_>, to: &Socket) -> Poll<io::Result<()>> {
        while self.holds > 0 {
            let Self { read, holds, .. } = self;
            // SIGPIPE, of a socket that was reset, is ignored in this process.
            let Poll::Ready(sent) = to.poll_write_with(cx, |fd| splice(&*read, None, fd, None, *holds, FLAGS)) else {
                return Poll::Pending;
            };
            self.holds -= sent?;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.holds == 0
    }

    /// Whether its last move was worth it.
    pub(super) fn is_worth(&self) -> bool {
        self.last >= LITTLE
    }

    /// Whether all that it has moved was worth its making.
    pub(super) fn was_worth(&self) -> bool {
        self.moved >= WORTH
    }

    /// Whether a stream that waits is to give it back.
    pub(super) fn is_wanted(&self) -> bool {
        self.counters.splice_pipes.get() > IDLE
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Drop for Pipe {
    fn drop(&mut self) {
        self.counters.splice_pipes.set(self.counters.splice_pipes.get().saturating_sub(1));
    }
}

//! Bulk between two local sockets, by splice(2) through a pipe: its bytes never come up from the kernel.

use crate::{metrics::CoreMetrics, socket::Socket};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::{
    io,
    os::fd::OwnedFd,
    sync::Arc,
    task::{Context, Poll},
};

/// Pipes of a core at once, of two descriptors each. Whatever is beyond is copied.
pub(super) const MOST: u64 = 64;
/// Bytes that a pipe may hold. The kernel counts in pages, each of which may hold less than it could.
const SIZE: usize = 256 << 10;
/// A read of so many bytes begins it: all that a core reads at once.
pub(super) const MUCH: usize = 64 << 10;
/// Fewer bytes at once are better copied.
const LITTLE: usize = 16 << 10;

/// One way's pipe, counted among those of its core.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes in it.
    holds: usize,
    /// Bytes of the last move into it.
    last: usize,
    counters: Arc<CoreMetrics>,
}

impl Pipe {
    /// One from `from` to `to`, if there is room for one more, and if bytes may be taken past these sockets: those in the local hop may
    /// not be spliced from, and none of it is worth a failure.
    pub(super) fn between(counters: &Arc<CoreMetrics>, from: &Socket, to: &Socket) -> Option<Self> {
        if counters.splice_pipes.get() >= MOST || from.is_in_local_hop() || to.is_in_local_hop() {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Who has many of them, and no rights, is given smaller ones.
        let _ = fcntl_setpipe_size(&write, SIZE);
        counters.splice_pipes.set(counters.splice_pipes.get() + 1);
        Some(Self { read, write, holds: 0, last: SIZE, counters: counters.clone() })
    }

    /// Fills the empty pipe from a socket: how many bytes; 0 is the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, from: &Socket) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.holds, 0);
        // A pipe that is full says nothing of what the socket has, so no read counts as short. As it is empty before, it is the socket
        // that would wait.
        let filled = from.poll_read_with(cx, |fd| Ok((splice(fd, None, &self.write, None, SIZE, FLAGS)?, false)));
        filled.map_ok(|n| {
            (self.holds, self.last) = (n, n);
            self.counters.spliced_bytes.add(n as u64);
            n
        })
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
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Drop for Pipe {
    fn drop(&mut self) {
        self.counters.splice_pipes.set(self.counters.splice_pipes.get().saturating_sub(1));
    }
}

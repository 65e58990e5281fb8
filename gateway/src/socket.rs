//! Local sockets: non-blocking, with readiness from the core's reactor. Every socket option is set here.

use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{Interest, unix::AsyncFd};

/// A connected stream socket (TCP, or a Unix pair for the exchange) on this core's reactor.
#[derive(Debug)]
pub struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    /// Takes a non-blocking stream socket into this core's reactor.
    ///
    /// # Errors
    /// The reactor cannot take it (out of memory or descriptors).
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: the AsyncFd owns the descriptor, so it stays open, and the same, as long as it is registered.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE | Interest::WRITABLE) };
        Ok(Self(fd?))
    }

    /// Reads once; 0 is the end.
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            match rustix::net::recv(&self.0, &mut *buf, RecvFlags::empty()) {
                Ok((n, _)) => {
                    // A short read has emptied the socket: the next bytes raise a new edge, so the next call need not ask.
                    if 0 < n && n < buf.len() {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    /// Writes once.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL) {
                Ok(n) => return Poll::Ready(Ok(n)),
                Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    /// Writes what fits now, without waiting and without noting interest; 0 if nothing fits or the socket failed (the next
    /// [`Self::poll_send`] says which).
    pub fn try_send(&self, bytes: &[u8]) -> usize {
        rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL).unwrap_or(0)
    }

    /// Ends the writing side (FIN).
    pub fn finish(&self) {
        // The peer may have reset it already, which the next read reports.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
    }

    /// Makes the coming close a reset (RST).
    pub fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(self.0.as_fd(), Some(Duration::ZERO));
    }
}

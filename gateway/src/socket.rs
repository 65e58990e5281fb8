//! Local sockets: non-blocking, with readiness from the core's reactor. Every socket option is set here.

use rustix::{
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt},
};
use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
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
        let length = buf.len();
        self.poll_read_with(cx, length, |fd| Ok(rustix::net::recv(fd, &mut *buf, RecvFlags::empty())?.0))
    }

    /// Reads once by `read`, which asks for `want` bytes.
    pub fn poll_read_with(
        &self,
        cx: &mut Context<'_>,
        want: usize,
        mut read: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            match read(self.0.as_fd()) {
                Ok(n) => {
                    // A short read has emptied the socket: the next bytes raise a new edge, so the next call need not ask.
                    if 0 < n && n < want {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
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
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    /// Writes what fits now, without waiting and without noting interest; 0 if nothing fits or the socket failed (the next
    /// [`Self::poll_send`] says which).
    pub fn try_send(&self, bytes: &[u8]) -> usize {
        rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL).unwrap_or(0)
    }

    /// As [`Self::try_send`], for bytes that lie apart.
    pub fn try_send_vectored(&self, slices: &[IoSlice<'_>]) -> usize {
        let mut none = SendAncillaryBuffer::default();
        rustix::net::sendmsg(&self.0, slices, &mut none, SendFlags::NOSIGNAL).unwrap_or(0)
    }

    /// Reads what is there now, without waiting and without noting interest; `None` if nothing is.
    ///
    /// # Errors
    /// The socket failed.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::net::recv(&self.0, buf, RecvFlags::empty()) {
            Ok((n, _)) => Ok(Some(n)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Waits until a connection under way is made, or has failed.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn connected(&self) -> io::Result<()> {
        let _ = self.0.writable().await?;
        sockopt::socket_error(self.0.as_fd())??;
        Ok(())
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

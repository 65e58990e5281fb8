//! A byte stream that flushes once for all frames that are ready, and notes what passes.
//!
//! `h2` flushes after every larger frame, which would make a TLS record and a system call of each. Here its flushes do nothing: the
//! driver flushes when the connection has nothing more to write.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What `h2` reads from and writes to.
#[derive(Debug)]
pub(super) struct Gathered<IO>(Rc<Shared<IO>>);

/// The driver's end of it.
#[derive(Debug)]
pub(super) struct Flusher<IO>(Rc<Shared<IO>>);

#[derive(Debug)]
struct Shared<IO> {
    io: RefCell<IO>,
    /// Written since the last flush.
    written: Cell<bool>,
    /// Read since the driver last asked.
    read: Cell<bool>,
}

/// Wraps `io`.
pub(super) fn gather<IO>(io: IO) -> (Gathered<IO>, Flusher<IO>) {
    let shared = Rc::new(Shared { io: RefCell::new(io), written: Cell::default(), read: Cell::default() });
    (Gathered(shared.clone()), Flusher(shared))
}

impl<IO: AsyncWrite + Unpin> Flusher<IO> {
    /// Flushes what was written, if anything was.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.0.written.get() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut *self.0.io.borrow_mut()).poll_flush(cx);
        self.0.written.set(flushed.is_pending());
        flushed
    }

    /// Ends the writing side, and reads to the end of what the peer sends, for nothing: a socket that is closed with something unread
    /// in it is reset, and what was written last may be lost with it.
    pub(super) async fn linger(&self)
    where
        IO: AsyncRead,
    {
        if poll_fn(|cx| Pin::new(&mut *self.0.io.borrow_mut()).poll_shutdown(cx)).await.is_err() {
            return;
        }
        let mut discarded = [0; 4096];
        let mut read = |cx: &mut Context<'_>| {
            let mut room = ReadBuf::new(&mut discarded);
            let polled = Pin::new(&mut *self.0.io.borrow_mut()).poll_read(cx, &mut room);
            polled.map(|read| read.is_ok() && !room.filled().is_empty())
        };
        while poll_fn(&mut read).await {}
    }

    /// Whether anything came in since this was last asked.
    pub(super) fn take_read(&self) -> bool {
        self.0.read.take()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gathered<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut *self.0.io.borrow_mut()).poll_read(cx, buf);
        if polled.is_ready() {
            self.0.read.set(true);
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gathered<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.written.set(true);
        Pin::new(&mut *self.0.io.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.written.set(true);
        Pin::new(&mut *self.0.io.borrow_mut()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.io.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.io.borrow_mut()).poll_shutdown(cx)
    }
}

//! A flow's end at its endpoint.

use super::{Delivery, End, ROUNDS};
use crate::{
    flow::{
        Ended,
        queue::{PATIENCE, Queue, Together},
    },
    metrics::reasons::Dropped,
    upstream::Connected,
};
use bytes::Bytes;
use std::{
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

/// See the module.
pub(crate) struct EndpointEnd {
    pub(crate) connected: Connected,
    /// The balancer knows that it has said something.
    heard: bool,
    /// What it has said while the tunnel took nothing.
    held: Queue,
    refused: Pin<Box<dyn Future<Output = io::Error>>>,
}

impl EndpointEnd {
    /// The end at `connected`; what waits there waits with others' `together`.
    pub(crate) fn new(connected: Connected, together: &Rc<Together>) -> Self {
        let socket = connected.socket.clone();
        let mut held = Queue::new(together);
        held.set_patience(Some(PATIENCE));
        Self { connected, heard: false, held, refused: Box::pin(async move { socket.refused().await }) }
    }

    /// Waits for a word from the endpoint, which is not taken yet.
    ///
    /// # Errors
    /// The word is that nobody is there.
    pub(crate) fn poll_word(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(error) = self.refused.as_mut().poll(cx) {
            return Poll::Ready(Err(error));
        }
        self.connected.socket.poll_readable(cx)
    }
}

impl EndpointEnd {
    fn poll_read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Result<Bytes, Ended>> {
        let read = match self.connected.socket.poll_recv_datagram(cx, scratch) {
            Poll::Pending => Err(ready!(self.refused.as_mut().poll(cx))),
            Poll::Ready(read) => read,
        };
        if read.is_ok() && !std::mem::replace(&mut self.heard, true) {
            self.connected.heard();
        }
        Poll::Ready(read.map(|n| Bytes::copy_from_slice(&scratch[..n])).map_err(Ended::Endpoint))
    }
}

impl End for EndpointEnd {
    fn poll_next(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Result<Bytes, Ended>> {
        match self.held.pop(Instant::now()) {
            Some(datagram) => Poll::Ready(Ok(datagram)),
            None => self.poll_read(cx, scratch),
        }
    }

    fn hold(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Result<(), Ended> {
        for _ in 0..ROUNDS {
            match self.poll_read(cx, scratch) {
                Poll::Ready(datagram) => self.held.push(datagram?, Instant::now()),
                Poll::Pending => return Ok(()),
            }
        }
        // There may be more, after the other tasks' turn.
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn abandon(&mut self) -> u64 {
        self.held.clear() as u64
    }

    fn take_dropped(&mut self) -> u64 {
        self.held.take_dropped()
    }

    fn poll_deliver(&mut self, _: &mut Context<'_>, datagram: &Bytes) -> Poll<Result<Delivery, Ended>> {
        Poll::Ready(match self.connected.socket.send_datagram(datagram) {
            Ok(()) => Ok(Delivery::Done),
            Err(error) => dropped(&error).map(Delivery::Dropped).ok_or(Ended::Endpoint(error)),
        })
    }
}

/// Why one datagram was not sent, where that says nothing of the next.
pub(super) fn dropped(error: &io::Error) -> Option<Dropped> {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => Some(Dropped::TooLarge),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EPERM) => Some(Dropped::Unsent),
        _ => None,
    }
}

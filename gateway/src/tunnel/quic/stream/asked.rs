//! Streams that this side asks for, and what becomes of one that is reset before the peer has answered.
//!
//! RESET_STREAM lets go of all that the stream had to say before it, OPEN included, here where that has not left and at the peer
//! where that has not been read: the endpoint would hear nothing. So the tunnel keeps such a stream until its answer is there.

use super::QuicStream;
use crate::{
    socket::Socket,
    tunnel::{DatagramError, Refusal, RefusalReason, StreamError, TunnelStream, quic::refusal},
};
use bytes::Bytes;
use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// How long the peer may take to answer: longer than who waits for it has patience.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream that this side asks for; `None` once it is reset and left to the tunnel.
pub(in crate::tunnel::quic) struct Asked(Option<QuicStream>);

impl Asked {
    pub(in crate::tunnel::quic) fn new(stream: QuicStream) -> Self {
        Self(Some(stream))
    }

    fn live(&mut self) -> Result<&mut QuicStream, StreamError> {
        self.0.as_mut().ok_or(StreamError::Reset)
    }
}

/// Waits for the peer's answer to a stream that is to be reset, and resets it.
pub(in crate::tunnel::quic) async fn reset_answered(mut stream: Box<QuicStream>) {
    // Whatever was answered, or not: dropping the stream resets it.
    let _ = tokio::time::timeout(ANSWER_TIMEOUT, poll_fn(|cx| stream.poll_opened(cx))).await;
}

impl TunnelStream for Asked {
    fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        match &mut self.0 {
            Some(stream) => stream.poll_opened(cx),
            None => Poll::Ready(Err(refusal(RefusalReason::NoEndpoint, "it was reset before the peer answered"))),
        }
    }

    fn accept(&mut self) {
        // The peer accepts it.
    }

    fn refuse(&mut self, _: &Refusal) {
        self.reset();
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        self.live()?.poll_write(cx, bytes)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        self.live()?.poll_send(cx, socket)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        self.live()?.poll_receive(cx, socket)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamError>> {
        self.live()?.poll_read(cx, room)
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match &mut self.0 {
            Some(stream) => stream.poll_failed(cx),
            None => Poll::Ready(StreamError::Reset),
        }
    }

    fn take_datagrams(&mut self) {
        if let Some(stream) = &mut self.0 {
            stream.take_datagrams();
        }
    }

    fn poll_send_datagram(&mut self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<Result<(), DatagramError>> {
        match &mut self.0 {
            Some(stream) => stream.poll_send_datagram(cx, datagram),
            None => Poll::Ready(Err(DatagramError::TunnelLost)),
        }
    }

    fn poll_receive_datagram(&mut self, cx: &mut Context<'_>) -> Poll<(Bytes, u64)> {
        self.0.as_mut().map_or(Poll::Pending, |stream| stream.poll_receive_datagram(cx))
    }

    fn finish(&mut self) {
        if let Some(stream) = &mut self.0 {
            stream.finish();
        }
    }

    fn reset(&mut self) {
        if let Some(stream) = self.0.take_if(|stream| stream.is_unanswered()) {
            let tunnel = stream.shared.clone();
            // Where the tunnel has ended, or cannot keep it, the stream is dropped, which resets it.
            let _ = tunnel.forsaken.try_send(Box::new(stream));
        } else if let Some(stream) = &mut self.0 {
            stream.reset();
        }
    }

    fn first_byte(&self) -> Option<Instant> {
        self.0.as_ref().and_then(QuicStream::first_byte)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // What has been answered sees to its end by itself.
        if self.0.as_ref().is_some_and(QuicStream::is_unanswered) {
            self.reset();
        }
    }
}

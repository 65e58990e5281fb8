//! Bytes from the peer into the local socket.

use super::{QuicStream, RUN};
use crate::{
    busy,
    socket::Socket,
    tunnel::{StreamError, mux::ProtocolError},
};
use bytes::Bytes;
use quinn::ReadError;
use std::{
    io::IoSlice,
    pin::pin,
    task::{Context, Poll, ready},
    time::Instant,
};

impl QuicStream {
    /// Takes everything that came in off the connection, whether or not the local socket, where there is one, takes it: credit
    /// bounds it.
    pub(super) fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
        socket: Option<&Socket>,
        moved: &mut usize,
    ) -> Result<(), StreamError> {
        while !self.ended {
            let mut parts: [Bytes; RUN] = Default::default();
            let read = pin!(self.receive.read_chunks(&mut parts)).poll(cx);
            match read {
                Poll::Pending => break,
                Poll::Ready(Ok(None)) => self.ended = true,
                Poll::Ready(Ok(Some(n))) => self.take(&parts[..n], socket, moved)?,
                Poll::Ready(Err(e)) => {
                    // quinn tells it once: asked again, it would say that the stream has ended.
                    self.over = true;
                    return Err(read_failed(&e));
                }
            }
        }
        Ok(())
    }

    /// Writes what came in to the local socket, as far as that takes it, and keeps the rest.
    fn take(&mut self, parts: &[Bytes], socket: Option<&Socket>, moved: &mut usize) -> Result<(), StreamError> {
        let length = parts.iter().map(Bytes::len).sum();
        if !self.window.receive(length) {
            self.shared.broke(ProtocolError::CreditExceeded(self.id));
            return Err(StreamError::TunnelLost);
        }
        self.shared.received.set(true);
        self.first_byte.get_or_insert_with(Instant::now);
        let mut taken = 0;
        if let Some(socket) = socket.filter(|_| self.waiting.is_empty()) {
            let mut slices = [IoSlice::new(&[]); RUN];
            for (slice, part) in slices.iter_mut().zip(parts) {
                *slice = IoSlice::new(part);
            }
            taken = socket.try_send_vectored(&slices[..parts.len()]);
            *moved += taken;
        }
        // Copies: a part would hold the whole buffer that its datagram came in.
        self.waiting.extend_past(taken, parts);
        Ok(())
    }

    /// Writes what waits to the local socket; `Pending` if that does not take all.
    pub(super) fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        moved: &mut usize,
    ) -> Poll<Result<(), StreamError>> {
        while !self.waiting.is_empty() {
            let n = ready!(socket.poll_send(cx, self.waiting.first()))?;
            self.waiting.take(n);
            *moved += n;
        }
        Poll::Ready(Ok(()))
    }

    /// Moves what came in into `room`.
    pub(super) fn poll_into(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamError>> {
        self.poll_incoming(cx, None, &mut 0)?;
        let n = self.waiting.read(room);
        if n > 0 {
            self.consumed(n);
            return Poll::Ready(Ok(n));
        }
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        Poll::Pending
    }

    /// Lets the peer send as much again as has left our buffers.
    pub(super) fn consumed(&mut self, bytes: usize) {
        let (shared, now) = (&self.shared, Instant::now());
        // quinn's own task drives the connection: only here, and where bytes are sent, is it known that there was work.
        busy::worked(now);
        let rtt = shared.rtt.get().unwrap_or_default();
        let before = self.window.size();
        let credit = self.window.consume(bytes, now, rtt, &shared.config.budget);
        shared.resized(before, self.window.size());
        if credit > 0 && !self.ended {
            shared.give_credit(self.id, credit);
        }
    }
}

fn read_failed(e: &ReadError) -> StreamError {
    if matches!(e, ReadError::ConnectionLost(_)) { StreamError::TunnelLost } else { StreamError::Reset }
}

//! One stream's handle, as its own task uses it.

use super::MuxTunnel;
use crate::{
    socket::Socket,
    tunnel::{Refusal, RefusalReason, StreamError, Tunnel, TunnelHealth, TunnelStream, open, waiting::Waiting},
};
use std::{
    io::IoSlice,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

/// Bytes that wait in the outgoing buffer before streams have to wait for room: about as much as goes out in one go.
const OUT_LIMIT: usize = 128 * 1024;
/// Bytes read from a local socket at once, at first and at the most.
const READ_FIRST: usize = 16 * 1024;
/// See [`READ_FIRST`].
const READ_MOST: usize = 128 * 1024;

/// What the tunnel keeps for a stream.
#[derive(Debug, Default)]
pub(super) struct StreamState {
    waiting: Waiting,
    /// Where bytes go as they come in, once the stream's task has asked for them.
    socket: Option<Rc<Socket>>,
    /// Bytes that went there since the task last asked.
    delivered: usize,
    first_byte: Option<Instant>,
    answer: Option<Result<(), Refusal>>,
    waker: Option<Waker>,
    /// It is in the line of those that wait for room in the outgoing buffer.
    in_line: bool,
    /// It was told of room there, and has not had any since.
    was_called: bool,
}

impl StreamState {
    /// Takes bytes that came in: how many of them the local socket took at once.
    pub(super) fn deliver(&mut self, parts: &[&[u8]], now: Instant) -> usize {
        self.first_byte.get_or_insert(now);
        let mut sent = 0;
        if let Some(socket) = self.socket.as_ref().filter(|_| self.waiting.is_empty()) {
            sent = match parts {
                [one] => socket.try_send(one),
                many => {
                    let mut slices = [IoSlice::new(&[]); super::pump::RUN];
                    for (slice, part) in slices.iter_mut().zip(many) {
                        *slice = IoSlice::new(part);
                    }
                    socket.try_send_vectored(&slices[..many.len()])
                }
            };
            self.delivered += sent;
        }
        self.waiting.extend_past(sent, parts);
        if !self.waiting.is_empty() {
            self.wake();
        }
        sent
    }

    pub(super) fn answered(&mut self, answer: Result<(), Refusal>) {
        self.answer = Some(answer);
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// There is room in the outgoing buffer.
    pub(super) fn has_room(&mut self) {
        self.in_line = false;
        self.was_called = true;
        self.wake();
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

/// A stream of a [`MuxTunnel`].
#[derive(Debug)]
pub(super) struct MuxStream {
    tunnel: MuxTunnel,
    id: u32,
    read: usize,
    /// Bytes that come in wait to be asked for.
    held: bool,
}

impl MuxStream {
    pub(super) fn new(tunnel: MuxTunnel, id: u32) -> Self {
        Self { tunnel, id, read: READ_FIRST, held: false }
    }

    /// Why the stream cannot go on.
    fn ended(&self) -> StreamError {
        if self.tunnel.health() == TunnelHealth::Closed { StreamError::TunnelLost } else { StreamError::Reset }
    }

    /// How many bytes may be sent now. Keeps the waker if none may.
    fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<usize, StreamError>> {
        let mut mux = self.tunnel.0.mux.borrow_mut();
        let Some(credit) = mux.sendable(self.id) else { return Poll::Ready(Err(self.ended())) };
        let full = mux.out().len() >= OUT_LIMIT;
        if let Some(state) = mux.user(self.id) {
            state.wait(cx);
            if credit > 0 && full && !std::mem::replace(&mut state.in_line, true) {
                self.tunnel.0.waiting_for_room.borrow_mut().join(self.id, state.was_called);
            }
            state.was_called &= full;
        }
        if credit == 0 || full { Poll::Pending } else { Poll::Ready(Ok(credit)) }
    }
}

impl TunnelStream for MuxStream {
    fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let mut mux = self.tunnel.0.mux.borrow_mut();
        let over = mux.sendable(self.id).is_none();
        if let Some(state) = mux.user(self.id) {
            if let Some(answer) = state.answer.clone() {
                return Poll::Ready(answer);
            }
            if !over {
                state.wait(cx);
                return Poll::Pending;
            }
        }
        let message = "the tunnel ended before the peer answered".into();
        Poll::Ready(Err(Refusal { reason: RefusalReason::TunnelLost, message, retry: true }))
    }

    fn accept(&mut self) {
        self.tunnel.0.mux.borrow_mut().answer(self.id, 0, false, "");
        self.tunnel.wake_driver();
    }

    fn refuse(&mut self, refusal: &Refusal) {
        let status = open::status_of(refusal.reason);
        self.tunnel.0.mux.borrow_mut().answer(self.id, status, refusal.retry, &refusal.message);
        self.tunnel.wake_driver();
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        std::task::ready!(self.poll_room(cx))?;
        let sent = self.tunnel.0.mux.borrow_mut().send(self.id, bytes);
        self.tunnel.wake_driver();
        Poll::Ready(Ok(sent))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        let want = std::task::ready!(self.poll_room(cx))?.min(self.read);
        let mux = &self.tunnel.0.mux;
        let read = socket.poll_read_with(cx, |fd| {
            let mut room = 0;
            let read = mux.borrow_mut().send_from(self.id, want, |slices| {
                room = slices.iter().map(|slice| slice.len()).sum();
                match slices {
                    [one] => Ok(rustix::net::recv(fd, &mut **one, rustix::net::RecvFlags::empty())?.0),
                    many => rustix::io::readv(fd, many),
                }
            });
            read.map(|n| (n, n < room))
        });
        let read = std::task::ready!(read)?;
        if read > 0 {
            // Bulk is read in larger pieces, small messages in small ones.
            self.read = if read > self.read / 2 { (self.read * 2).min(READ_MOST) } else { self.read.max(READ_FIRST) };
            self.tunnel.wake_driver();
        }
        Poll::Ready(Ok(read))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        let mut mux = self.tunnel.0.mux.borrow_mut();
        if mux.sendable(self.id).is_none() {
            return Poll::Ready(Err(self.ended()));
        }
        let (finished, rtt) = (mux.is_finished(self.id), self.tunnel.0.rtt.get().unwrap_or_default());
        let Some(state) = mux.user(self.id) else { return Poll::Ready(Err(self.ended())) };
        if !self.held {
            state.socket.get_or_insert_with(|| socket.clone());
        }
        let (mut sent, mut blocked) = (0, false);
        while !state.waiting.is_empty() {
            let Poll::Ready(n) = socket.poll_send(cx, state.waiting.first()) else {
                blocked = true;
                break;
            };
            let n = n?;
            state.waiting.take(n);
            sent += n;
        }
        let delivered = std::mem::take(&mut state.delivered) + sent;
        state.wait(cx);
        if sent > 0 {
            mux.consumed(self.id, sent, self.tunnel.0.now.get(), rtt);
            drop(mux);
            self.tunnel.wake_driver();
        }
        match delivered {
            0 if finished && !blocked => Poll::Ready(Ok(0)),
            0 => Poll::Pending,
            n => Poll::Ready(Ok(n)),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamError>> {
        let mut mux = self.tunnel.0.mux.borrow_mut();
        if mux.sendable(self.id).is_none() {
            return Poll::Ready(Err(self.ended()));
        }
        let (finished, rtt) = (mux.is_finished(self.id), self.tunnel.0.rtt.get().unwrap_or_default());
        let Some(state) = mux.user(self.id) else { return Poll::Ready(Err(self.ended())) };
        let n = state.waiting.read(room);
        state.wait(cx);
        if n > 0 {
            mux.consumed(self.id, n, self.tunnel.0.now.get(), rtt);
            drop(mux);
            self.tunnel.wake_driver();
        }
        if n > 0 || finished { Poll::Ready(Ok(n)) } else { Poll::Pending }
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut mux = self.tunnel.0.mux.borrow_mut();
        if mux.sendable(self.id).is_none() {
            return Poll::Ready(self.ended());
        }
        match mux.user(self.id) {
            Some(state) => state.wait(cx),
            None => return Poll::Ready(self.ended()),
        }
        Poll::Pending
    }

    fn hold(&mut self) {
        self.held = true;
        if let Some(state) = self.tunnel.0.mux.borrow_mut().user(self.id) {
            state.socket = None;
        }
    }

    fn finish(&mut self) {
        self.tunnel.0.mux.borrow_mut().finish(self.id);
        self.tunnel.wake_driver();
    }

    fn reset(&mut self) {
        let mut mux = self.tunnel.0.mux.borrow_mut();
        if mux.user(self.id).is_some_and(|state| state.in_line) {
            self.tunnel.0.waiting_for_room.borrow_mut().leave(self.id);
        }
        mux.forget(self.id);
        drop(mux);
        self.tunnel.wake_driver();
    }

    fn first_byte(&self) -> Option<Instant> {
        self.tunnel.0.mux.borrow_mut().user(self.id).and_then(|state| state.first_byte)
    }
}

impl Drop for MuxStream {
    fn drop(&mut self) {
        self.reset();
    }
}

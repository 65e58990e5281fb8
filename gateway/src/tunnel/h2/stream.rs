//! One stream of an h2 tunnel, as its own task uses it.

use super::{
    Shared,
    chunk::{Chunk, LARGE, SMALL},
    request,
    windows::Pace,
};
use crate::{
    socket::Socket,
    tunnel::{Refusal, RefusalReason, StreamError, TunnelHealth, TunnelStream},
};
use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture, server::SendResponse};
use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

/// What may be sent behind the request before it is known how much the peer takes.
const EARLY: usize = SMALL;

/// A stream of an h2 tunnel.
#[derive(Debug)]
pub(super) struct H2Stream {
    shared: Rc<Shared>,
    phase: Phase,
    /// `None` until an offered stream is accepted.
    send: Option<SendStream<Chunk>>,
    /// `None` until an asked-for stream is accepted.
    receive: Option<RecvStream>,
    answer: Option<Result<(), Refusal>>,
    /// What of [`EARLY`] is left.
    early: usize,
    /// Came in, and is not in the local socket yet.
    pending: Bytes,
    /// How much to read from the local socket at once.
    read: usize,
    /// This side has sent its end.
    finished: bool,
    /// The peer's end has been delivered.
    ended: bool,
    /// The peer has ended and takes no more: what the local side still sends is thrown away, as RFC 9113 section 8.1 has it.
    unwanted: bool,
    first_byte: Option<Instant>,
    /// Its window of the tunnel's, once it has one.
    window: Option<u64>,
    pace: Pace,
}

#[derive(Debug)]
enum Phase {
    /// This side asked; the peer has not answered yet.
    Asked(ResponseFuture),
    /// The peer asked; this side has not answered yet.
    Offered(SendResponse<Chunk>),
    /// This side asked, or was asked, and it was granted (true) or not.
    Answered { outgoing: bool },
}

impl H2Stream {
    /// A stream that this side asks for, with the window that was taken for it.
    pub(super) fn asked(shared: Rc<Shared>, answer: ResponseFuture, send: SendStream<Chunk>, window: u64) -> Self {
        let mut stream = Self::new(shared, Phase::Asked(answer));
        stream.send = Some(send);
        stream.early = EARLY;
        stream.window = Some(window);
        stream
    }

    /// A stream that the peer asks for, and how it does.
    pub(super) fn offered(
        shared: Rc<Shared>,
        (head, receive): (http::request::Parts, RecvStream),
        respond: SendResponse<Chunk>,
    ) -> (http::request::Parts, Self) {
        let mut stream = Self::new(shared, Phase::Offered(respond));
        stream.receive = Some(receive);
        (head, stream)
    }

    fn new(shared: Rc<Shared>, phase: Phase) -> Self {
        let stream = Self {
            shared,
            phase,
            send: None,
            receive: None,
            answer: None,
            early: 0,
            pending: Bytes::new(),
            read: SMALL,
            finished: false,
            ended: false,
            unwanted: false,
            first_byte: None,
            window: None,
            pace: Pace::default(),
        };
        let count = stream.count();
        count.set(count.get() + 1);
        stream
    }

    /// Takes a window for a stream that was offered.
    ///
    /// # Errors
    /// There is none left.
    pub(super) fn windowed(&mut self) -> Result<(), Refusal> {
        self.window = self.shared.windows.borrow_mut().add(true);
        self.observe();
        let refusal = || {
            let message = "the memory budget is used up".into();
            Refusal { reason: RefusalReason::Limit, message, retry: true }
        };
        if self.window.is_some() { Ok(()) } else { Err(refusal()) }
    }

    /// Lets the tunnel see how much lies here of the stream.
    fn observe(&mut self) {
        if let (Some(window), Some(receive)) = (self.window, &mut self.receive) {
            let flow = receive.flow_control().clone();
            self.shared.windows.borrow_mut().observe(window, move || flow.used_capacity());
        }
    }

    /// The tunnel's count that this stream is part of.
    fn count(&self) -> &Cell<usize> {
        match self.phase {
            Phase::Asked(_) | Phase::Answered { outgoing: true } => &self.shared.streams_out,
            Phase::Offered(_) | Phase::Answered { outgoing: false } => &self.shared.streams_in,
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Phase::Asked(response) = &mut self.phase else { return Poll::Ready(()) };
        let answer = match ready!(Pin::new(response).poll(cx)) {
            Ok(response) => {
                let answer = request::answer(&response);
                self.receive = answer.is_ok().then(|| response.into_body());
                self.observe();
                answer
            }
            Err(e) => Err(self.unanswered(&e)),
        };
        self.phase = Phase::Answered { outgoing: true };
        self.answer = Some(answer);
        Poll::Ready(())
    }

    /// A stream that ended without an answer, as a refusal.
    fn unanswered(&self, e: &h2::Error) -> Refusal {
        let reason = match e.reason() {
            Some(Reason::REFUSED_STREAM | Reason::ENHANCE_YOUR_CALM) if e.is_reset() => RefusalReason::Limit,
            Some(_) if e.is_reset() => RefusalReason::NoEndpoint,
            Some(Reason::NO_ERROR) if e.is_go_away() => RefusalReason::Draining,
            _ => RefusalReason::TunnelLost,
        };
        Refusal { reason, message: format!("the stream ended without an answer: {e}"), retry: true }
    }

    /// How many bytes may be sent now, `want` at most.
    fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, StreamError>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Err(self.lost())) };
        send.reserve_capacity(want);
        let room = send.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room.min(want)));
        }
        if self.early > 0 && matches!(self.phase, Phase::Asked(_)) {
            // Nothing is granted before the request is written; what is queued now goes out with it.
            return Poll::Ready(Ok(self.early.min(want)));
        }
        match ready!(send.poll_capacity(cx)) {
            Some(Ok(room)) => Poll::Ready(Ok(room.min(want))),
            Some(Err(e)) => Poll::Ready(Err(failed(&e))),
            None => {
                self.watch(cx)?;
                Poll::Ready(if self.unwanted { Ok(want) } else { Err(self.lost()) })
            }
        }
    }

    fn send(&mut self, chunk: Chunk) -> Result<usize, StreamError> {
        let length = chunk.remaining();
        if self.unwanted {
            return Ok(length);
        }
        let Some(send) = &mut self.send else { return Err(self.lost()) };
        send.send_data(chunk, false).map_err(|e| failed(&e))?;
        self.early = self.early.saturating_sub(length);
        self.shared.sent.set(true);
        Ok(length)
    }

    /// Has nothing to send for now: what a stream has reserved and does not use, others lack.
    fn rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>> {
        if let Some(send) = self.send.as_mut().filter(|_| !self.unwanted) {
            send.reserve_capacity(0);
            self.watch(cx)?;
        }
        Poll::Pending
    }

    /// Waits for the peer to reset the stream, where nothing else does.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), StreamError> {
        let Some(send) = &mut self.send else { return Ok(()) };
        match send.poll_reset(cx) {
            Poll::Pending => Ok(()),
            // Allowed only behind END_STREAM; without it, receiving reports the reset.
            Poll::Ready(Ok(Reason::NO_ERROR)) if self.shared.health() != TunnelHealth::Closed => {
                self.unwanted = true;
                Ok(())
            }
            Poll::Ready(Ok(_)) => Err(self.lost()),
            Poll::Ready(Err(e)) => Err(failed(&e)),
        }
    }

    /// Why the stream cannot go on.
    fn lost(&self) -> StreamError {
        if self.shared.health() == TunnelHealth::Closed { StreamError::TunnelLost } else { StreamError::Reset }
    }

    /// Writes what is pending into `socket`; `Pending` if it does not take all.
    fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
        moved: &mut usize,
    ) -> Poll<Result<(), StreamError>> {
        while self.pending.has_remaining() {
            let n = ready!(socket.poll_send(cx, &self.pending))?;
            self.pending.advance(n);
            *moved += n;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what came next from the peer: bytes, which are pending then, or its end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Err(self.lost())) };
        match ready!(receive.poll_data(cx)) {
            Some(Ok(bytes)) => {
                self.first_byte.get_or_insert_with(Instant::now);
                self.pending = bytes;
            }
            Some(Err(e)) => return Poll::Ready(Err(failed(&e))),
            None => self.ended = true,
        }
        Poll::Ready(Ok(()))
    }

    /// Moves bytes until there are no more, or the socket is full; `Ready(())` at the peer's end.
    fn poll_move(&mut self, cx: &mut Context<'_>, socket: &Socket, moved: &mut usize) -> Poll<Result<(), StreamError>> {
        loop {
            if self.poll_deliver(cx, socket, moved)?.is_pending() {
                self.watch(cx)?;
                return Poll::Pending;
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_next(cx))?;
        }
    }

    /// Lets the peer send as much again as went into the local socket.
    fn release(&mut self, moved: usize) {
        if let Some(receive) = self.receive.as_mut().filter(|_| moved > 0) {
            // It fails for more than came in, which `moved` cannot be.
            let _ = receive.flow_control().release_capacity(moved);
            self.shared.received.set(true);
            let mut windows = self.shared.windows.borrow_mut();
            if let Some(window) = self.window {
                windows.settle(window);
            }
            let (size, rtt) = (windows.size(), self.shared.rtt.get().unwrap_or_default());
            if self.pace.moved(moved, size, rtt, Instant::now) {
                windows.held_back(size);
                if windows.news().is_some() {
                    self.shared.wake_driver();
                }
            }
        }
    }
}

impl TunnelStream for H2Stream {
    fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        ready!(self.poll_answer(cx));
        Poll::Ready(self.answer.clone().unwrap_or(Ok(())))
    }

    fn accept(&mut self) {
        if let Phase::Offered(respond) = &mut self.phase {
            // It fails if the peer has reset the stream or the tunnel has ended, which the next poll reports.
            self.send = respond.send_response(request::accepted(), false).ok();
            self.phase = Phase::Answered { outgoing: false };
            self.shared.sent.set(true);
        }
    }

    fn refuse(&mut self, refusal: &Refusal) {
        if let Phase::Offered(respond) = &mut self.phase {
            // Dropping what still comes in is `h2`'s business: it tells the peer to stop.
            let _ = respond.send_response(request::refused(refusal), true);
            self.phase = Phase::Answered { outgoing: false };
            self.receive = None;
            (self.finished, self.ended) = (true, true);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        let room = ready!(self.poll_room(cx, bytes.len().min(LARGE)))?;
        Poll::Ready(self.send(Chunk::copy_of(&bytes[..room])))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        // Room is asked for only where there is something to send: `h2` wakes whoever watches the stream when it grants some, and that
        // is this task, which would then wake itself for ever.
        if socket.poll_readable(cx)?.is_pending() {
            return self.rest(cx);
        }
        let want = if self.unwanted { self.read } else { ready!(self.poll_room(cx, self.read))? };
        let mut block = self.shared.pool.take(want);
        let read = match socket.poll_recv(cx, &mut block.space()[..want]) {
            Poll::Ready(read) => read?,
            Poll::Pending => return self.rest(cx),
        };
        if read == 0 {
            return Poll::Ready(Ok(0));
        }
        // Bulk is read in larger pieces, small messages in small ones.
        self.read = if read == self.read {
            LARGE
        } else if read < SMALL {
            SMALL
        } else {
            self.read
        };
        Poll::Ready(self.send(block.into_chunk(read)))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        ready!(self.poll_answer(cx));
        let mut moved = 0;
        let polled = self.poll_move(cx, socket, &mut moved);
        self.release(moved);
        match polled {
            // An end or a failure is still there at the next call.
            _ if moved > 0 => Poll::Ready(Ok(moved)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(0)),
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamError>> {
        ready!(self.poll_answer(cx));
        while !self.pending.has_remaining() {
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            ready!(self.poll_next(cx))?;
        }
        let n = room.len().min(self.pending.remaining());
        self.pending.copy_to_slice(&mut room[..n]);
        self.release(n);
        Poll::Ready(Ok(n))
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.watch(cx).map_or_else(Poll::Ready, |()| Poll::Pending)
    }

    fn finish(&mut self) {
        if let Some(send) = self.send.as_mut().filter(|_| !self.finished && !self.unwanted) {
            // It fails if the stream has ended otherwise, which receiving reports.
            let _ = send.send_data(Chunk::copy_of(&[]), true);
        }
        self.finished = true;
        self.shared.sent.set(true);
    }

    fn reset(&mut self) {
        match (&mut self.phase, &mut self.send) {
            (Phase::Offered(respond), _) => respond.send_reset(Reason::CANCEL),
            (_, Some(send)) => send.send_reset(Reason::CANCEL),
            (_, None) => {}
        }
        (self.finished, self.ended) = (true, true);
    }

    fn first_byte(&self) -> Option<Instant> {
        self.first_byte
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        if !(self.finished && self.ended) {
            self.reset();
        }
        if let Some(window) = self.window {
            self.shared.windows.borrow_mut().remove(window);
        }
        let count = self.count();
        count.set(count.get().saturating_sub(1));
    }
}

/// What `h2`'s error means for a stream.
fn failed(e: &h2::Error) -> StreamError {
    if e.is_reset() { StreamError::Reset } else { StreamError::TunnelLost }
}

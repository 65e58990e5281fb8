//! One stream of a QUIC tunnel, as its own task uses it.

use super::{CUT, Credit, NOTHING, Shared, datagram::Datagrams, farewell::Stopped, head};
use crate::{
    busy,
    socket::Socket,
    tunnel::{DatagramError, Refusal, RefusalReason, StreamError, TunnelStream, mux::window::Window, waiting::Waiting},
};
use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt, WriteError};
use std::{
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

mod asked;
mod opening;
mod receive;

pub(super) use asked::{Asked, reset_answered};
pub(super) use opening::{HeadError, poll_head};

/// Bytes read from a local socket at once, at first and at the most.
const READ_FIRST: usize = 16 * 1024;
/// See [`READ_FIRST`].
const READ_MOST: usize = 64 * 1024;
/// Pieces that are taken off the connection, and written to the local socket, together: a datagram makes one.
const RUN: usize = 32;

/// A stream of a [`super::QuicTunnel`].
pub(super) struct QuicStream {
    shared: Rc<Shared>,
    id: u32,
    outgoing: bool,
    send: SendStream,
    receive: RecvStream,
    credit: Rc<Credit>,
    window: Window,
    /// This side asked: the answer, while it is read, and then what it was.
    answer: Answer,
    /// The peer asked, and this side has not accepted.
    unanswered: bool,
    /// Taken from the local side, and not taken by the connection yet.
    unsent: Bytes,
    waiting: Waiting,
    /// How much to read from the local socket at once.
    read: usize,
    /// This side has ended; the connection knows it once nothing is unsent.
    finished: bool,
    /// The peer has ended; there may be bytes that wait.
    ended: bool,
    /// It is over, whatever else was to come.
    over: bool,
    stopped: Option<Stopped>,
    first_byte: Option<Instant>,
    /// What goes beside the stream, once it has been asked for.
    datagrams: Option<Datagrams>,
}

enum Answer {
    Awaited(head::Reading),
    Was(Result<(), Refusal>),
}

impl QuicStream {
    /// A stream that this side asks for. `head` is sent first.
    pub(super) fn asked(
        shared: Rc<Shared>,
        halves: (SendStream, RecvStream),
        head: Vec<u8>,
        credit: usize,
        window: Window,
    ) -> Self {
        let mut stream = Self::new(shared, halves, credit, window, true);
        stream.answer = Answer::Awaited(head::Reading::opened());
        stream.send_head(head);
        stream
    }

    /// A stream that the peer asks for; its OPEN has been read.
    pub(super) fn offered(shared: Rc<Shared>, halves: (SendStream, RecvStream), credit: usize, window: Window) -> Self {
        Self::new(shared, halves, credit, window, false)
    }

    fn new(
        shared: Rc<Shared>,
        (send, receive): (SendStream, RecvStream),
        credit: usize,
        window: Window,
        outgoing: bool,
    ) -> Self {
        // The driver and `open` have seen to it that ids fit.
        let id = u32::try_from(VarInt::from(send.id()).into_inner()).unwrap_or(u32::MAX);
        let credit = shared.enter(id, outgoing, credit, window.size());
        Self {
            shared,
            id,
            outgoing,
            send,
            receive,
            credit,
            window,
            answer: Answer::Was(Ok(())),
            unanswered: !outgoing,
            unsent: Bytes::new(),
            waiting: Waiting::default(),
            read: READ_FIRST,
            finished: false,
            ended: false,
            over: false,
            stopped: None,
            first_byte: None,
            datagrams: None,
        }
    }

    /// Whether this side has asked and not read the answer.
    fn is_unanswered(&self) -> bool {
        matches!(self.answer, Answer::Awaited(_))
    }

    /// Sends OPEN or OPENED, which take no credit.
    fn send_head(&mut self, head: Vec<u8>) {
        self.unsent = head.into();
        // What does not go out now does with the next poll; what fails, the next read reports.
        let _ = self.poll_flush(&mut Context::from_waker(std::task::Waker::noop()));
        self.shared.wrote();
    }

    /// Hands what is unsent to the connection.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        while !self.unsent.is_empty() {
            let written = pin!(self.send.write(&self.unsent)).poll(cx);
            let n = ready!(written).map_err(|e| write_failed(&e))?;
            drop(self.unsent.split_to(n));
            if self.unsent.is_empty() && self.finished {
                let _ = self.send.finish();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Answer::Awaited(reading) = &mut self.answer else { return Poll::Ready(()) };
        let answer = match ready!(poll_head(&mut self.receive, reading, cx)) {
            Ok(()) => reading.answer(),
            Err(HeadError::Lost) => {
                Err(super::refusal(RefusalReason::TunnelLost, "the tunnel ended before the peer answered"))
            }
            // A reset may overtake the answer: then it was accepted, and reading tells of the reset.
            Err(HeadError::Reset) => {
                self.over = true;
                Ok(())
            }
            Err(HeadError::Cut) => {
                Err(super::refusal(RefusalReason::NoEndpoint, "the peer ended it without an answer"))
            }
        };
        self.answer = Answer::Was(answer);
        Poll::Ready(())
    }

    /// How many bytes may be sent now, `want` at most. Keeps the waker if none may.
    fn poll_room(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<Result<usize, StreamError>> {
        if self.over {
            return Poll::Ready(Err(StreamError::Reset));
        }
        if self.poll_flush(cx)?.is_pending() {
            return self.rest(cx);
        }
        match self.credit.left.get().min(want) {
            0 => {
                self.credit.wait(cx);
                self.poll_stopped(cx)?;
                Poll::Pending
            }
            room => Poll::Ready(Ok(room)),
        }
    }

    /// Has nothing to send for now, but wants to know if the peer ends the stream.
    fn rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, StreamError>> {
        self.watch(cx)?;
        Poll::Pending
    }

    /// Waits for the peer to want no more, where reading does not tell: behind its end.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), StreamError> {
        if !self.ended || (self.finished && self.unsent.is_empty()) {
            return Ok(());
        }
        self.poll_stopped(cx)
    }

    /// Whether the peer wants no more.
    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Result<(), StreamError> {
        let stopped = self.stopped.get_or_insert_with(|| Box::pin(self.send.stopped()));
        let Poll::Ready(stopped) = stopped.as_mut().poll(cx) else { return Ok(()) };
        // It must not be asked again.
        self.stopped = None;
        match stopped {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(StreamError::Reset),
            Err(_) => Err(StreamError::TunnelLost),
        }
    }

    fn sent(&self, bytes: usize) {
        busy::worked(Instant::now());
        self.credit.left.set(self.credit.left.get().saturating_sub(bytes));
        self.shared.wrote();
    }
}

impl TunnelStream for QuicStream {
    fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        // OPEN itself may still be unsent; that it fails, the answer tells.
        let _ = self.poll_flush(cx);
        ready!(self.poll_answer(cx));
        match &self.answer {
            Answer::Was(answer) => Poll::Ready(answer.clone()),
            Answer::Awaited(_) => Poll::Pending,
        }
    }

    fn accept(&mut self) {
        self.unanswered = false;
        self.send_head(head::opened(Ok(())));
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.send_head(head::opened(Err(refusal)));
        if self.unsent.is_empty() {
            let _ = self.send.finish();
            // The peer may still send what it sent before it knew.
            let _ = self.receive.stop(NOTHING);
            (self.finished, self.ended, self.over) = (true, true, true);
            self.shared.wrote();
        } else {
            self.reset();
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        let room = ready!(self.poll_room(cx, bytes.len()))?;
        let written = pin!(self.send.write(&bytes[..room])).poll(cx);
        match written {
            Poll::Ready(Ok(n)) => {
                self.sent(n);
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(write_failed(&e))),
            Poll::Pending => self.rest(cx),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        let want = ready!(self.poll_room(cx, self.read))?;
        let shared = self.shared.clone();
        let mut scratch = shared.scratch.borrow_mut();
        if scratch.is_empty() {
            scratch.resize(READ_MOST, 0);
        }
        let Poll::Ready(read) = socket.poll_recv(cx, &mut scratch[..want]) else { return self.rest(cx) };
        let read = read?;
        if read == 0 {
            return Poll::Ready(Ok(0));
        }
        self.sent(read);
        // Bulk is read in larger pieces, small messages in small ones.
        self.read = if read > self.read / 2 { (self.read * 2).min(READ_MOST) } else { self.read.max(READ_FIRST) };
        let mut written = 0;
        while written < read {
            match pin!(self.send.write(&scratch[written..read])).poll(cx) {
                Poll::Ready(Ok(n)) => written += n,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(write_failed(&e))),
                Poll::Pending => break,
            }
        }
        self.unsent = Bytes::copy_from_slice(&scratch[written..read]);
        Poll::Ready(Ok(read))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        if self.over {
            return Poll::Ready(Err(StreamError::Reset));
        }
        // An end that waits behind unsent bytes goes out from here.
        if self.poll_flush(cx)?.is_pending() {
            self.watch(cx)?;
        }
        ready!(self.poll_answer(cx));
        let mut moved = 0;
        self.poll_incoming(cx, Some(socket), &mut moved)?;
        let blocked = self.poll_deliver(cx, socket, &mut moved)?.is_pending();
        if moved > 0 {
            self.consumed(moved);
            return Poll::Ready(Ok(moved));
        }
        if self.ended && !blocked {
            return Poll::Ready(Ok(0));
        }
        self.watch(cx)?;
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamError>> {
        if self.over {
            return Poll::Ready(Err(StreamError::Reset));
        }
        if self.poll_flush(cx)?.is_pending() {
            self.watch(cx)?;
        }
        ready!(self.poll_answer(cx));
        if let Poll::Ready(read) = self.poll_into(cx, room) {
            return Poll::Ready(read);
        }
        self.watch(cx)?;
        Poll::Pending
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        if self.over {
            return Poll::Ready(StreamError::Reset);
        }
        match pin!(self.receive.received_reset()).poll(cx) {
            Poll::Ready(Ok(Some(_))) => {
                self.over = true;
                return Poll::Ready(StreamError::Reset);
            }
            Poll::Ready(Err(_)) => return Poll::Ready(StreamError::TunnelLost),
            Poll::Ready(Ok(None)) | Poll::Pending => {}
        }
        if self.finished && self.unsent.is_empty() {
            // The peer may have all of it, and tells no more then.
            return Poll::Pending;
        }
        self.poll_stopped(cx).map_or_else(Poll::Ready, |()| Poll::Pending)
    }

    fn take_datagrams(&mut self) {
        self.datagrams.get_or_insert_with(|| Datagrams::new(&self.shared, self.id));
    }

    fn poll_send_datagram(&mut self, cx: &mut Context<'_>, datagram: &[u8]) -> Poll<Result<(), DatagramError>> {
        self.datagrams.get_or_insert_with(|| Datagrams::new(&self.shared, self.id)).poll_send(cx, datagram)
    }

    fn poll_receive_datagram(&mut self, cx: &mut Context<'_>) -> Poll<(Bytes, u64)> {
        self.datagrams.as_ref().map_or(Poll::Pending, |datagrams| datagrams.poll_receive(cx))
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) && self.unsent.is_empty() {
            // It fails if the stream has ended otherwise, which receiving reports.
            let _ = self.send.finish();
            self.shared.wrote();
        }
    }

    fn reset(&mut self) {
        // Either fails where that way is over already.
        let _ = self.send.reset(if self.unanswered { NOTHING } else { CUT });
        let _ = self.receive.stop(NOTHING);
        self.unsent = Bytes::new();
        (self.finished, self.ended, self.over) = (true, true, true);
        self.shared.wrote();
    }

    fn first_byte(&self) -> Option<Instant> {
        self.first_byte
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        // Dropping quinn's stream would end it as if it were whole.
        let whole = self.finished && self.ended && self.unsent.is_empty() && self.waiting.is_empty();
        if whole {
            self.shared.farewells.add(Box::pin(self.send.stopped()));
        } else {
            self.reset();
        }
        self.shared.leave(self.id, self.outgoing, self.window.size());
    }
}

fn write_failed(e: &WriteError) -> StreamError {
    if matches!(e, WriteError::ConnectionLost(_)) { StreamError::TunnelLost } else { StreamError::Reset }
}

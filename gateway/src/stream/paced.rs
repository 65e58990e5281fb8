//! A stream that is held to a rate: what is read waits for its turn, and goes on then.

use super::{copy::Tally, early::Early};
use crate::{
    limit::pace::{Pace, Turn},
    socket::Socket,
    tunnel::{StreamError, TunnelStream},
};
use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

/// Portions that are read or moved each way before the other way and the other tasks of the core have their turn.
const ROUNDS: usize = 8;

/// How a stream failed, and at which end.
pub(super) struct Failed {
    /// Not at the socket that the stream begins at in this gateway.
    pub(super) is_far: bool,
    pub(super) error: StreamError,
}

/// One end of a stream in this gateway.
pub(super) trait End {
    /// Reads once; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamError>>;

    /// Takes some of `bytes`; how many.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>>;

    /// No more bytes will follow.
    fn finish(&mut self);

    /// Waits for it to fail while nobody reads it.
    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError>;

    /// When its first byte came in, where that is noted.
    fn first_byte(&self) -> Option<Instant> {
        None
    }

    /// It has failed so.
    fn failed(&self, error: StreamError) -> Failed {
        Failed { is_far: true, error }
    }
}

/// A local socket.
pub(super) struct Local<'a> {
    socket: &'a Socket,
    is_far: bool,
    failed: Option<Pin<Box<dyn Future<Output = ()> + 'a>>>,
}

impl<'a> Local<'a> {
    /// That of an endpoint in this cluster.
    pub(super) fn far(socket: &'a Socket) -> Self {
        Self { socket, is_far: true, failed: None }
    }

    fn near(socket: &'a Socket) -> Self {
        Self { socket, is_far: false, failed: None }
    }
}

impl End for Local<'_> {
    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamError>> {
        // Whoever waits for bytes is told of a reset.
        self.failed = None;
        self.socket.poll_recv(cx, room).map_err(StreamError::Socket)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        self.socket.poll_send(cx, bytes).map_err(StreamError::Socket)
    }

    fn finish(&mut self) {
        self.socket.finish();
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let failed = self.failed.get_or_insert_with(|| Box::pin(self.socket.failed()));
        failed.as_mut().poll(cx).map(|()| StreamError::Socket(self.socket.take_error()))
    }

    fn failed(&self, error: StreamError) -> Failed {
        Failed { is_far: self.is_far, error }
    }
}

impl End for dyn TunnelStream + '_ {
    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamError>> {
        TunnelStream::poll_read(self, cx, room)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        TunnelStream::poll_write(self, cx, bytes)
    }

    fn finish(&mut self) {
        TunnelStream::finish(self);
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        TunnelStream::poll_failed(self, cx)
    }

    fn first_byte(&self) -> Option<Instant> {
        TunnelStream::first_byte(self)
    }
}

/// One way: bytes that were read and wait for their turn, or for the other end.
#[derive(Default)]
struct Way {
    /// What was read before, and is next.
    early: Vec<u8>,
    waiting: Vec<u8>,
    at: usize,
    turn: Option<Turn>,
    ended: bool,
    done: bool,
}

impl Way {
    /// Whether it waits for its reading end.
    fn reads(&self) -> bool {
        !self.ended && self.early.is_empty() && self.turn.is_none() && self.at == self.waiting.len()
    }

    /// Passes on what was read once it is its turn, or reads a portion.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        pace: &Rc<Pace>,
        from: &mut (impl End + ?Sized),
        to: &mut (impl End + ?Sized),
    ) -> Poll<Result<Step, Failed>> {
        if let Some(turn) = &mut self.turn {
            ready!(turn.as_mut().poll(cx));
            self.turn = None;
        }
        if self.at < self.waiting.len() {
            let moved = ready!(to.poll_write(cx, &self.waiting[self.at..])).map_err(|error| to.failed(error))?;
            self.at += moved;
            return Poll::Ready(Ok(Step::Moved(moved)));
        }
        (self.waiting, self.at) = (Vec::new(), 0);
        if !self.early.is_empty() {
            let bytes = pace.portion().min(self.early.len());
            let rest = self.early.split_off(bytes);
            let next = std::mem::replace(&mut self.early, rest);
            self.wait(pace, next);
            return Poll::Ready(Ok(Step::Read(bytes)));
        }
        if self.ended {
            if !std::mem::replace(&mut self.done, true) {
                to.finish();
            }
            return Poll::Ready(Ok(Step::Over));
        }
        let mut room = vec![0; pace.portion()];
        let bytes = ready!(from.poll_read(cx, &mut room)).map_err(|error| from.failed(error))?;
        self.ended = bytes == 0;
        if bytes > 0 {
            room.truncate(bytes);
            room.shrink_to_fit();
            self.wait(pace, room);
        }
        Poll::Ready(Ok(Step::Read(bytes)))
    }

    /// These bytes are next, and wait for their turn.
    fn wait(&mut self, pace: &Rc<Pace>, bytes: Vec<u8>) {
        self.turn = Some(pace.turn(bytes.len() as u64));
        self.waiting = bytes;
    }
}

/// What a way has done.
enum Step {
    Read(usize),
    Moved(usize),
    /// There is no more.
    Over,
}

/// Copies between the socket that the stream begins at in this gateway and its other end, until both ways have ended. `early`: what
/// the socket has said before, and the other end has not been sent.
pub(super) async fn copy(
    pace: &Rc<Pace>,
    near: &Socket,
    far: &mut (impl End + ?Sized),
    early: Early,
    tally: &mut impl Tally,
) -> Result<(), Failed> {
    let mut near = Local::near(near);
    let mut there = Way { early: early.bytes, ended: early.ended, ..Way::default() };
    let (mut back, mut spoke) = (Way::default(), false);
    poll_fn(|cx| {
        for _ in 0..ROUNDS {
            let first = there.poll(cx, pace, &mut near, far)?;
            match &first {
                Poll::Ready(Step::Read(1..)) => {
                    if !std::mem::replace(&mut spoke, true) {
                        tally.speaks(far.first_byte());
                    }
                    tally.said(false);
                }
                Poll::Ready(Step::Moved(bytes)) => tally.sent(*bytes as u64),
                _ => {}
            }
            let second = back.poll(cx, pace, far, &mut near)?;
            match &second {
                Poll::Ready(Step::Read(1..)) => tally.said(true),
                Poll::Ready(Step::Moved(bytes)) => tally.received(*bytes as u64),
                _ => {}
            }
            match (first, second) {
                (Poll::Ready(Step::Over), Poll::Ready(Step::Over)) => return Poll::Ready(Ok(())),
                (Poll::Ready(Step::Read(_) | Step::Moved(_)), _) | (_, Poll::Ready(Step::Read(_) | Step::Moved(_))) => {
                }
                _ => {
                    tally.hold(there.turn.is_some() || back.turn.is_some());
                    return failed(cx, (&there, &mut near), (&back, far)).map(Err);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Waits for an end to fail that nobody reads: one that is read tells by itself.
fn failed(cx: &mut Context<'_>, near: (&Way, &mut impl End), far: (&Way, &mut (impl End + ?Sized))) -> Poll<Failed> {
    fn ask(cx: &mut Context<'_>, (way, end): (&Way, &mut (impl End + ?Sized))) -> Poll<Failed> {
        if way.reads() { Poll::Pending } else { end.poll_failed(cx).map(|error| end.failed(error)) }
    }
    let failed = ask(cx, near);
    if failed.is_ready() { failed } else { ask(cx, far) }
}

#[cfg(test)]
mod tests;

//! Moving bytes both ways until both have ended, each end's FIN and RST kept apart.

use super::{
    early::{self, Early},
    paced,
};
use crate::{
    busy,
    close::Closed,
    limit::pace::Pace,
    meter::StreamMeter,
    socket::Socket,
    tunnel::{StreamError, TunnelStream},
};
use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

/// Moves each way before the other tasks of the core have their turn.
const ROUNDS: usize = 4;

/// Who is told of bytes that were moved.
pub(crate) trait Tally {
    /// The local socket speaks for the first time; when the peer has, if it has. Bytes of the peer may have been moved without a word
    /// to anybody.
    fn speaks(&mut self, heard: Option<Instant>);
    /// From the local socket into the stream.
    fn sent(&mut self, bytes: u64);
    /// From the stream into the local socket.
    fn received(&mut self, bytes: u64);

    /// The rates that all of it is held to, if it is.
    fn pace(&self) -> Option<Rc<Pace>> {
        None
    }

    /// The local socket, or the other end, has said something that may have to wait.
    fn said(&mut self, _is_far: bool) {}

    /// A rate holds it from now on, or does not.
    fn hold(&mut self, _: bool) {}
}

impl Tally for StreamMeter<'_> {
    fn speaks(&mut self, heard: Option<Instant>) {
        StreamMeter::asked(self, heard);
    }

    fn sent(&mut self, bytes: u64) {
        StreamMeter::sent(self, bytes);
    }

    fn received(&mut self, bytes: u64) {
        StreamMeter::received(self, bytes);
    }

    fn pace(&self) -> Option<Rc<Pace>> {
        self.held.pace()
    }

    fn said(&mut self, is_far: bool) {
        StreamMeter::said(self, is_far);
    }

    fn hold(&mut self, is_held: bool) {
        self.held.hold(is_held);
    }
}

/// For streams that nobody counts.
impl Tally for () {
    fn speaks(&mut self, _: Option<Instant>) {}
    fn sent(&mut self, _: u64) {}
    fn received(&mut self, _: u64) {}
}

/// Copies between a local socket and a stream until both ways have ended. `early`: what the socket has said before, and the stream has
/// not taken.
pub(crate) async fn copy(
    stream: &mut dyn TunnelStream,
    socket: &Rc<Socket>,
    early: Option<Box<Early>>,
    tally: &mut impl Tally,
) -> Closed {
    let mut ends = Ends { sent: early.as_ref().is_some_and(|early| early.ended), ..Ends::default() };
    if early.is_some() || tally.pace().is_some() {
        // In a box: most streams keep no room for it.
        if let Some(result) = Box::pin(begin(stream, socket, early, tally)).await {
            return end(stream, socket, result);
        }
    }
    let mut unread = None;
    let copying = poll_fn(|cx| {
        let moved = ends.poll(cx, stream, socket, tally);
        if moved.is_ready() || ends.again {
            return moved;
        }
        if !ends.sent && socket.poll_readable(cx)?.is_pending() {
            // Whoever waits for bytes is told of a reset. Most streams do nothing else most of the time: they keep no room for more.
            unread = None;
            return Poll::Pending;
        }
        // Nobody reads: the stream waits for credit, or that way has ended.
        let failed = unread.get_or_insert_with(|| Box::pin(socket.failed()));
        failed.as_mut().poll(cx).map(|()| Err(StreamError::Socket(socket.take_error())))
    });
    let result = copying.await;
    end(stream, socket, result)
}

/// Ends what has not ended in order, each way as the other one has.
fn end(stream: &mut dyn TunnelStream, socket: &Socket, result: Result<(), StreamError>) -> Closed {
    match result {
        Ok(()) => Closed::Fin,
        Err(error @ StreamError::Socket(_)) => {
            stream.reset();
            socket.reset_on_close();
            Closed::from(&error)
        }
        Err(StreamError::Reset) => {
            socket.reset_on_close();
            Closed::ResetPeer
        }
        Err(StreamError::TunnelLost) => {
            socket.reset_on_close();
            Closed::TunnelLost
        }
    }
}

/// What comes before a stream is copied, or in place of that: how it has ended, if it has.
async fn begin(
    stream: &mut dyn TunnelStream,
    socket: &Rc<Socket>,
    early: Option<Box<Early>>,
    tally: &mut impl Tally,
) -> Option<Result<(), StreamError>> {
    let early = early.map(|early| *early).unwrap_or_default();
    if let Some(pace) = tally.pace() {
        stream.hold();
        return Some(paced::copy(&pace, socket, stream, early, tally).await.map_err(|failed| failed.error));
    }
    if let Err(failed) = early::send(stream, socket, early.bytes, tally).await {
        return Some(Err(failed));
    }
    if early.ended {
        stream.finish();
    }
    None
}

/// Which ways have ended.
#[derive(Default)]
struct Ends {
    sent: bool,
    received: bool,
    /// Whether there may be more to move at once.
    again: bool,
    /// Whether the socket has said something.
    spoke: bool,
}

impl Ends {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut dyn TunnelStream,
        socket: &Rc<Socket>,
        tally: &mut impl Tally,
    ) -> Poll<Result<(), StreamError>> {
        self.again = false;
        if !self.received {
            self.again |= self.receive(cx, stream, socket, tally)?;
        }
        if !self.sent {
            self.again |= self.send(cx, stream, socket, tally)?;
        }
        if self.sent && self.received {
            return Poll::Ready(Ok(()));
        }
        if self.again {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Whether there may be more at once.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut dyn TunnelStream,
        socket: &Rc<Socket>,
        tally: &mut impl Tally,
    ) -> Result<bool, StreamError> {
        for _ in 0..ROUNDS {
            let Poll::Ready(sent) = stream.poll_send(cx, socket) else { return Ok(false) };
            match sent? {
                0 => {
                    stream.finish();
                    self.sent = true;
                    return Ok(false);
                }
                n => {
                    busy::moved(Rc::as_ptr(socket).addr());
                    if !std::mem::replace(&mut self.spoke, true) {
                        tally.speaks(stream.first_byte());
                    }
                    tally.sent(n as u64);
                }
            }
        }
        Ok(true)
    }

    /// Whether there may be more at once.
    fn receive(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut dyn TunnelStream,
        socket: &Rc<Socket>,
        tally: &mut impl Tally,
    ) -> Result<bool, StreamError> {
        for _ in 0..ROUNDS {
            let Poll::Ready(received) = stream.poll_receive(cx, socket) else { return Ok(false) };
            match received? {
                0 => {
                    // Where the socket has ended, too, its close says it.
                    if !self.sent {
                        socket.finish();
                    }
                    self.received = true;
                    return Ok(false);
                }
                n => tally.received(n as u64),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;

//! A relayed stream: every byte that it sends is counted, and paid for with waiting before the next. So none is held back for being
//! part of a large piece, and those that share a rate take turns.

use super::pairs::Passage;
use crate::{
    socket::Socket,
    tunnel::{Refusal, StreamError, TunnelStream},
};
use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::time::Sleep;

/// See the module. Both legs of a relayed tunnel send, each one way: what one does not send, the other's peer stops sending, for want
/// of credit.
pub(super) struct Paced {
    stream: Box<dyn TunnelStream>,
    passage: Arc<Passage>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(stream: Box<dyn TunnelStream>, passage: Arc<Passage>) -> Self {
        // Whoever begins again and again waits for what he has sent before, as others do.
        let mut paced = Self { stream, passage, timer: None };
        paced.sent(0);
        paced
    }

    /// Waits until more may be sent.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
        Poll::Ready(())
    }

    fn sent(&mut self, bytes: usize) -> usize {
        self.timer = self.passage.sent(bytes).map(|wait| Box::pin(tokio::time::sleep(wait)));
        bytes
    }
}

impl TunnelStream for Paced {
    fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.stream.poll_opened(cx)
    }

    fn accept(&mut self) {
        self.stream.accept();
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.stream.refuse(refusal);
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, StreamError>> {
        ready!(self.poll_turn(cx));
        self.stream.poll_write(cx, bytes).map_ok(|bytes| self.sent(bytes))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        ready!(self.poll_turn(cx));
        self.stream.poll_send(cx, socket).map_ok(|bytes| self.sent(bytes))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        self.stream.poll_receive(cx, socket)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<usize, StreamError>> {
        self.stream.poll_read(cx, room)
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        self.stream.poll_failed(cx)
    }

    fn finish(&mut self) {
        self.stream.finish();
    }

    fn reset(&mut self) {
        self.stream.reset();
    }
}

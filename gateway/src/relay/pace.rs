//! A relayed stream: every byte that it sends is counted, and sent when the pair's rate allows.

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
        Self { stream, passage, timer: None }
    }

    /// Waits until more may be sent.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let wait = self.passage.wait();
            if wait.is_zero() {
                self.timer = None;
                return Poll::Ready(());
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            ready!(timer.as_mut().poll(cx));
            // Others may have sent meanwhile.
            self.timer = None;
        }
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
        self.stream.poll_write(cx, bytes).map_ok(|sent| {
            self.passage.sent(sent);
            sent
        })
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<Result<usize, StreamError>> {
        ready!(self.poll_turn(cx));
        self.stream.poll_send(cx, socket).map_ok(|sent| {
            self.passage.sent(sent);
            sent
        })
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

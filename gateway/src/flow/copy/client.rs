//! A flow's end at its client: the queue that the listener fills, and the listener's socket.

use super::{Delivery, End, endpoint};
use crate::{
    close::Closed,
    flow::{
        Ended, frame,
        queue::{PATIENCE, Queue, Together},
        table::Known,
    },
    metrics::reasons::Dropped,
    socket::datagram::Listener,
};
use bytes::Bytes;
use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Instant,
};

/// What a flow's task and the listener share.
#[derive(Debug)]
pub(crate) struct Flow {
    queue: RefCell<Queue>,
    waker: RefCell<Option<Waker>>,
    last: Cell<Instant>,
    closed: Cell<Option<Closed>>,
    /// Datagrams that were taken from the queue before the flow was open.
    early: Cell<u64>,
}

impl Flow {
    /// A flow that begins, its datagrams to wait with others'.
    pub(crate) fn new(together: &Rc<Together>, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            queue: RefCell::new(Queue::new(together)),
            waker: RefCell::default(),
            last: Cell::new(now),
            closed: Cell::default(),
            early: Cell::default(),
        })
    }

    /// A datagram came from the client.
    pub(crate) fn push(&self, datagram: Bytes, now: Instant) {
        self.last.set(now);
        self.queue.borrow_mut().push(datagram, now);
        self.wake();
    }

    /// Ends it.
    pub(crate) fn close(&self, how: Closed) {
        self.closed.set(Some(how));
        self.wake();
    }

    /// How it was ended, if it was.
    pub(crate) fn how_closed(&self) -> Option<Closed> {
        self.closed.get()
    }

    /// Takes waiting datagrams as frames, before the flow is open.
    pub(crate) fn poll_frames(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<usize> {
        let (mut queue, mut frames, now) = (self.queue.borrow_mut(), Vec::new(), Instant::now());
        while let Some(left) = (room.len() - frames.len()).checked_sub(frame::size(&[]))
            && let Some(datagram) = queue.pop_within(left, now)
        {
            frame::push(&mut frames, &datagram);
            self.early.set(self.early.get() + 1);
        }
        if frames.is_empty() {
            self.wait(cx);
            return Poll::Pending;
        }
        room[..frames.len()].copy_from_slice(&frames);
        Poll::Ready(frames.len())
    }

    /// Puts back what was taken, in its order: it is to go elsewhere.
    pub(crate) fn put_back(&self, datagrams: impl DoubleEndedIterator<Item = Bytes>) {
        let (mut queue, now) = (self.queue.borrow_mut(), Instant::now());
        datagrams.rev().for_each(|datagram| queue.put_back(datagram, now));
        self.early.set(0);
    }

    /// Its task goes on: how many datagrams were taken early.
    pub(crate) fn opened(&self) -> u64 {
        self.queue.borrow_mut().set_patience(Some(PATIENCE));
        self.early.take()
    }

    /// It was not opened, or is over: how many datagrams that leaves behind, those taken early among them.
    pub(crate) fn abandon(&self) -> u64 {
        let waiting = self.queue.borrow_mut().clear() as u64;
        self.early.take() + waiting
    }

    /// Whether datagrams wait.
    pub(crate) fn has_waiting(&self) -> bool {
        self.queue.borrow().len() > 0
    }

    /// Datagrams may wait for the flow to open again.
    pub(crate) fn reopen(&self) {
        self.queue.borrow_mut().set_patience(None);
    }

    /// Has `cx` woken when there is something to take, or it is ended.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Known for Rc<Flow> {
    fn last(&self) -> Instant {
        self.last.get()
    }
}

/// See the module.
pub(crate) struct ClientEnd {
    pub(crate) flow: Rc<Flow>,
    pub(crate) listener: Rc<Listener>,
    /// The client.
    pub(crate) address: SocketAddr,
    /// The address that it has sent to, where the listener has several.
    pub(crate) to: Option<IpAddr>,
}

impl End for ClientEnd {
    fn poll_next(&mut self, cx: &mut Context<'_>, _: &mut [u8]) -> Poll<Result<Bytes, Ended>> {
        if let Some(how) = self.flow.closed.get() {
            return Poll::Ready(Err(Ended::Closed(how)));
        }
        let next = self.flow.queue.borrow_mut().pop(Instant::now());
        match next {
            Some(datagram) => Poll::Ready(Ok(datagram)),
            None => {
                self.flow.wait(cx);
                Poll::Pending
            }
        }
    }

    fn poll_deliver(&mut self, _: &mut Context<'_>, datagram: &Bytes) -> Poll<Result<Delivery, Ended>> {
        self.flow.last.set(Instant::now());
        Poll::Ready(Ok(match self.listener.send(self.address, self.to, datagram) {
            Ok(()) => Delivery::Done,
            Err(error) => Delivery::Dropped(endpoint::dropped(&error).unwrap_or(Dropped::Unsent)),
        }))
    }

    fn take_dropped(&mut self) -> u64 {
        self.flow.queue.borrow_mut().take_dropped()
    }
}

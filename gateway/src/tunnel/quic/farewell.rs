//! Streams that are over here, until the peer has their last bytes: to close the connection before would throw these away.

use quinn::{StoppedError, VarInt};
use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

/// Tells when the peer has all of a stream, or wants no more of it.
pub(super) type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>>>>;

/// More are not kept: the oldest are not waited for.
const MOST: usize = 1024;
/// So many are kept before it is looked whether the oldest are done.
const FEW: usize = 16;

/// The streams of one tunnel whose end is on its way.
#[derive(Default)]
pub(super) struct Farewells {
    streams: RefCell<VecDeque<Stopped>>,
}

impl Farewells {
    /// A stream has ended cleanly.
    pub(super) fn add(&self, stopped: Stopped) {
        let mut streams = self.streams.borrow_mut();
        streams.push_back(stopped);
        // Two for each that comes: the queue stays short without anybody being woken for it.
        for _ in 0..2 {
            if streams.len() <= FEW || !is_done(&mut streams[0]) {
                break;
            }
            streams.pop_front();
        }
        if streams.len() > MOST {
            streams.pop_front();
        }
    }

    /// Whether the peer has everything, as far as is known without asking again.
    pub(super) fn is_empty(&self) -> bool {
        self.streams.borrow().is_empty()
    }

    /// Forgets those that are done.
    pub(super) fn prune(&self) {
        let mut streams = self.streams.borrow_mut();
        while streams.front_mut().is_some_and(is_done) {
            streams.pop_front();
        }
    }

    /// Waits until the peer has everything. Only the driver may: one task is woken.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut streams = self.streams.borrow_mut();
        while let Some(first) = streams.front_mut() {
            // However it ended: there is nothing more to wait for.
            let _ = ready!(first.as_mut().poll(cx));
            streams.pop_front();
        }
        Poll::Ready(())
    }

    /// The connection has ended.
    pub(super) fn forget(&self) {
        self.streams.borrow_mut().clear();
    }
}

fn is_done(stopped: &mut Stopped) -> bool {
    stopped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

impl fmt::Debug for Farewells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Farewells").field("streams", &self.streams.borrow().len()).finish_non_exhaustive()
    }
}

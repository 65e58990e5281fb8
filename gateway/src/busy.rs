//! Busy polling: for a moment after work, a core asks its reactor again instead of going to sleep.
//!
//! To wake a thread that sleeps costs tens of microseconds where CPUs are virtual: more than all else that a gateway does for a small
//! message (docs/decisions/0012). How long it may go on is bounded, and it is given up where it does not pay: [`Patience`].

use crate::metrics::CoreMetrics;
use std::{
    cell::RefCell,
    future::poll_fn,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

/// How long a core asks in vain before it sleeps.
const LIMIT: Duration = Duration::from_micros(150);
/// A turn that others had on the CPU for longer than this: they need it, and the reactor has gathered enough meanwhile.
const CONTENDED: Duration = Duration::from_micros(100);
/// Work that comes this soon is a part of what came before, and tells nothing.
const SAME: Duration = Duration::from_micros(2);
/// The most that [`Patience`] learns, and where it begins to poll.
const TRUST: u8 = 16;

/// Whether polling pays, learnt from how soon work followed work, as the kernel's halt polling does it.
#[derive(Debug, Default)]
struct Patience {
    /// The end of the poll under way.
    until: Option<Instant>,
    /// The stream whose bytes moved last.
    stream: usize,
    /// When there was work.
    last: Option<Instant>,
    /// Up by one where a poll would have found the next work, down by two where not, and down by half for another stream.
    trust: u8,
}

impl Patience {
    /// Bytes of `stream` have moved. Where several take turns, work comes in batches as the core sleeps: that is cheaper.
    fn moved(&mut self, stream: usize) {
        if std::mem::replace(&mut self.stream, stream) != stream {
            self.trust = self.trust.saturating_sub(TRUST / 2);
        }
    }

    /// The core has worked: whether to begin to poll.
    fn worked(&mut self, now: Instant) -> bool {
        match self.last.replace(now).map(|last| now.saturating_duration_since(last)) {
            Some(gap) if gap <= SAME => {}
            Some(gap) if gap <= LIMIT => self.trust = (self.trust + 1).min(TRUST),
            _ => self.trust = self.trust.saturating_sub(2),
        }
        if self.trust < TRUST / 2 {
            // A poll under way ends at its limit: it is not prolonged.
            return false;
        }
        self.until.replace(now + LIMIT).is_none()
    }

    /// The reactor was asked in vain, after others had the CPU for `away`: whether to ask again.
    fn asks_again(&mut self, now: Instant, away: Duration) -> bool {
        self.until = self.until.filter(|&until| now < until && away <= CONTENDED);
        self.until.is_some()
    }
}

/// A core's poll.
#[derive(Debug, Default)]
struct Core {
    patience: Patience,
    /// The task of [`run`], while it waits for work.
    idle: Option<Waker>,
}

thread_local! {
    /// Of the thread, because it is the thread that sleeps: no transport is handed one.
    static CORE: RefCell<Core> = RefCell::default();
}

/// Says that this thread's core has moved bytes: more may follow soon.
pub(crate) fn worked(now: Instant) {
    CORE.with_borrow_mut(|core| {
        if core.patience.worked(now)
            && let Some(idle) = core.idle.take()
        {
            idle.wake();
        }
    });
}

/// Says that bytes of a stream were moved. `stream` tells it from the core's other streams.
pub(crate) fn moved(stream: usize) {
    CORE.with_borrow_mut(|core| core.patience.moved(stream));
}

/// Polls on this thread, whenever there was work, as long as the core lives.
pub(crate) async fn run(counters: Arc<CoreMetrics>) {
    loop {
        poll_fn(|cx| {
            CORE.with_borrow_mut(|core| {
                if core.patience.until.is_some() {
                    return Poll::Ready(());
                }
                core.idle = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
        counters.busy_polls.add(1);
        loop {
            let before = Instant::now();
            // Whoever else wants this CPU has it first. Nobody: this returns at once.
            std::thread::yield_now();
            let now = Instant::now();
            if !CORE.with_borrow_mut(|core| core.patience.asks_again(now, now - before)) {
                break;
            }
            // The runtime asks its reactor, without sleeping, before it comes back here.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests;

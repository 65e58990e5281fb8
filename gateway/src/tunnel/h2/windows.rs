//! How much each stream of a tunnel may have under way towards us.
//!
//! HTTP/2 has one size for all streams of a connection, which its receiver may change at any time (SETTINGS_INITIAL_WINDOW_SIZE,
//! RFC 9113 section 6.9.2). It doubles when a stream is held back by it, and halves when the memory budget is short. What all streams
//! have together is taken from the budget.

use super::CONNECTION_WINDOW;
use crate::tunnel::mux::{
    budget::Budget,
    window::{HELD_BACK, LEAST_RTT, MIN},
};
use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// The largest window: it is that of all streams, each of which is charged for it.
pub(super) const MAX: usize = 16 << 20;

/// Who may wait for room on one tunnel; others are refused.
pub(super) const MOST_WAITING: usize = 256;

/// The streams' common window, and what each stream holds of the budget for it.
///
/// A stream is charged for what its peer may send at the moment, or may have sent: a smaller window counts only once the peer has
/// acknowledged it, and for a stream only once no more than that lies here.
#[derive(Debug)]
pub(super) struct Windows {
    budget: Arc<Budget>,
    /// What is wanted.
    size: usize,
    /// What was told last, in SETTINGS.
    told: usize,
    /// What the peer may still go by: `told`, or what was told before, if that is larger and not known to be acknowledged.
    held: usize,
    charges: HashMap<u64, Charge>,
    last: u64,
    /// Who waits for room for a stream.
    waiting: Vec<Waker>,
}

/// What a stream holds of the budget.
struct Charge {
    bytes: usize,
    /// How much came in that was not released yet; `None` while that cannot be known.
    lies_here: Option<Box<dyn Fn() -> usize>>,
}

impl std::fmt::Debug for Charge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.bytes)
    }
}

impl Charge {
    /// Charges no more than `held`, if no more lies here; what that gives back.
    fn settle(&mut self, held: usize) -> usize {
        let fits = self.bytes > held && self.lies_here.as_ref().is_some_and(|lies_here| lies_here() <= held);
        if fits { std::mem::replace(&mut self.bytes, held) - held } else { 0 }
    }
}

impl Windows {
    /// Windows of `size` bytes, as the connection's preface tells the peer.
    pub(super) fn new(size: usize, budget: Arc<Budget>) -> Self {
        Self { budget, size, told: size, held: size, charges: HashMap::new(), last: 0, waiting: Vec::new() }
    }

    /// Bytes of each stream's window.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Takes a window for a stream that the peer opens (`by_peer`) or that we do: the number by which it is known here; `None` if there
    /// is no room. Windows get smaller then: [`Self::poll_room`] waits for that.
    pub(super) fn add(&mut self, by_peer: bool) -> Option<u64> {
        let bytes = self.held;
        let take = || if by_peer { self.budget.take_for_peer(bytes) } else { self.budget.take(bytes) };
        // It is asked first, as what is refused by `take` counts as a stream refused.
        if !self.has_room(by_peer) || !take() {
            self.make_room();
            return None;
        }
        if self.budget.is_tight() {
            self.shrink();
        }
        self.last += 1;
        self.charges.insert(self.last, Charge { bytes, lies_here: None });
        Some(self.last)
    }

    /// Whether there is room for a stream that had none. Pending while there may be soon, since the peer is being told of smaller
    /// windows: then `cx` is woken.
    pub(super) fn poll_room(&mut self, by_peer: bool, cx: &Context<'_>) -> Poll<bool> {
        if self.has_room(by_peer) {
            return Poll::Ready(true);
        }
        self.make_room();
        if self.news().is_none() || self.waiting.len() >= MOST_WAITING {
            return Poll::Ready(false);
        }
        if !self.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Counts a stream that was refused for want of memory.
    pub(super) fn note_refused(&self) {
        self.budget.note_refused();
    }

    /// Gives back an ended stream's window.
    pub(super) fn remove(&mut self, stream: u64) {
        let bytes = self.charges.remove(&stream).map_or(0, |charge| charge.bytes);
        self.give_back(bytes);
    }

    /// From now on it can be known how much came in on a stream and was not released yet.
    pub(super) fn observe(&mut self, stream: u64, lies_here: impl Fn() -> usize + 'static) {
        if let Some(charge) = self.charges.get_mut(&stream) {
            charge.lies_here = Some(Box::new(lies_here));
        }
        self.settle(stream);
    }

    /// Some of what came in on a stream was released: it may be charged for less.
    pub(super) fn settle(&mut self, stream: u64) {
        if let Some(charge) = self.charges.get_mut(&stream) {
            let bytes = charge.settle(self.held);
            self.give_back(bytes);
        }
    }

    /// A stream was held back by its window, `size` at that time.
    pub(super) fn held_back(&mut self, size: usize) {
        if self.budget.is_tight() {
            return self.shrink();
        }
        let larger = (2 * self.size).min(MAX);
        // One change at a time.
        if size != self.size || larger <= self.size || self.news().is_some() {
            return;
        }
        let more = self.charges.values().map(|charge| larger.saturating_sub(charge.bytes)).sum();
        let fits = larger * self.charges.len() <= CONNECTION_WINDOW as usize;
        if fits && self.budget.take_for_growth(more, 0) {
            self.charges.values_mut().for_each(|charge| charge.bytes = larger.max(charge.bytes));
            (self.size, self.held) = (larger, larger);
        }
    }

    /// What the peer has to be told, if anything: another size, or the same again, which shows that it has acknowledged the last one.
    pub(super) fn news(&self) -> Option<usize> {
        (self.size != self.told || self.held > self.told).then_some(self.size)
    }

    /// The peer is being told the size, and has acknowledged what it was told before.
    pub(super) fn told(&mut self) {
        self.held = self.told.max(self.size);
        self.told = self.size;
        let settled = self.charges.values_mut().map(|charge| charge.settle(self.held)).sum();
        self.give_back(settled);
        // Who waits has to have the next smaller one told.
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// Halves the windows that are wanted, unless the peer is being told of ones that leave room enough.
    fn make_room(&mut self) {
        let streams = self.charges.len() + self.waiting.len() + 1;
        if self.news().is_none() || streams * self.size > self.budget.limit() / 2 {
            self.shrink();
        }
    }

    fn has_room(&self, by_peer: bool) -> bool {
        let has = if by_peer { self.budget.has_for_peer(self.held) } else { self.budget.has(self.held) };
        has && (self.charges.len() + 1) * self.held <= CONNECTION_WINDOW as usize
    }

    fn give_back(&mut self, bytes: usize) {
        if bytes > 0 {
            self.budget.give_back(bytes);
            self.waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// Halves the windows that are wanted.
    fn shrink(&mut self) {
        self.size = (self.size / 2).max(MIN);
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.budget.give_back(self.charges.values().map(|charge| charge.bytes).sum());
    }
}

/// How fast a stream uses its window up.
#[derive(Debug, Default)]
pub(super) struct Pace {
    moved: usize,
    last: Option<Instant>,
}

impl Pace {
    /// Bytes have left our buffers; whether the window, of `size`, is what holds the peer back: half of it went within
    /// [`HELD_BACK`] round trips. The time is asked only once half has gone.
    #[must_use]
    pub(super) fn moved(&mut self, bytes: usize, size: usize, rtt: Duration, now: impl FnOnce() -> Instant) -> bool {
        self.moved += bytes;
        if self.moved < size / 2 {
            return false;
        }
        self.moved = 0;
        let now = now();
        let last = self.last.replace(now);
        last.is_some_and(|last| now.saturating_duration_since(last) < HELD_BACK * rtt.max(LEAST_RTT))
    }
}

#[cfg(test)]
mod tests;

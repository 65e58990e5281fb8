//! How much each stream of a tunnel may have under way towards us.
//!
//! HTTP/2 has one size for all streams of a connection, which its receiver may change at any time (SETTINGS_INITIAL_WINDOW_SIZE,
//! RFC 9113 section 6.9.2). It doubles when a stream is held back by it, and halves when the memory budget is short. What all streams
//! have together is taken from the budget.

use super::CONNECTION_WINDOW;
use crate::tunnel::mux::{
    budget::Budget,
    window::{HELD_BACK, LEAST_RTT, MAX, MIN},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The streams' common window, and what it holds of the budget: its size for each stream.
#[derive(Debug)]
pub(super) struct Windows {
    budget: Arc<Budget>,
    size: usize,
    streams: usize,
    told: usize,
}

impl Windows {
    /// Windows of `size` bytes, as the connection's preface tells the peer.
    pub(super) fn new(size: usize, budget: Arc<Budget>) -> Self {
        Self { budget, size, streams: 0, told: size }
    }

    /// Bytes of each stream's window.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Takes a window for a stream that the peer opens (`by_peer`) or that we do; false if the budget has none, however small.
    #[must_use]
    pub(super) fn add(&mut self, by_peer: bool) -> bool {
        loop {
            let fits = (self.streams + 1) * self.size <= CONNECTION_WINDOW as usize;
            let take = || if by_peer { self.budget.take_for_peer(self.size) } else { self.budget.take(self.size) };
            if fits && take() {
                self.streams += 1;
                return true;
            }
            if !self.shrink() {
                return false;
            }
        }
    }

    /// Gives back an ended stream's window.
    pub(super) fn remove(&mut self) {
        self.budget.give_back(self.size);
        self.streams -= 1;
    }

    /// A stream was held back by its window, `size` at that time.
    pub(super) fn held_back(&mut self, size: usize) {
        if self.budget.is_tight() {
            self.shrink();
        } else if size == self.size {
            let larger = (2 * self.size).min(MAX);
            let more = (larger - self.size) * self.streams;
            let fits = larger * self.streams <= CONNECTION_WINDOW as usize;
            if larger > self.size && fits && self.budget.take_for_growth(more) {
                self.size = larger;
            }
        }
    }

    /// Whether the peer has to be told another size.
    pub(super) fn is_news(&self) -> bool {
        self.size != self.told
    }

    /// The peer was told the size.
    pub(super) fn told(&mut self) {
        self.told = self.size;
    }

    /// Halves the windows. The peer hears of it a little later: until then it may have more under way than is counted.
    fn shrink(&mut self) -> bool {
        let smaller = (self.size / 2).max(MIN);
        let less = self.size - smaller;
        self.budget.give_back(less * self.streams);
        self.size = smaller;
        less > 0
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.budget.give_back(self.size * self.streams);
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

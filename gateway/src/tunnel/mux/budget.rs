//! The memory budget: what bounds the sum of all credit that this process has granted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Bytes of credit granted to peers by all streams of all cores, with a limit. Peers may send that much without asking again, so it
/// bounds what can lie in our buffers.
#[derive(Debug)]
pub struct Budget {
    granted: AtomicUsize,
    /// What connections of QUIC have beyond what each begins with.
    windows: AtomicUsize,
    /// Streams that it had nothing for, and that nobody has counted yet.
    refused: AtomicU64,
    limit: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { granted: AtomicUsize::new(0), windows: AtomicUsize::new(0), refused: AtomicU64::new(0), limit }
    }

    /// Takes `bytes` for a stream of our own, if that stays within the limit.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        self.take_for_stream(bytes, self.limit)
    }

    /// Takes `bytes` for a stream that a peer opens: a quarter of the budget is kept for our own, so that no peer can take all.
    #[must_use]
    pub fn take_for_peer(&self, bytes: usize) -> bool {
        self.take_for_stream(bytes, self.limit / 4 * 3)
    }

    /// How many streams it had nothing for since this was last asked.
    pub fn take_refused(&self) -> u64 {
        self.refused.swap(0, Relaxed)
    }

    /// Whether [`Self::take`] would take `bytes` now.
    pub fn has(&self, bytes: usize) -> bool {
        fits(self.granted(), bytes, self.limit).is_some()
    }

    /// Whether [`Self::take_for_peer`] would take `bytes` now.
    pub fn has_for_peer(&self, bytes: usize) -> bool {
        fits(self.granted(), bytes, self.limit / 4 * 3).is_some()
    }

    /// Takes `bytes` for a window to grow, if as many as `left` are left to others then: half of the budget is kept for new streams.
    #[must_use]
    pub fn take_for_growth(&self, bytes: usize, left: usize) -> bool {
        self.take_within(bytes, (self.limit / 2).saturating_sub(left))
    }

    /// Whether windows should shrink: over three quarters are granted.
    pub fn is_tight(&self) -> bool {
        self.granted() > self.limit / 4 * 3
    }

    /// Gives `bytes` back.
    pub fn give_back(&self, bytes: usize) {
        self.granted.fetch_sub(bytes, Relaxed);
    }

    /// Takes `bytes` for the window of a QUIC connection, which bounds what its peer can have us hold whatever credit it has. They
    /// are counted apart from the credit, up to the same limit.
    #[must_use]
    pub fn take_for_connection(&self, bytes: usize) -> bool {
        take_within(&self.windows, bytes, self.limit)
    }

    /// Gives back what connections have taken.
    pub fn give_back_for_connection(&self, bytes: usize) {
        self.windows.fetch_sub(bytes, Relaxed);
    }

    /// Bytes granted now.
    pub fn granted(&self) -> usize {
        self.granted.load(Relaxed)
    }

    /// The limit.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn take_for_stream(&self, bytes: usize, limit: usize) -> bool {
        let taken = self.take_within(bytes, limit);
        if !taken {
            self.note_refused();
        }
        taken
    }

    /// Counts a stream that was refused for want of memory and was not asked for by [`Self::take`] or [`Self::take_for_peer`].
    pub fn note_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    fn take_within(&self, bytes: usize, limit: usize) -> bool {
        take_within(&self.granted, bytes, limit)
    }
}

fn take_within(taken: &AtomicUsize, bytes: usize, limit: usize) -> bool {
    taken.fetch_update(Relaxed, Relaxed, |taken| fits(taken, bytes, limit)).is_ok()
}

/// What is taken with `bytes` more, if that stays within `limit`.
fn fits(taken: usize, bytes: usize, limit: usize) -> Option<usize> {
    taken.checked_add(bytes).filter(|&sum| sum <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_it_has_nothing_for_are_counted_once() {
        let budget = Budget::new(100);
        assert!(budget.take_for_peer(75) && !budget.take_for_peer(1) && budget.take(25) && !budget.take(1));
        assert!(!budget.take_for_growth(1, 0), "a window that does not grow is no refusal");
        assert_eq!((budget.take_refused(), budget.take_refused()), (2, 0));
    }
}

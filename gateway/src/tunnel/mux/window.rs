//! The receiving side's credit of one stream.

use super::budget::Budget;
use std::time::{Duration, Instant};

/// The largest window: 100 ms at 1.3 Gbit/s.
pub const MAX: usize = 16 << 20;

/// A window never shrinks below this.
pub const MIN: usize = 16 << 10;

/// Round trips shorter than this count as this: batching and scheduling delay credit, too.
pub const LEAST_RTT: Duration = Duration::from_micros(500);

/// A peer that goes from one grant to the next within so many round trips is held back by its window. One would do on a path that loses
/// nothing. Where a packet is lost, what came behind it waits for a round trip more, and for another one if the second is lost, too.
pub const HELD_BACK: u32 = 4;

/// How much the peer may send on a stream, and how that changes. `granted + buffered <= size`, but for a while after shrinking.
#[derive(Debug)]
pub struct Window {
    size: usize,
    granted: usize,
    buffered: usize,
    last_grant: Option<Instant>,
}

impl Window {
    /// A window of `size` bytes, all granted. The caller has taken them from the budget.
    pub fn new(size: usize) -> Self {
        Self { size, granted: size, buffered: 0, last_grant: None }
    }

    /// What of the budget it holds.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Counts bytes that came in; whether they were within the credit.
    #[must_use]
    pub fn receive(&mut self, bytes: usize) -> bool {
        let within = bytes <= self.granted;
        if within {
            self.granted -= bytes;
            self.buffered += bytes;
        }
        within
    }

    /// Counts bytes that have left our buffers; how much new credit to send, 0 while it is not worth a frame.
    ///
    /// The window doubles where the peer used half of it up within [`HELD_BACK`] round trips: then the window was what held it back.
    pub fn consume(&mut self, bytes: usize, now: Instant, rtt: Duration, budget: &Budget) -> usize {
        self.buffered = self.buffered.saturating_sub(bytes);
        if self.returnable() < self.size / 2 {
            return 0;
        }
        if budget.is_tight() {
            self.shrink(budget);
        } else if self
            .last_grant
            .is_some_and(|last| now.saturating_duration_since(last) < HELD_BACK * rtt.max(LEAST_RTT))
        {
            self.grow(budget);
        }
        self.last_grant = Some(now);
        let credit = self.returnable();
        self.granted += credit;
        credit
    }

    fn returnable(&self) -> usize {
        self.size.saturating_sub(self.granted + self.buffered)
    }

    fn grow(&mut self, budget: &Budget) {
        let more = self.size.min(MAX.saturating_sub(self.size));
        if more > 0 && budget.take_for_growth(more) {
            self.size += more;
        }
    }

    fn shrink(&mut self, budget: &Budget) {
        let smaller = (self.size / 2).max(MIN);
        // What is granted cannot be taken back: only what was not is given up.
        if smaller < self.size && smaller >= self.granted + self.buffered {
            budget.give_back(self.size - smaller);
            self.size = smaller;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever happens, the budget counts exactly what windows hold, and a peer can never have more in flight than that.
        #[test]
        fn the_budget_bounds_what_peers_may_send(steps in prop::collection::vec((0usize..4, 1usize..100_000, 0u64..3000), 1..200)) {
            let budget = Budget::new(400_000);
            let mut windows: Vec<Window> = (0..4).filter(|_| budget.take(65_536)).map(|_| Window::new(65_536)).collect();
            let mut now = Instant::now();
            for (i, bytes, micros) in steps {
                now += Duration::from_micros(micros);
                let window = &mut windows[i];
                let sent = bytes.min(window.granted);
                prop_assert!(window.receive(sent));
                let out = bytes.min(window.buffered);
                window.consume(out, now, Duration::from_millis(1), &budget);
                prop_assert!(window.granted + window.buffered <= window.size);
                prop_assert_eq!(budget.granted(), windows.iter().map(Window::size).sum::<usize>());
                prop_assert!(budget.granted() <= budget.limit());
            }
        }
    }

    #[test]
    fn a_peer_that_is_held_back_gets_a_larger_window() {
        let (budget, start) = (Budget::new(1 << 30), Instant::now());
        let mut window = Window::new(65_536);
        for i in 0..20 {
            let bytes = window.granted;
            assert!(window.receive(bytes));
            window.consume(bytes, start + i * Duration::from_millis(50), Duration::from_millis(50), &budget);
        }
        assert_eq!(window.size(), MAX);
    }

    #[test]
    fn bytes_beyond_the_credit_are_noticed() {
        let mut window = Window::new(100);
        assert!(window.receive(60));
        assert!(!window.receive(41));
    }
}

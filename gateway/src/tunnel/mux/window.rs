//! The receiving side's credit of one stream.

use super::budget::Budget;
use std::time::{Duration, Instant};

/// The largest window. A connection whose congestion control is BBR has up to three times what the path holds under way while it begins,
/// and goes on beginning as long as something else than the path holds it back: 100 ms at 1.8 Gbit/s.
pub const MAX: usize = 64 << 20;

/// Windows of up to this size grow while there is anything to grow by; larger ones only where four times as much as they have is left.
const MODEST: usize = 1 << 20;

/// A window never shrinks below this.
pub const MIN: usize = 16 << 10;

/// Round trips shorter than this count as this: batching and scheduling delay credit, too.
pub const LEAST_RTT: Duration = Duration::from_micros(500);

/// A peer that goes from one grant to the next within so many round trips is held back by its window. One would do on a path that loses
/// nothing. Where a packet is lost, what came behind it waits for a round trip more, and for another one if the second is lost, too.
pub const HELD_BACK: u32 = 4;

/// Credit that is always worth a frame. Of less, half a window is: and of large windows an eighth, so that most of one is the sender's.
const WORTH_A_FRAME: usize = 256 << 10;

/// How much the peer may send on a stream, and how that changes. `granted + buffered <= size`, but for a while after shrinking.
#[derive(Debug)]
pub struct Window {
    size: usize,
    most: usize,
    granted: usize,
    buffered: usize,
    /// Since when how much was given back.
    returned: Option<(Instant, usize)>,
}

impl Window {
    /// A window of `size` bytes, all granted, that grows up to `most`. The caller has taken them from the budget.
    pub fn new(size: usize, most: usize) -> Self {
        Self { size, most, granted: size, buffered: 0, returned: None }
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
        if self.returnable() < (self.size / 2).min(WORTH_A_FRAME.max(self.size / 8)) {
            return 0;
        }
        let is_half_used = self.returned.is_none_or(|(_, before)| before + self.returnable() >= self.size / 2);
        let within = |since: Instant| now.saturating_duration_since(since) < HELD_BACK * rtt.max(LEAST_RTT);
        let was_held_back = is_half_used && self.returned.is_some_and(|(since, _)| within(since));
        self.returned = match self.returned {
            Some((since, before)) if !is_half_used => Some((since, before + self.returnable())),
            _ => Some((now, 0)),
        };
        if budget.is_tight() {
            self.shrink(budget);
        } else if was_held_back {
            self.grow(budget);
        }
        let credit = self.returnable();
        self.granted += credit;
        credit
    }

    fn returnable(&self) -> usize {
        self.size.saturating_sub(self.granted + self.buffered)
    }

    fn grow(&mut self, budget: &Budget) {
        let more = self.size.min(self.most.saturating_sub(self.size));
        // A few that are large would otherwise have all that there is, and those that come later nothing.
        let left = if self.size + more > MODEST { 4 * self.size } else { 0 };
        if more > 0 && budget.take_for_growth(more, left) {
            self.size += more;
        }
    }

    fn shrink(&mut self, budget: &Budget) {
        // What is granted cannot be taken back: only what was not is given up.
        let smaller = (self.size / 2).max(MIN).max(self.granted + self.buffered);
        if smaller < self.size {
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
            let mut windows: Vec<Window> = (0..4).filter(|_| budget.take(65_536)).map(|_| Window::new(65_536, MAX)).collect();
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
        let mut window = Window::new(65_536, MAX);
        for i in 0..20 {
            let bytes = window.granted;
            assert!(window.receive(bytes));
            window.consume(bytes, start + i * Duration::from_millis(50), Duration::from_millis(50), &budget);
        }
        assert_eq!(window.size(), MAX);
    }

    /// A path of 80 ms that carries 480 Mbit/s, and a sender that has thrice what it holds under way.
    #[test]
    fn a_sender_that_is_not_held_back_hardly_ever_waits_for_credit() {
        let (budget, start, rtt) = (Budget::new(1 << 30), Instant::now(), Duration::from_millis(80));
        let mut window = Window::new(65_536, MAX);
        for ms in 0..10_000_u32 {
            let bytes = window.granted.min(60_000);
            assert!(window.receive(bytes));
            window.consume(bytes, start + ms * Duration::from_millis(1), rtt, &budget);
            assert!(ms < 3_000 || window.granted >= 3 * 80 * 60_000, "{} after {ms} ms", window.granted);
        }
    }

    /// Whatever steps it is read in.
    #[test]
    fn a_large_window_shrinks_when_memory_is_short() {
        for step in [64 << 10, 1 << 20, MAX / 2] {
            let budget = Budget::new(MAX);
            assert!(budget.take(MAX) && budget.is_tight());
            let (mut window, now) = (Window::new(MAX, MAX), Instant::now());
            for _ in 0..4 * MAX / step {
                let bytes = window.granted.min(step);
                assert!(window.receive(bytes));
                window.consume(bytes, now, Duration::from_millis(80), &budget);
            }
            assert!(!budget.is_tight(), "{step}: {}", budget.granted());
            assert_eq!(budget.granted(), window.size());
        }
    }

    /// The first ones take most, and each later one finds something.
    #[test]
    fn streams_that_come_later_find_room_to_grow() {
        let (budget, start) = (Budget::new(256 << 20), Instant::now());
        let sizes: Vec<_> = (0..12)
            .map(|_| {
                assert!(budget.take(65_536));
                let mut window = Window::new(65_536, MAX);
                for i in 0..2000 {
                    let bytes = window.granted.min(window.size() / 2);
                    assert!(window.receive(bytes));
                    window.consume(bytes, start + i * Duration::from_millis(10), Duration::from_millis(80), &budget);
                }
                window.size()
            })
            .collect();
        assert!(sizes[0] == MAX / 2 && sizes.iter().all(|&size| size >= 1 << 20), "{sizes:?}");
    }

    #[test]
    fn bytes_beyond_the_credit_are_noticed() {
        let mut window = Window::new(100, MAX);
        assert!(window.receive(60));
        assert!(!window.receive(41));
    }
}

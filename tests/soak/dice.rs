//! Numbers that look random, and are the same for the same seed.

use isthmus_tests::pattern::split_mix;

/// A row of numbers.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The row of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        split_mix(&mut self.0)
    }

    /// A number of `from..to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// A number of `from..to`, small ones as likely as large ones: by its order of magnitude.
    pub(crate) fn of_any_size(&mut self, from: u64, to: u64) -> u64 {
        let bits = u64::from((to / from.max(1)).ilog2()) + 1;
        let up_to = (from.max(1) << self.between(1, bits + 1)).min(to);
        self.between(from, up_to.max(from + 1))
    }
}

//! Chance that can be repeated: SplitMix64, which is good enough for dice and needs no crate.

use std::time::Duration;

/// A sequence that its seed determines.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// True with probability `p`. Of 0 and less it draws nothing.
    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.unit() < p
    }

    /// Any duration from nothing to `limit`, all alike.
    pub fn up_to(&mut self, limit: Duration) -> Duration {
        if limit.is_zero() { limit } else { limit.mul_f64(self.unit()) }
    }

    /// Any number of [0, 1), all alike.
    fn unit(&mut self) -> f64 {
        // 53 bits: as many as a double holds.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_published_sequence() {
        let mut random = Random::new(1_234_567);
        // From the reference implementation by Sebastiano Vigna.
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423_u64];
        assert_eq!(expected.map(|_| random.next()), expected);
    }

    #[test]
    fn chances_are_what_they_say() {
        let mut random = Random::new(7);
        assert!((0..1000).all(|_| !random.chance(0.0)) && (0..1000).all(|_| random.chance(1.0)));
        let hits = (0..100_000).filter(|_| random.chance(0.01)).count();
        // Six standard deviations around 1,000.
        assert!((811..=1189).contains(&hits), "{hits}");
    }
}

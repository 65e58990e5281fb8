//! ● A token bucket that many cores take from: one number, the time at which it will be full again (GCRA).

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The longest that everybody waits for what one has taken too much, in nanoseconds.
const DEBT: u64 = 2_000_000_000;
/// The most that who has much takes at once: others have their turn between.
pub const PORTION: u64 = 16 * 1024;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens a second; at least 1.
    per_second: u64,
    /// What it holds, in nanoseconds of filling.
    holds: u64,
}

/// A bucket, full at first. Times are nanoseconds since an instant that its users agree on.
#[derive(Debug, Default)]
pub struct Bucket {
    full_at: AtomicU64,
}

impl Rate {
    /// So many tokens a second; it holds what comes in `burst`, and one token at least.
    pub fn new(per_second: u64, burst: Duration) -> Self {
        let per_second = per_second.max(1);
        let one = 1_000_000_000_u64.div_ceil(per_second);
        Self { per_second, holds: u64::try_from(burst.as_nanos()).unwrap_or(u64::MAX / 4).max(one) }
    }

    /// One that is half as fast.
    #[must_use]
    pub fn half(self) -> Self {
        Self { per_second: (self.per_second / 2).max(1), holds: self.holds }
    }

    /// What who has much takes at once: what the bucket holds, and 16 Ki at most.
    pub fn portion(self) -> usize {
        let holds = u128::from(self.holds) * u128::from(self.per_second) / 1_000_000_000;
        // It is between the two.
        usize::try_from(holds.clamp(1, PORTION.into())).unwrap_or(1)
    }

    /// How long `tokens` take to come, in nanoseconds.
    fn time_of(self, tokens: u64) -> u64 {
        u64::try_from(u128::from(tokens) * 1_000_000_000 / u128::from(self.per_second)).unwrap_or(u64::MAX / 4)
    }
}

impl Bucket {
    /// Takes `tokens` if they are all there.
    pub fn take(&self, tokens: u64, rate: Rate, now: u64) -> bool {
        let taken = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| {
            let next = full_at.max(now).saturating_add(rate.time_of(tokens));
            (next - now <= rate.holds).then_some(next)
        });
        taken.is_ok()
    }

    /// Gives tokens back that were taken.
    pub fn give_back(&self, tokens: u64, rate: Rate) {
        let less = |full_at: u64| Some(full_at.saturating_sub(rate.time_of(tokens)));
        // It cannot fail: there is always a next value.
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, less);
    }

    /// Takes `tokens`, which are no more than it holds, if they are all there; how long until they are, if they are not.
    pub fn take_or_wait(&self, tokens: u64, rate: Rate, now: u64) -> Result<(), Duration> {
        let after = |full_at: u64| full_at.max(now).saturating_add(rate.time_of(tokens));
        let missing = |full_at: u64| after(full_at).saturating_sub(now).saturating_sub(rate.holds);
        let taken =
            self.full_at.fetch_update(Relaxed, Relaxed, |full_at| (missing(full_at) == 0).then(|| after(full_at)));
        taken.map(drop).map_err(|full_at| Duration::from_nanos(missing(full_at)))
    }

    /// Takes `tokens`, there or not: what is missing has to come before [`Self::wait`] is over. No more than [`DEBT`] is ever missing:
    /// the rest is forgiven.
    pub fn charge(&self, tokens: u64, rate: Rate, now: u64) {
        let most = now.saturating_add(rate.holds).saturating_add(DEBT);
        let charge = |full_at: u64| Some(full_at.max(now).saturating_add(rate.time_of(tokens)).min(most.max(full_at)));
        // It cannot fail: there is always a next value.
        let _ = self.full_at.fetch_update(Relaxed, Relaxed, charge);
    }

    /// How long until nothing is missing; `None` if nothing is.
    pub fn wait(&self, rate: Rate, now: u64) -> Option<Duration> {
        let missing = self.full_at.load(Relaxed).saturating_sub(now).saturating_sub(rate.holds);
        (missing > 0).then(|| Duration::from_nanos(missing))
    }

    /// Whether it is as if it had never been used.
    pub fn is_full(&self, now: u64) -> bool {
        self.full_at.load(Relaxed) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn it_holds_a_burst_and_fills_at_its_rate() {
        let (bucket, rate) = (Bucket::default(), Rate::new(10, Duration::from_secs(1)));
        assert_eq!((0..20).filter(|_| bucket.take(1, rate, 0)).count(), 10);
        assert_eq!((0..20).filter(|_| bucket.take(1, rate, SECOND / 2)).count(), 5);
        assert!(!bucket.is_full(SECOND) && bucket.is_full(3 * SECOND));
        assert_eq!((0..20).filter(|_| bucket.take(1, rate, 9 * SECOND)).count(), 10, "and holds no more");
    }

    #[test]
    fn what_is_given_back_is_there_again() {
        let (bucket, rate) = (Bucket::default(), Rate::new(10, Duration::from_secs(1)));
        for _ in 0..100 {
            assert!(bucket.take(1, rate, SECOND));
            bucket.give_back(1, rate);
        }
        assert_eq!((0..20).filter(|_| bucket.take(1, rate, SECOND)).count(), 10);
    }

    #[test]
    fn a_slow_one_holds_one_token() {
        let (bucket, rate) = (Bucket::default(), Rate::new(1, Duration::ZERO));
        assert!(bucket.take(1, rate, 0) && !bucket.take(1, rate, SECOND - 1) && bucket.take(1, rate, SECOND));
    }

    #[test]
    fn who_has_to_wait_is_told_how_long_and_takes_nothing_meanwhile() {
        let (bucket, rate) = (Bucket::default(), Rate::new(1000, Duration::from_millis(100)));
        assert_eq!(bucket.take_or_wait(100, rate, 0), Ok(()));
        let wait = Err(Duration::from_millis(60));
        assert_eq!([bucket.take_or_wait(60, rate, 0), bucket.take_or_wait(60, rate, 0)], [wait, wait]);
        assert_eq!(bucket.take_or_wait(60, rate, 60_000_000), Ok(()));
    }

    #[test]
    fn a_portion_is_what_it_holds_and_no_more_than_others_can_wait_for() {
        let portion = |per_second| Rate::new(per_second, Duration::from_millis(100)).portion();
        assert_eq!([1, 1000, 100_000, 1 << 30].map(portion), [1, 100, 10_000, 16 * 1024]);
    }

    #[test]
    fn what_was_charged_too_much_is_waited_for() {
        let (bucket, rate) = (Bucket::default(), Rate::new(1000, Duration::from_millis(100)));
        bucket.charge(100, rate, 0);
        assert_eq!(bucket.wait(rate, 0), None);
        bucket.charge(50, rate, 0);
        assert_eq!(bucket.wait(rate, 0), Some(Duration::from_millis(50)));
        assert_eq!(bucket.wait(rate, 50_000_000), None);
    }

    #[test]
    fn a_debt_has_an_end() {
        let (bucket, rate) = (Bucket::default(), Rate::new(1000, Duration::from_millis(100)));
        bucket.charge(u64::MAX, rate, 0);
        bucket.charge(1_000_000, rate, SECOND);
        assert_eq!(bucket.wait(rate, SECOND), Some(Duration::from_nanos(DEBT)));
    }

    proptest! {
        /// In no span of time does it give more than it held and what came.
        #[test]
        fn it_never_gives_more_than_its_rate(
            per_second in 1_u64..100_000,
            burst_ms in 0_u64..2_000,
            steps in prop::collection::vec((0_u64..100_000_000, 1_u64..50), 1..100),
        ) {
            let (bucket, rate) = (Bucket::default(), Rate::new(per_second, Duration::from_millis(burst_ms)));
            let (mut now, mut given) = (0_u64, vec![]);
            for (pause, tokens) in steps {
                now += pause;
                if bucket.take(tokens, rate, now) {
                    given.push((now, tokens));
                }
            }
            for (i, &(first, _)) in given.iter().enumerate() {
                let mut sum = 0_u128;
                for &(at, tokens) in &given[i..] {
                    sum += u128::from(tokens);
                    let most = u128::from(rate.holds + at - first) * u128::from(per_second) / u128::from(SECOND);
                    // A nanosecond is lost at each taking at most.
                    prop_assert!(sum <= most + 1 + given.len() as u128 * u128::from(per_second) / u128::from(SECOND));
                }
            }
        }

        /// Who waits as long as he is told has what he wants, if nobody else takes it.
        #[test]
        fn what_is_waited_for_is_there(per_second in 1_000_u64..10_000_000, takes in prop::collection::vec(1_u64..100, 1..50)) {
            let (bucket, rate) = (Bucket::default(), Rate::new(per_second, Duration::from_millis(100)));
            let mut now = 0;
            for tokens in takes {
                if let Err(wait) = bucket.take_or_wait(tokens, rate, now) {
                    now += u64::try_from(wait.as_nanos()).unwrap();
                    prop_assert_eq!(bucket.take_or_wait(tokens, rate, now), Ok(()));
                }
            }
        }

        /// Who waits as long as it says may go on.
        #[test]
        fn waiting_is_enough(per_second in 1_u64..10_000_000, charges in prop::collection::vec(1_u64..100_000, 1..20)) {
            let (bucket, rate) = (Bucket::default(), Rate::new(per_second, Duration::from_millis(100)));
            let mut now = 0;
            for bytes in charges {
                bucket.charge(bytes, rate, now);
                now += bucket.wait(rate, now).map_or(0, |wait| u64::try_from(wait.as_nanos()).unwrap());
                prop_assert_eq!(bucket.wait(rate, now), None);
            }
        }
    }
}

//! ● How many streams may be tried again: a share of those that live, and some a second.
//!
//! Where half of the endpoints fail under load, trying each stream twice doubles the load. With a budget it grows by the budget.

use super::bucket::{Bucket, Rate};
use isthmus_control_api::Retries;
use std::time::Duration;

/// How long what is not used is kept: a service that is idle may try all of a burst again.
const KEPT: Duration = Duration::from_secs(10);

/// Whether one more may be tried again, where `retrying` of `live` streams are: by the share, or by what comes every second.
pub fn allows(budget: &Retries, retrying: u32, live: u32, bucket: &Bucket, now: u64) -> bool {
    let share = u64::from(live) * u64::from(budget.percent) / 100;
    u64::from(retrying) < share
        || budget.per_second > 0 && bucket.take(1, Rate::new(budget.per_second.into(), KEPT), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_share_of_what_lives_may_be_tried_again() {
        let (budget, bucket) = (Retries { percent: 20, per_second: 0 }, Bucket::default());
        assert!(allows(&budget, 19, 100, &bucket, 0));
        assert!(!allows(&budget, 20, 100, &bucket, 0));
        assert!(!allows(&budget, 0, 4, &bucket, 0));
    }

    #[test]
    fn an_idle_service_may_try_again_as_well() {
        let (budget, bucket) = (Retries::default(), Bucket::default());
        assert_eq!((0..500).filter(|_| allows(&budget, 0, 1, &bucket, 0)).count(), 100);
        assert_eq!((0..500).filter(|_| allows(&budget, 0, 1, &bucket, SECOND)).count(), 10);
    }

    proptest! {
        /// However many streams fail at once, what is tried again beyond the share is bounded by time.
        #[test]
        fn a_storm_is_bounded(percent in 0_u32..=100, per_second in 0_u32..100, live in 0_u32..10_000, seconds in 0_u64..60) {
            let (budget, bucket) = (Retries { percent, per_second }, Bucket::default());
            let mut retrying = 0;
            for second in 0..=seconds {
                while retrying <= 20_000 && allows(&budget, retrying, live, &bucket, second * SECOND) {
                    retrying += 1;
                }
            }
            let share = u64::from(live) * u64::from(percent) / 100;
            prop_assert!(u64::from(retrying) <= share + u64::from(per_second) * (10 + seconds + 1));
        }
    }
}

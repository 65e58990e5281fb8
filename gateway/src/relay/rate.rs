//! ● A bound on bytes a second that several cores share without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// What may be sent at once after a pause, as the time that it would take.
const BURST: Duration = Duration::from_millis(100);

/// Bytes are sent first and paid for with waiting afterwards, so none is ever held back for being part of a large piece. Times are
/// counted from one beginning that all users share.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When what was sent will have been paid for, in nanoseconds.
    paid_at: AtomicU64,
}

impl Rate {
    /// How long to wait before more is sent.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        Duration::from_nanos(self.paid_at.load(Relaxed)).saturating_sub(now)
    }

    /// `bytes` were sent, where `per_second` may be. Zero counts as one.
    pub(super) fn sent(&self, bytes: usize, per_second: u64, now: Duration) {
        let cost = bytes as u128 * 1_000_000_000 / u128::from(per_second.max(1));
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let earliest = nanos(now.saturating_sub(BURST));
        let pay = |at: u64| Some(at.max(earliest).saturating_add(cost));
        // It cannot fail: `pay` never says no.
        let _ = self.paid_at.fetch_update(Relaxed, Relaxed, pay);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is sent and whenever it is tried, no more goes than the rate, a burst and the last piece allow.
        #[test]
        fn the_rate_is_kept(
            per_second in 1_000u64..1_000_000,
            tries in prop::collection::vec((0u64..50, 1usize..100_000), 1..200),
        ) {
            let (rate, mut now, mut sent, mut largest) = (Rate::default(), Duration::from_secs(1), 0u64, 0u64);
            let begin = now;
            for (pause, piece) in tries {
                now += Duration::from_millis(pause);
                if rate.wait(now).is_zero() {
                    rate.sent(piece, per_second, now);
                    sent += piece as u64;
                    largest = largest.max(piece as u64);
                }
            }
            let time = (now - begin + BURST).as_secs_f64();
            prop_assert!(sent as f64 <= time * per_second as f64 + largest as f64 + 1.0);
        }

        /// Who waits as long as it says may send.
        #[test]
        fn waiting_is_enough(per_second in 1_000u64..1_000_000, piece in 1usize..10_000_000) {
            let (rate, now) = (Rate::default(), Duration::from_secs(1));
            rate.sent(piece, per_second, now);
            prop_assert!(rate.wait(now + rate.wait(now)).is_zero());
        }
    }
}

//! When to renew an SVID: at about half its life, so that there is as much time again to notice that renewing fails.
//!
//! Pure: the time and the random numbers come from the caller.

use crate::Validity;
use std::time::{Duration, SystemTime};

/// The longest wait after a failure.
const LONGEST_RETRY: Duration = Duration::from_mins(5);

/// The wait after the first failure, before jitter.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// When the SVID of the moment is to be renewed. Gateways that started together do not renew together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    validity: Validity,
    planned: SystemTime,
    failures: u32,
    retry: Option<SystemTime>,
}

impl Renewal {
    /// Plans the renewal of an SVID at 45% to 55% of its life; `random` is in [0, 1).
    pub fn plan(validity: Validity, random: f64) -> Self {
        let share = 0.45 + 0.1 * random.clamp(0.0, 1.0);
        let planned = validity.not_before + validity.lifetime().mul_f64(share);
        Self { validity, planned, failures: 0, retry: None }
    }

    /// The moment to renew at.
    pub fn at(&self) -> SystemTime {
        self.retry.unwrap_or(self.planned)
    }

    /// Whether it is time. An SVID that is not valid yet is renewed at once: this clock was wrong, then or now.
    pub fn due(&self, now: SystemTime) -> bool {
        match self.retry {
            // Further away than any wait: the clock was set back since.
            Some(at) => now >= at || at.duration_since(now).is_ok_and(|wait| wait > LONGEST_RETRY),
            None => now >= self.planned || now < self.validity.not_before,
        }
    }

    /// How long until [`Self::due`].
    pub fn wait(&self, now: SystemTime) -> Duration {
        if self.due(now) { Duration::ZERO } else { self.at().duration_since(now).unwrap_or_default() }
    }

    /// Renewing failed: tries again after a wait that doubles up to five minutes, half of it jitter.
    pub fn failed(&mut self, now: SystemTime, random: f64) {
        let longest = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.retry = Some(now + longest.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0)));
    }

    /// How many times in a row renewing has failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// What is wrong with an SVID of this validity at `now`, in one line: it is over, or it should have been replaced by now. `own`: this
/// process renews it, at about half its life; whoever else does may take longer.
pub fn overdue(validity: Validity, own: bool, now: SystemTime) -> Option<String> {
    let due = if own { OWN_DUE } else { FOREIGN_DUE };
    let by_whom = if own { "this gateway has not been able to renew it" } else { "nobody has replaced it" };
    if now < validity.not_before {
        let wait = validity.not_before.duration_since(now).unwrap_or_default().as_secs();
        return Some(format!("the SVID begins in {wait} s: this clock is behind the one that it was made by"));
    }
    if now > validity.not_after {
        let ago = now.duration_since(validity.not_after).unwrap_or_default().as_secs();
        return Some(format!("the SVID ended {ago} s ago: peers refuse new tunnels; {by_whom}"));
    }
    let left = validity.remaining(now).as_secs();
    let late = now > validity.not_before + validity.lifetime().mul_f64(due);
    late.then(|| format!("the SVID ends in {left} s, and its renewal is overdue: {by_whom}"))
}

/// The part of an SVID's life after which its renewal is overdue: it is due at 0.55, at the latest, and tried often from then on.
const OWN_DUE: f64 = 0.65;
/// The same where somebody else renews it: cert-manager does so at two thirds.
const FOREIGN_DUE: f64 = 0.8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_svid_that_should_have_been_renewed_says_so() {
        let validity = validity(1_000, 1_000);
        let at = |seconds, own| overdue(validity, own, UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!((at(1_600, true), at(1_700, false)), (None, None));
        let late = "the SVID ends in 300 s, and its renewal is overdue: this gateway has not been able to renew it";
        assert_eq!(at(1_700, true).as_deref(), Some(late));
        assert!(at(1_850, false).unwrap().contains("overdue: nobody has replaced it"));
        assert!(at(2_100, true).unwrap().starts_with("the SVID ended 100 s ago"));
        assert!(at(900, true).unwrap().starts_with("the SVID begins in 100 s: this clock is behind"));
    }
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    fn validity(start: u64, lifetime: u64) -> Validity {
        let not_before = UNIX_EPOCH + Duration::from_secs(start);
        Validity { not_before, not_after: not_before + Duration::from_secs(lifetime) }
    }

    proptest! {
        #[test]
        fn a_renewal_is_due_about_halfway(start in 0u64..1 << 33, lifetime in 10u64..1 << 30, random in 0.0..1.0) {
            let validity = validity(start, lifetime);
            let renewal = Renewal::plan(validity, random);
            let life = validity.lifetime();
            prop_assert!(!renewal.due(validity.not_before));
            prop_assert!(!renewal.due(validity.not_before + life.mul_f64(0.44)));
            prop_assert!(renewal.due(validity.not_before + life.mul_f64(0.56)));
            prop_assert!(renewal.due(validity.not_after + life));
            prop_assert_eq!(renewal.wait(renewal.at()), Duration::ZERO);
        }

        #[test]
        fn the_wait_leads_to_the_due_moment(random in 0.0..1.0, at in 0u64..200, failures in 0u32..40) {
            let start = validity(1_000_000, 100);
            let mut renewal = Renewal::plan(start, random);
            let now = start.not_before + Duration::from_secs(at);
            for _ in 0..failures {
                renewal.failed(now, random);
            }
            let wait = renewal.wait(now);
            prop_assert!(renewal.due(now + wait));
            prop_assert_eq!(renewal.due(now), wait.is_zero());
            prop_assert_eq!(renewal.failures(), failures);
        }

        #[test]
        fn failures_wait_longer_but_never_long(random in 0.0..1.0, failures in 1u32..100) {
            let mut renewal = Renewal::plan(validity(1_000_000, 86_400), random);
            let now = renewal.at();
            for _ in 0..failures {
                renewal.failed(now, random);
            }
            let nominal = FIRST_RETRY.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_RETRY);
            prop_assert!(renewal.wait(now) >= nominal / 2 && renewal.wait(now) <= nominal);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_makes_it_due() {
        let validity = validity(1_000_000, 86_400);
        let mut renewal = Renewal::plan(validity, 0.5);
        assert!(renewal.due(validity.not_before - Duration::from_secs(1)));
        let now = renewal.at();
        renewal.failed(now, 0.5);
        assert!(!renewal.due(now));
        assert!(renewal.due(now - Duration::from_hours(24)));
    }

    #[test]
    fn an_svid_without_a_life_is_due_at_once() {
        let over = validity(1_000_000, 0);
        assert!(Renewal::plan(over, 0.9).due(over.not_after));
    }
}

//! ● When a direct path is tried, and who dials.

use super::message::Role;
use std::time::{Duration, Instant};

/// The wait after the first two attempts, one in each role, have failed; it doubles from there.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_mins(5);
/// A direct tunnel that lived so long was a good one: the next wait is a short one.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// The attempts beside one link's relayed tunnels. The side that keeps this dials in the first, the other side in the second, and so on: some
/// NATs let in only those who come from one of the two.
#[derive(Debug)]
pub(in crate::peer) struct Schedule {
    attempts: u32,
    failures: u32,
    next: Instant,
    /// Since when there is a direct tunnel, by what was last heard.
    since: Option<Instant>,
    /// An attempt has begun, and nothing was said of how it ended.
    under_way: bool,
}

impl Schedule {
    /// The first attempt is due.
    pub(in crate::peer) fn new(now: Instant) -> Self {
        Self { attempts: 0, failures: 0, next: now, since: None, under_way: false }
    }

    /// There is a relayed tunnel again: an attempt that the end of the last one has cut off has failed.
    pub(super) fn resume(&mut self, now: Instant, random: u64) {
        if self.under_way {
            self.failed(now, random);
        }
    }

    /// When the next attempt is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// An attempt begins: what this side does.
    pub(super) fn begin(&mut self, now: Instant) -> Role {
        if self.since.take().is_some_and(|since| now.saturating_duration_since(since) >= GOOD_LIFE) {
            self.failures = 0;
        }
        let role = if self.attempts.is_multiple_of(2) { Role::Dial } else { Role::Wait };
        self.attempts = self.attempts.wrapping_add(1);
        self.under_way = true;
        role
    }

    /// The next attempt is not due before `at`.
    pub(super) fn not_before(&mut self, at: Instant) {
        self.next = self.next.max(at);
    }

    /// It led to a direct tunnel. If that is lost soon, the next attempt waits as after a failure.
    pub(super) fn worked(&mut self, now: Instant, random: u64) {
        self.since = Some(now);
        // The same side dials again: that is what worked.
        self.attempts = self.attempts.wrapping_sub(1);
        self.put_off(now, random);
    }

    /// It did not.
    pub(super) fn failed(&mut self, now: Instant, random: u64) {
        self.put_off(now, random);
        if self.failures == 1 {
            self.next = now;
        }
    }

    fn put_off(&mut self, now: Instant, random: u64) {
        self.under_way = false;
        let wait = LONGEST.min(FIRST * (1 << self.failures.saturating_sub(1).min(9)));
        self.failures = self.failures.saturating_add(1);
        // Up to a quarter more, so that many do not try at once.
        let jitter = ((wait / 4).as_nanos() * u128::from(random)) >> 64;
        self.next = now + wait + Duration::from_nanos(jitter as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_side_dials_once_at_once_and_then_waits_grow() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now);
        assert_eq!((schedule.next(), schedule.begin(now)), (now, Role::Dial));
        schedule.failed(now, 0);
        assert_eq!((schedule.next(), schedule.begin(now)), (now, Role::Wait));
        let mut waits = vec![];
        for _ in 0..11 {
            schedule.failed(now, 0);
            waits.push((schedule.next() - now).as_secs());
            now = schedule.next();
            schedule.begin(now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn what_worked_is_done_again_soon_if_it_worked_for_long() {
        let now = Instant::now();
        for (life, waits) in [(GOOD_LIFE, [0, 1]), (Duration::ZERO, [8, 16])] {
            let mut schedule = Schedule::new(now);
            for _ in 0..3 {
                schedule.begin(now);
                schedule.failed(now, 0);
            }
            assert_eq!(schedule.begin(now), Role::Wait);
            schedule.worked(now, 0);
            assert!(schedule.next() > now, "a tunnel that is lost at once is not tried at once");
            let lost = now + life.max(schedule.next() - now);
            assert_eq!(schedule.begin(lost), Role::Wait);
            let failed = waits.map(|_| {
                schedule.failed(lost, 0);
                (schedule.next() - lost).as_secs()
            });
            assert_eq!(failed, waits);
        }
    }

    #[test]
    fn who_breaks_the_relayed_tunnel_is_not_tried_with_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        let waits = [0, 1, 2, 4].map(|_| {
            schedule.begin(now);
            schedule.resume(now, 0);
            (schedule.next() - now).as_secs()
        });
        assert_eq!(waits, [0, 1, 2, 4]);
        let next = schedule.next();
        schedule.resume(now, 0);
        assert_eq!(schedule.next(), next, "none was under way");
    }

    proptest! {
        #[test]
        fn waits_are_bounded(randoms in prop::collection::vec(any::<u64>(), 1..50)) {
            let now = Instant::now();
            let mut schedule = Schedule::new(now);
            for random in randoms {
                schedule.begin(now);
                schedule.failed(now, random);
                prop_assert!(schedule.next() - now <= LONGEST + LONGEST / 4);
            }
        }
    }
}

//! ● When a cluster may have us try for a direct path: one attempt at a time, not one right after the other, and seldom once they fail.
//!
//! The proposer's own [`Schedule`] is never faster, so none of an honest one's attempts is refused.

use super::{ATTEMPT, schedule::Schedule};
use isthmus_control_api::ClusterName;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

/// The longest wait that is asked of a cluster: one that has restarted begins with short ones again.
const LONGEST: Duration = Duration::from_secs(30);
/// What was not heard of for so long is forgotten.
const MEMORY: Duration = Duration::from_mins(10);

/// One core's.
#[derive(Default)]
pub(crate) struct Turns(RefCell<BTreeMap<ClusterName, Attempts>>);

/// A cluster's attempts.
struct Attempts {
    schedule: Schedule,
    begun: Instant,
    under_way: bool,
}

/// A cluster's turn, until it is dropped: it has failed if it was not said to have worked.
pub(super) struct Turn {
    turns: Rc<Turns>,
    cluster: ClusterName,
    worked: bool,
}

/// Why it is not its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotNow {
    /// One at a time.
    #[error("another attempt at a direct path is under way")]
    UnderWay,
    /// The last one was a short time ago.
    #[error("the next attempt at a direct path may begin in {} s", .0.as_secs() + 1)]
    Early(Duration),
}

impl Turns {
    /// The cluster's turn.
    ///
    /// # Errors
    /// It has one now, or had one a short time ago.
    pub(super) fn take(self: &Rc<Self>, cluster: &ClusterName, now: Instant) -> Result<Turn, NotNow> {
        let mut all = self.0.borrow_mut();
        all.retain(|_, of| of.under_way || now.saturating_duration_since(of.begun) < MEMORY);
        let new = || Attempts { schedule: Schedule::new(now), begun: now, under_way: false };
        let attempts = all.entry(cluster.clone()).or_insert_with(new);
        let wait = attempts.next().saturating_duration_since(now);
        if attempts.under_way {
            return Err(NotNow::UnderWay);
        } else if !wait.is_zero() {
            return Err(NotNow::Early(wait));
        }
        attempts.schedule.begin(now);
        (attempts.begun, attempts.under_way) = (now, true);
        Ok(Turn { turns: Rc::clone(self), cluster: cluster.clone(), worked: false })
    }
}

impl Attempts {
    fn next(&self) -> Instant {
        self.schedule.next().min(self.begun + LONGEST)
    }
}

impl Turn {
    /// There is a direct tunnel.
    pub(super) fn worked(mut self) {
        self.worked = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.turns.0.borrow_mut();
        let Some(attempts) = all.get_mut(&self.cluster) else { return };
        attempts.under_way = false;
        // Waits are counted from the beginning: the other side may have known the end before us.
        let begun = attempts.begun;
        if self.worked {
            attempts.schedule.worked(begun, 0);
        } else {
            attempts.schedule.failed(begun, 0);
        }
        attempts.schedule.not_before(begun + ATTEMPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    #[test]
    fn a_cluster_has_one_turn_at_a_time_and_keeps_no_other_out() {
        let (turns, now) = (Rc::new(Turns::default()), Instant::now());
        let _west = turns.take(&name("west"), now).unwrap();
        assert_eq!(turns.take(&name("west"), now + LONGEST).err(), Some(NotNow::UnderWay));
        assert!(turns.take(&name("north"), now).is_ok());
    }

    #[test]
    fn the_next_attempt_waits_and_longer_after_failures() {
        let (turns, mut now) = (Rc::new(Turns::default()), Instant::now());
        let mut waits = vec![];
        for _ in 0..8 {
            drop(turns.take(&name("west"), now).unwrap());
            let Err(NotNow::Early(wait)) = turns.take(&name("west"), now) else { panic!("it is early") };
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [3, 3, 3, 4, 8, 16, 30, 30]);
        // Even one that works is not followed at once.
        turns.take(&name("west"), now).unwrap().worked();
        assert!(matches!(turns.take(&name("west"), now).err(), Some(NotNow::Early(wait)) if wait >= ATTEMPT));
    }

    #[test]
    fn clusters_that_were_not_heard_of_are_forgotten() {
        let (turns, now) = (Rc::new(Turns::default()), Instant::now());
        for n in 0..100 {
            drop(turns.take(&name(&format!("c{n}")), now));
        }
        drop(turns.take(&name("west"), now + MEMORY));
        assert_eq!(turns.0.borrow().len(), 1);
    }

    proptest! {
        /// Attempts that take as long as they may, each begun when the proposer's schedule says.
        #[test]
        fn a_proposer_that_keeps_its_schedule_is_never_refused(tries in prop::collection::vec(any::<(bool, u64, u8)>(), 1..40)) {
            let (turns, mut now) = (Rc::new(Turns::default()), Instant::now());
            let mut schedule = Schedule::new(now);
            for (works, random, life) in tries {
                now = now.max(schedule.next());
                schedule.begin(now);
                let turn = turns.take(&name("west"), now);
                prop_assert!(turn.is_ok(), "{:?}", turn.err());
                now += ATTEMPT;
                if works {
                    turn.unwrap().worked();
                    schedule.worked(now, random);
                    now += Duration::from_secs(life.into());
                } else {
                    drop(turn);
                    schedule.failed(now, random);
                }
            }
        }
    }
}

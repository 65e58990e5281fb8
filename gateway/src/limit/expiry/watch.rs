//! ● Looks at a stream now and then: whoever moves bytes notes no times.

use super::Expired;
use isthmus_control_api::Timeouts;
use std::time::{Duration, Instant};

/// Looks within each time: a stream ends so much of it too late at most.
const LOOKS: u32 = 8;

/// One stream.
#[derive(Debug)]
pub(super) struct Watch {
    timeouts: Timeouts,
    begun: Instant,
    /// Bytes at the last look, and when that was if there were fewer before.
    seen: u64,
    moved: Instant,
    /// Since when the client has said something and the endpoint nothing.
    asked: Option<Instant>,
}

/// What a stream has done by now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Bytes from the client.
    pub(super) up: u64,
    /// Bytes from the endpoint.
    pub(super) down: u64,
    /// A rate has held it since the last look: nobody is to blame for silence.
    pub(super) held: bool,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    LookAt(Instant),
    Over(Expired),
}

impl Watch {
    /// A stream that begins; `None` if nothing ends it.
    pub(super) fn new(timeouts: &Timeouts, now: Instant) -> Option<Self> {
        let Timeouts { connect: _, first_byte, idle, max_age } = timeouts;
        (first_byte.is_some() || idle.is_some() || max_age.is_some()).then(|| Self {
            timeouts: timeouts.clone(),
            begun: now,
            seen: 0,
            moved: now,
            asked: None,
        })
    }

    /// Whether it has taken too long.
    pub(super) fn look(&mut self, now: Instant, Look { up, down, held }: Look) -> Next {
        let total = up.saturating_add(down);
        if held || total != self.seen {
            (self.seen, self.moved) = (total, now);
        }
        self.asked = if up > 0 && down == 0 { self.asked.filter(|_| !held).or(Some(now)) } else { None };
        let waits_for_first = self.timeouts.first_byte.filter(|_| down == 0);
        let times = [
            (self.timeouts.max_age, Some(self.begun), None, Expired::MaxAge),
            (waits_for_first, self.asked, waits_for_first, Expired::FirstByte),
            (self.timeouts.idle, Some(self.moved), self.timeouts.idle, Expired::Idle),
        ];
        let mut next: Option<Instant> = None;
        for (time, since, looks, expired) in times {
            let Some(time) = time else { continue };
            let over = since.map(|since| since + time);
            if over.is_some_and(|over| over <= now) {
                return Next::Over(expired);
            }
            let look = looks.map(|time| now + (time / LOOKS).max(Duration::from_millis(1)));
            next = [next, over, look].into_iter().flatten().min();
        }
        // Something ends it, or there would be no watch; but not a first byte that has come.
        Next::LookAt(next.unwrap_or(now + Duration::from_secs(3600)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// When a stream of these moves ends, and by what; looked at when the watch says.
    fn end(timeouts: &Timeouts, moves: &[(Duration, bool)], until: Duration) -> Option<(Duration, Expired)> {
        let start = Instant::now();
        let mut watch = Watch::new(timeouts, start).unwrap();
        let mut now = start;
        while now - start <= until {
            let done = |is_up| moves.iter().filter(|&&(at, up)| up == is_up && start + at <= now).count() as u64;
            match watch.look(now, Look { up: done(true), down: done(false), held: false }) {
                Next::Over(expired) => return Some((now - start, expired)),
                Next::LookAt(at) => {
                    assert!(at > now, "it looks on");
                    now = at;
                }
            }
        }
        None
    }

    #[test]
    fn without_timeouts_there_is_nothing_to_watch() {
        let connect = Timeouts { connect: Some(SECOND), ..Timeouts::default() };
        assert!(Watch::new(&connect, Instant::now()).is_none());
    }

    #[test]
    fn what_a_rate_holds_is_not_silent() {
        let timeouts = Timeouts { first_byte: Some(SECOND), idle: Some(SECOND * 2), ..Timeouts::default() };
        let start = Instant::now();
        let mut watch = Watch::new(&timeouts, start).unwrap();
        let mut look = |at: u32, held| watch.look(start + SECOND * at, Look { up: 1, down: 0, held });
        for at in 0..60 {
            assert!(matches!(look(at, true), Next::LookAt(_)), "after {at} s");
        }
        assert_eq!(look(60, false), Next::Over(Expired::FirstByte));
        let aged = Timeouts { max_age: Some(SECOND), ..Timeouts::default() };
        let mut watch = Watch::new(&aged, start).unwrap();
        let held = Look { up: 1, down: 0, held: true };
        assert_eq!(watch.look(start + SECOND, held), Next::Over(Expired::MaxAge), "it ages all the same");
    }

    #[test]
    fn age_ends_it_whatever_it_does() {
        let timeouts = Timeouts { max_age: Some(SECOND * 10), ..Timeouts::default() };
        let moves: Vec<_> = (0..100).map(|n| (SECOND * n / 10, n % 2 == 0)).collect();
        assert_eq!(end(&timeouts, &moves, SECOND * 100), Some((SECOND * 10, Expired::MaxAge)));
    }

    #[test]
    fn a_client_that_asks_is_answered_and_one_that_does_not_may_wait() {
        let timeouts = Timeouts { first_byte: Some(SECOND), ..Timeouts::default() };
        assert_eq!(end(&timeouts, &[], SECOND * 100), None);
        assert_eq!(end(&timeouts, &[(SECOND * 50, true), (SECOND * 51 - SECOND / 4, false)], SECOND * 100), None);
        let (at, expired) = end(&timeouts, &[(SECOND * 50, true)], SECOND * 100).unwrap();
        assert!(expired == Expired::FirstByte && at >= SECOND * 51 && at <= SECOND * 52, "{at:?}");
    }

    proptest! {
        /// It ends when nothing has moved for the time, an eighth later at most, and not before.
        #[test]
        fn silence_ends_it(gaps in prop::collection::vec(0_u64..3000, 0..40), idle in 1000_u64..2000) {
            let idle = Duration::from_millis(idle);
            let timeouts = Timeouts { idle: Some(idle), ..Timeouts::default() };
            let mut at = Duration::ZERO;
            let moves: Vec<_> = gaps.iter().map(|&gap| { at += Duration::from_millis(gap); (at, gap % 2 == 0) }).collect();
            let (over, expired) = end(&timeouts, &moves, at + idle * 3).unwrap();
            prop_assert_eq!(expired, Expired::Idle);
            let last = moves.iter().map(|&(at, _)| at).filter(|&at| at <= over).max().unwrap_or_default();
            prop_assert!(over - last >= idle);
            prop_assert!(over - last <= idle + idle / LOOKS + Duration::from_millis(1));
        }
    }
}

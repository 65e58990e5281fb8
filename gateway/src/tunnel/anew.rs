//! ● When a tunnel's connection is to learn its path anew.
//!
//! BBR, the congestion control of many systems, learns within a few round trips what a path carries when a connection begins, and
//! afterwards takes a quarter more every eight round trips. A tunnel lives for days: what it has learned from little traffic, or beside
//! others, holds back what comes later for many seconds. So where much comes after a time with little, it begins as a connection of its
//! own would (docs/decisions/0068-learning-the-path-anew.md).

use std::time::{Duration, Instant};

/// Much comes when a connection has taken less than there was for so many round trips.
const HELD_BACK: u32 = 3;
/// What comes after so long a time in which it took all is new.
const QUIET: Duration = Duration::from_secs(1);
/// From one time to the next, at least: others share the path, and who begins takes more of it than his share.
const APART: Duration = Duration::from_secs(5);
/// Above its least, a round trip is still one of a path on which nothing waits.
const SLACK: Duration = Duration::from_millis(1);

/// When a connection was held back.
#[derive(Debug, Default)]
pub struct Anew {
    /// Since when, and when last.
    held_back: Option<(Instant, Instant)>,
    /// It has learned its path since then.
    done: bool,
    last: Option<Instant>,
}

impl Anew {
    /// The connection takes less than there is. Whether it has for so long that the path should be looked at.
    pub fn is_due(&mut self, now: Instant, round_trip: Duration) -> bool {
        let since = match self.held_back {
            Some((since, last)) if now.saturating_duration_since(last) < QUIET => since,
            _ => {
                self.done = false;
                now
            }
        };
        self.held_back = Some((since, now));
        let is_apart = self.last.is_none_or(|last| now.saturating_duration_since(last) >= APART);
        !self.done && is_apart && now.saturating_duration_since(since) >= HELD_BACK * round_trip
    }

    /// Whether it is to begin anew, by the path's round trips of now and at the least. Where something waits on the path, it is full:
    /// more is not to be learned, and it is looked at again in a while.
    pub fn begins(&mut self, now: Instant, (round_trip, least): (Duration, Duration)) -> bool {
        let is_empty = round_trip <= least * 5 / 4 + SLACK;
        if is_empty {
            (self.done, self.last) = (true, Some(now));
        } else {
            self.held_back = Some((now, now));
        }
        is_empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(80);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Held back each millisecond in these milliseconds, on a path with such a round trip; when it began anew.
    fn begun(anew: &mut Anew, start: Instant, times: std::ops::Range<u64>, round_trip: Duration) -> Vec<u64> {
        let begins = |at: &u64| {
            let now = start + ms(*at);
            anew.is_due(now, RTT) && anew.begins(now, (round_trip, RTT))
        };
        times.filter(begins).collect()
    }

    #[test]
    fn it_begins_once_when_much_comes() {
        let (mut anew, start) = (Anew::default(), Instant::now());
        assert_eq!(begun(&mut anew, start, 0..100_000, RTT), [240]);
        assert_eq!(begun(&mut anew, start, 100_900..101_900, RTT), [0; 0], "it is the same transfer");
        assert_eq!(begun(&mut anew, start, 103_000..110_000, RTT), [103_240]);
    }

    #[test]
    fn what_is_over_soon_is_not_much() {
        let (mut anew, start) = (Anew::default(), Instant::now());
        for burst in 0..100 {
            assert_eq!(begun(&mut anew, start, burst * 2_000..burst * 2_000 + 239, RTT), [0; 0]);
        }
    }

    #[test]
    fn who_comes_again_and_again_waits_between() {
        let (mut anew, start) = (Anew::default(), Instant::now());
        let all: Vec<_> =
            (0..10).flat_map(|burst| begun(&mut anew, start, burst * 2_000..burst * 2_000 + 500, RTT)).collect();
        assert_eq!(all, [240, 6_240, 12_240, 18_240]);
    }

    #[test]
    fn a_full_path_is_looked_at_again() {
        let (mut anew, start) = (Anew::default(), Instant::now());
        assert_eq!(begun(&mut anew, start, 0..10_000, 2 * RTT), [0; 0]);
        assert_eq!(begun(&mut anew, start, 10_000..11_000, RTT).len(), 1);
    }
}

//! ● When a tunnel's connection is to learn its path anew.
//!
//! BBR, the congestion control of many systems, learns within a few round trips what a path carries when a connection begins, and
//! afterwards takes a quarter more every eight round trips. A tunnel lives for days: what it has learned from little traffic, or beside
//! others, holds back what comes later for many seconds. So where much comes after a time with little, it begins as a connection of its
//! own would (docs/decisions/0068-learning-the-path-anew.md).

use std::time::{Duration, Instant};

/// Much comes when a connection has taken less than there was for so many round trips, …
const HELD_BACK: u32 = 3;
/// … each time again within two of them, or within this.
const AGAIN: Duration = Duration::from_millis(50);
/// What comes after so long a time in which it took all is new.
const QUIET: Duration = Duration::from_secs(1);
/// From one time to the next, at least: who begins takes more of the path than his share.
const APART: Duration = Duration::from_secs(5);
/// The same, where it brought nothing again and again.
const FAR_APART: Duration = Duration::from_mins(5);
/// What it has brought is known after so many round trips.
const KNOWN: u32 = 12;
/// Above its least, a round trip is still one of a path on which nothing waits.
const SLACK: Duration = Duration::from_millis(1);

/// How a connection fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// A round trip.
    pub rtt: Duration,
    /// The shortest one.
    pub least_rtt: Duration,
    /// Bytes a second that arrive.
    pub rate: u64,
}

/// Whether something waits on a path, as a round trip is longer than the least one.
pub(super) fn is_full(rtt: Duration, least: Duration) -> bool {
    rtt > least * 5 / 4 + SLACK
}

/// When a connection was held back.
#[derive(Debug)]
pub struct Anew {
    /// Since when, and when last.
    held_back: Option<(Instant, Instant)>,
    /// It has learned its path since it was quiet.
    done: bool,
    /// When it began last, with which rate, until it is known what that brought.
    begun: Option<(Instant, u64)>,
    /// Not before.
    next: Option<Instant>,
    apart: Duration,
}

impl Default for Anew {
    fn default() -> Self {
        Self { held_back: None, done: false, begun: None, next: None, apart: APART }
    }
}

impl Anew {
    /// The connection takes less than there is. Whether the path is to be looked at.
    pub fn is_due(&mut self, now: Instant, rtt: Duration) -> bool {
        let since_last = self.held_back.map(|(_, last)| now.saturating_duration_since(last));
        if since_last.is_none_or(|since| since >= QUIET) {
            self.done = false;
        }
        let since = match self.held_back {
            Some((since, last)) if now.saturating_duration_since(last) <= AGAIN.max(2 * rtt) => since,
            _ => now,
        };
        self.held_back = Some((since, now));
        let is_known = self.begun.is_some_and(|(at, _)| now.saturating_duration_since(at) >= KNOWN * rtt);
        is_known || self.may_begin(now) && now.saturating_duration_since(since) >= HELD_BACK * rtt
    }

    /// Whether it is to begin anew, as the path is now. Where something waits on the path, it is full: more is not to be learned, and it
    /// is looked at again in a while.
    pub fn begins(&mut self, now: Instant, path: Path) -> bool {
        if let Some((at, before)) = self.begun.take_if(|(at, _)| now.saturating_duration_since(*at) >= KNOWN * path.rtt)
        {
            let has_paid = path.rate >= before.saturating_add(before / 4);
            self.apart = if has_paid { APART } else { FAR_APART.min(2 * self.apart) };
            self.next = Some(at + self.apart);
            return false;
        }
        if !is_full(path.rtt, path.least_rtt) && self.may_begin(now) {
            (self.done, self.begun, self.next) = (true, Some((now, path.rate)), Some(now + self.apart));
            return true;
        }
        self.held_back = Some((now, now));
        false
    }

    fn may_begin(&self, now: Instant) -> bool {
        !self.done && self.next.is_none_or(|next| now >= next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(80);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Held back each millisecond in these milliseconds, on a path with such a round trip and such a rate at each of them; when it began
    /// anew.
    fn begun(
        anew: &mut Anew,
        start: Instant,
        times: std::ops::Range<u64>,
        rtt: Duration,
        rate: impl Fn(u64) -> u64,
    ) -> Vec<u64> {
        let mut all = Vec::new();
        for at in times {
            let now = start + ms(at);
            if anew.is_due(now, RTT) && anew.begins(now, Path { rtt, least_rtt: RTT, rate: rate(at) }) {
                all.push(at);
            }
        }
        all
    }

    /// Half as much again each second.
    fn pays(ms: u64) -> u64 {
        (100.0 * (ms as f64 * 0.0004).exp()) as u64
    }

    #[test]
    fn it_begins_once_when_much_comes() {
        let (mut anew, start) = (Anew::default(), Instant::now());
        assert_eq!(begun(&mut anew, start, 0..100_000, RTT, pays), [240]);
        assert_eq!(begun(&mut anew, start, 100_900..101_900, RTT, pays), [0; 0], "it is the same transfer");
        assert_eq!(begun(&mut anew, start, 103_000..110_000, RTT, pays), [103_240]);
    }

    #[test]
    fn what_is_over_soon_is_not_much() {
        let (mut anew, start) = (Anew::default(), Instant::now());
        for burst in 0..100 {
            assert_eq!(begun(&mut anew, start, burst * 2_000..burst * 2_000 + 239, RTT, pays), [0; 0]);
        }
        // Nor are two moments, however far apart.
        for burst in 1_000..1_100 {
            assert_eq!(begun(&mut anew, start, burst * 400..burst * 400 + 10, RTT, pays), [0; 0]);
        }
    }

    #[test]
    fn who_comes_again_and_again_waits_between() {
        let (mut anew, start) = (Anew::default(), Instant::now());
        let burst = |burst: u64| burst * 2_000..burst * 2_000 + 500;
        let all: Vec<_> = (0..10).flat_map(|n| begun(&mut anew, start, burst(n), RTT, pays)).collect();
        assert_eq!(all, [240, 6_240, 12_240, 18_240]);
    }

    /// A path that is full, or one on which somebody drops what is too much.
    #[test]
    fn what_brings_nothing_is_done_less_and_less() {
        let (mut anew, start) = (Anew::default(), Instant::now());
        let burst = |burst: u64| burst * 4_000..burst * 4_000 + 2_000;
        let all: Vec<_> = (0..500).flat_map(|n| begun(&mut anew, start, burst(n), RTT, |_| 1000)).collect();
        assert!(all.len() < 15, "{all:?}");
        assert!(all[1] - all[0] >= 10_000 && all.last().unwrap() - all[all.len() - 2] >= 300_000, "{all:?}");
        // It pays again.
        let all: Vec<_> =
            (600..610).flat_map(|n| begun(&mut anew, start, burst(n), RTT, |at| pays(at - 2_400_000))).collect();
        assert!(all.len() >= 4, "{all:?}");
    }

    #[test]
    fn a_full_path_is_looked_at_again() {
        let (mut anew, start) = (Anew::default(), Instant::now());
        assert_eq!(begun(&mut anew, start, 0..10_000, 2 * RTT, pays), [0; 0]);
        assert_eq!(begun(&mut anew, start, 10_000..11_000, RTT, pays).len(), 1);
    }
}

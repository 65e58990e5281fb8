//! ● How long an endpoint takes for something: an average that believes in slowness only when it is seen twice.
//!
//! ```text
//!                  at most twice the average ──▶ averaged in
//! a measurement ──┤
//!                  more ──▶ counts as twice the average, and is held in suspicion;
//!                           one more that began after it ──▶ the average jumps to what both have seen
//! ```
//!
//! What a busy machine does to all that is under way at a moment is one event, however many streams it holds up. An endpoint that has
//! become slow shows it to the next stream as well.
//!
//! The average fades while nothing is measured, so that an endpoint that was slow is tried again; each time it is found as slow as it
//! was, it fades half as fast. That bounds what looking costs: with a stream in flight, no other one is sent there.

use std::time::{Duration, Instant};

/// In this time an average fades to 1/e, at first.
pub const FADE: Duration = Duration::from_secs(1);
/// The same for an endpoint that was found slow again and again.
pub const LONGEST_FADE: Duration = Duration::from_secs(16);
/// Differences below it are the scheduler's noise.
pub const FLOOR: Duration = Duration::from_millis(1);
/// Of several times the average nobody is sure at first.
const SURPRISE: f64 = 2.0;
/// The most that an old average counts beside a new measurement, however fresh it is.
const MEMORY: f64 = 0.7;

/// What one kind of thing takes at one endpoint. Before the first measurement it is taken to be quick.
#[derive(Debug, Default, Clone)]
pub struct Latency {
    known: Option<Known>,
    suspect: Option<Suspect>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    seconds: f64,
    at: Instant,
    fade: Duration,
}

/// A slow measurement that no other one has confirmed yet.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    seconds: f64,
    at: Instant,
}

impl Latency {
    /// It took so long, until `now`.
    pub fn observe(&mut self, took: Duration, now: Instant) {
        let seconds = took.as_secs_f64();
        let known = self.known.unwrap_or(Known { seconds: 0.0, at: now, fade: FADE });
        let bound = SURPRISE * known.seconds + FLOOR.as_secs_f64();
        if seconds <= bound {
            self.suspect = None;
            self.known = Some(known.with(seconds, now));
            return;
        }
        match self.suspect {
            // Both were held up by the same thing.
            Some(suspect) if suspect.at + took > now => {}
            Some(suspect) => {
                self.suspect = None;
                self.known = Some(Known { seconds: suspect.seconds.min(seconds), at: now, fade: FADE });
            }
            None => {
                self.suspect = Some(Suspect { seconds, at: now });
                self.known = Some(known.with(bound, now));
            }
        }
    }

    /// What it is expected to take at `now`, in seconds.
    pub fn expected(&self, now: Instant) -> f64 {
        self.known.map_or(0.0, |known| known.faded(now))
    }

    /// The average as of the last measurement; `None` before the first.
    pub fn average(&self) -> Option<Duration> {
        self.known.map(|known| Duration::from_secs_f64(known.seconds))
    }
}

impl Known {
    /// How much of it counts at `now`, 0 to 1.
    fn weight(&self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.at).as_secs_f64() / self.fade.as_secs_f64()).exp()
    }

    fn faded(&self, now: Instant) -> f64 {
        self.seconds * self.weight(now)
    }

    /// With one more measurement, which is no more than [`SURPRISE`] times the average.
    fn with(self, seconds: f64, now: Instant) -> Self {
        let fade = if SURPRISE * seconds + FLOOR.as_secs_f64() < self.seconds {
            FADE
        } else if SURPRISE * self.faded(now) + FLOOR.as_secs_f64() < seconds {
            // It was let go, and is as slow as ever.
            LONGEST_FADE.min(self.fade * 2)
        } else {
            self.fade
        };
        let weight = self.weight(now).min(MEMORY);
        Self { seconds: self.seconds * weight + seconds * (1.0 - weight), at: now, fade }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// One that takes 5 ms, as it is known to at `now`.
    fn quick(now: Instant) -> Latency {
        let mut latency = Latency::default();
        (0..9).for_each(|i| latency.observe(millis(5), now - millis(80 - 10 * i)));
        latency
    }

    #[test]
    fn what_held_up_many_at_once_is_one_event() {
        let start = Instant::now();
        let mut latency = quick(start);
        for i in 0..20 {
            latency.observe(millis(30), start + millis(30) + millis(i));
        }
        assert!(latency.expected(start + millis(50)) < 0.007, "{latency:?}");
    }

    #[test]
    fn slowness_that_a_second_stream_meets_counts_at_once() {
        let start = Instant::now();
        let mut latency = quick(start);
        latency.observe(millis(100), start + millis(100));
        latency.observe(millis(120), start + millis(220));
        assert_eq!(latency.average(), Some(millis(100)));
    }

    #[test]
    fn one_that_is_slow_every_other_time_is_known_for_it() {
        let mut now = Instant::now();
        let mut latency = quick(now);
        for _ in 0..50 {
            now += millis(200);
            latency.observe(millis(100), now);
            latency.observe(millis(5), now);
        }
        assert!(latency.expected(now) > 0.010, "{latency:?}");
    }

    #[test]
    fn one_that_stays_slow_fades_ever_slower_and_a_quick_answer_ends_that() {
        let mut now = Instant::now();
        let mut latency = quick(now);
        let mut waits = vec![];
        for _ in 0..7 {
            latency.observe(millis(100), now + millis(100));
            latency.observe(millis(100), now + millis(200));
            let measured = now + millis(200);
            now = measured;
            while latency.expected(now) > 0.010 {
                now += millis(100);
            }
            waits.push((now - measured).as_secs());
        }
        assert_eq!(waits, [2, 4, 9, 18, 36, 36, 36]);
        latency.observe(millis(5), now + millis(5));
        assert!(latency.expected(now + millis(5)) < 0.020);
        assert_eq!(latency.known.unwrap().fade, FADE);
    }

    proptest! {
        #[test]
        fn the_average_stays_between_the_extremes(
            took in proptest::collection::vec((0_u64..5_000_000, 0_u64..20_000), 1..50),
        ) {
            let mut now = Instant::now();
            let mut latency = Latency::default();
            let most = took.iter().map(|t| t.0).max().unwrap();
            for &(micros, wait) in &took {
                now += Duration::from_millis(wait);
                latency.observe(Duration::from_micros(micros), now);
                let average = latency.average().unwrap();
                prop_assert!(average <= Duration::from_micros(most) + Duration::from_nanos(1));
                prop_assert!(latency.expected(now).is_finite());
                prop_assert!(latency.expected(now + LONGEST_FADE) <= latency.expected(now));
            }
        }
    }
}

//! ● One endpoint's load: streams in flight, and what connecting takes (peak EWMA).
//!
//! The average follows a slower connection at once and a faster one slowly, and fades while nothing is measured, so that an
//! endpoint that was slow once is tried again. Differences below [`FLOOR`] are the scheduler's noise and hardly count.

use std::time::{Duration, Instant};

/// In this time a measurement fades to 1/e.
pub const FADE: Duration = Duration::from_secs(10);
/// Added to every average.
pub const FLOOR: Duration = Duration::from_millis(1);

/// What an endpoint has to do.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: u32,
    measured: Option<Measured>,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    seconds: f64,
    at: Instant,
}

impl Load {
    /// One more stream.
    pub fn started(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// One stream less.
    pub fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Connecting took so long.
    pub fn observe(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let seconds = match self.measured {
            Some(old) if took < old.faded(now) => {
                let weight = old.weight(now);
                old.seconds * weight + took * (1.0 - weight)
            }
            _ => took,
        };
        self.measured = Some(Measured { seconds, at: now });
    }

    /// What one more stream would cost: expected connect time, times the streams there would be.
    pub fn cost(&self, now: Instant) -> f64 {
        let connect = self.measured.map_or(0.0, |measured| measured.faded(now));
        (f64::from(self.in_flight) + 1.0) * (connect + FLOOR.as_secs_f64())
    }

    /// Streams that started and have not ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The average as of the last measurement.
    pub fn connect_time(&self) -> Option<Duration> {
        self.measured.map(|measured| Duration::from_secs_f64(measured.seconds))
    }
}

impl Measured {
    /// How much of it counts at `now`, 0 to 1.
    fn weight(&self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.at).as_secs_f64() / FADE.as_secs_f64()).exp()
    }

    fn faded(&self, now: Instant) -> f64 {
        self.seconds * self.weight(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slow_connection_counts_at_once_and_fades() {
        let start = Instant::now();
        let mut load = Load::default();
        load.observe(Duration::from_millis(1), start);
        let before = load.cost(start);
        load.observe(Duration::from_millis(100), start);
        assert!(load.cost(start) > before * 40.0);
        assert!(load.cost(start + 10 * FADE) < before);
    }

    proptest! {
        #[test]
        fn the_average_stays_between_the_extremes(took in proptest::collection::vec((0_u64..5_000_000, 0_u64..20_000), 1..50)) {
            let mut now = Instant::now();
            let mut load = Load::default();
            for &(micros, wait) in &took {
                now += Duration::from_millis(wait);
                load.observe(Duration::from_micros(micros), now);
                let average = load.connect_time().unwrap();
                let least = took.iter().map(|t| t.0).min().unwrap();
                let most = took.iter().map(|t| t.0).max().unwrap();
                prop_assert!(average + Duration::from_nanos(1) >= Duration::from_micros(least));
                prop_assert!(average <= Duration::from_micros(most) + Duration::from_nanos(1));
                prop_assert!(average + Duration::from_nanos(1) >= Duration::from_micros(micros), "never below the newest");
            }
        }
    }
}

//! ● One endpoint's load: streams in flight, and what connecting and answering take.

use super::latency::{FLOOR, Latency};
use std::time::{Duration, Instant};

/// Of two endpoints that differ by less than this factor nobody can say which one is quicker.
pub const ALIKE: f64 = 2.0;
/// An answer that takes longer says more of what was asked for than of who answers.
pub const SLOWEST_ANSWER: Duration = Duration::from_secs(5);

/// What an endpoint has to do.
#[derive(Debug, Default, Clone)]
pub struct Load {
    in_flight: u32,
    connect: Latency,
    answer: Latency,
}

/// What one more stream would cost at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Streams that there would be, more of them where it is to get less than its share.
    pub streams: f64,
    /// What a stream is expected to take, in seconds.
    pub seconds: f64,
}

impl Cost {
    /// As one number, for people and for what is to be compared with more than one other.
    pub fn product(self) -> f64 {
        self.streams * self.seconds
    }

    /// Whether it is cheaper. Where they take about as long, only streams count: otherwise the one that was quicker by a hair would
    /// have all of them.
    pub fn is_less(self, than: Self) -> bool {
        let alike = self.seconds < ALIKE * than.seconds && than.seconds < ALIKE * self.seconds;
        if alike { self.streams < than.streams } else { self.product() < than.product() }
    }
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
    pub fn connected(&mut self, took: Duration, now: Instant) {
        self.connect.observe(took, now);
    }

    /// The first byte came so long after the client's first one.
    pub fn answered(&mut self, took: Duration, now: Instant) {
        if took <= SLOWEST_ANSWER {
            self.answer.observe(took, now);
        }
    }

    /// What one more stream would cost.
    pub fn cost(&self, now: Instant) -> Cost {
        let seconds = self.connect.expected(now) + self.answer.expected(now) + FLOOR.as_secs_f64();
        Cost { streams: f64::from(self.in_flight) + 1.0, seconds }
    }

    /// What connecting and answering take together, in seconds, as of the last time; `None` before the first.
    pub fn average(&self) -> Option<f64> {
        let (connect, answer) = (self.connect.average(), self.answer.average());
        let known = connect.is_some() || answer.is_some();
        known.then(|| (connect.unwrap_or_default() + answer.unwrap_or_default()).as_secs_f64())
    }

    /// Streams that started and have not ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// What connecting takes, as of the last time.
    pub fn connect_time(&self) -> Option<Duration> {
        self.connect.average()
    }

    /// What answering takes, as of the last time.
    pub fn answer_time(&self) -> Option<Duration> {
        self.answer.average()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_endpoints_that_are_alike_the_one_with_fewer_streams_is_cheaper() {
        let cost = |streams, millis: f64| Cost { streams, seconds: millis / 1e3 };
        assert!(cost(1.0, 1.9).is_less(cost(2.0, 1.0)), "a hair's difference does not count");
        assert!(!cost(1.0, 1.9).is_less(cost(1.0, 1.0)) && !cost(1.0, 1.0).is_less(cost(1.0, 1.9)));
        assert!(cost(3.0, 1.0).is_less(cost(1.0, 20.0)), "but twenty times does");
        assert!(cost(1.0, 20.0).is_less(cost(30.0, 1.0)));
    }

    #[test]
    fn an_answer_that_nobody_could_give_sooner_says_nothing() {
        let (now, mut load) = (Instant::now(), Load::default());
        let before = load.cost(now);
        (0..9).for_each(|i| load.answered(Duration::from_secs(30), now + Duration::from_secs(40 * i)));
        assert_eq!(load.cost(now), before);
        assert_eq!(load.answer_time(), None);
    }
}

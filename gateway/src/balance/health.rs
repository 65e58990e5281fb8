//! ● One endpoint's passive health: what connecting to it has shown.
//!
//! ```text
//!          3 failures in a row          time is over, one stream
//! healthy ────────────────────▶ ejected ────────────────────────▶ probing
//!    ▲                             ▲  1 s, 2 s, 4 s … 60 s           │ │
//!    │                             └──────────── failure ────────────┘ │
//!    └──────────────────────────────── success ────────────────────────┘
//!
//! A UDP endpoint may be silent: nothing was refused, and nothing answered. That ends an ejection as well, but one more failure
//! begins the next.
//! ```

use std::time::{Duration, Instant};

/// Consecutive failures that make an endpoint failing, and ejected where that is allowed.
pub const FAILURES: u32 = 3;
/// The first ejection's length; each further one is twice as long.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// The longest ejection. An endpoint that was healthy for as long starts again at [`SHORTEST`].
pub const LONGEST: Duration = Duration::from_secs(60);

/// Whether an endpoint should be chosen, by its consecutive connect failures.
#[derive(Debug, Default)]
pub struct Health {
    failures: u32,
    ejections: u32,
    state: State,
    /// Until when a failure counts against it, even where it is not ejected.
    avoided: Option<Instant>,
    /// When the last ejection was ended by a success.
    recovered: Option<Instant>,
    checked: Checked,
}

/// What active checks say of it ([`crate::checks`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checked {
    /// Nothing against it.
    #[default]
    Well,
    /// It is down, and too many others are out already.
    Failing,
    /// It is down, and left out.
    Out,
}

/// What `/status` says of an endpoint's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// It is chosen.
    Healthy,
    /// It fails, and is chosen only because too many others were ejected.
    Failing,
    /// It is left out for so much longer.
    Ejected(Duration),
    /// One stream is finding out whether it is back.
    Probing,
    /// It is left out: checks say that it is down.
    Down,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    In,
    Out {
        until: Instant,
    },
    Probing {
        since: Instant,
    },
}

impl Health {
    /// Whether a stream may be sent there at `now`.
    pub fn admits(&self, now: Instant) -> bool {
        match self.state {
            _ if self.checked == Checked::Out => false,
            State::In => true,
            State::Out { until } => until <= now,
            State::Probing { .. } => false,
        }
    }

    /// How often in a row it has failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It has failed [`FAILURES`] times or more since it last took a connection.
    pub fn is_failing(&self) -> bool {
        self.failures >= FAILURES || self.checked != Checked::Well
    }

    /// It is left out, or being probed.
    pub fn is_ejected(&self) -> bool {
        !matches!(self.state, State::In) || self.checked == Checked::Out
    }

    /// What active checks say.
    pub fn checked(&self) -> Checked {
        self.checked
    }

    /// Active checks say this from now on.
    pub fn set_checked(&mut self, checked: Checked) {
        self.checked = checked;
    }

    /// What its load is multiplied with: an endpoint that fails fast has no load and would attract every stream. It ends after
    /// the time that an ejection would take, so that an idle gateway finds out that the endpoint is well.
    pub fn penalty(&self, now: Instant) -> f64 {
        if self.checked != Checked::Well {
            return f64::from(1_u32 << 16);
        }
        let avoided = self.avoided.is_some_and(|until| now < until);
        if avoided { f64::from(1_u32 << self.failures.min(16)) } else { 1.0 }
    }

    /// A stream is sent there; whether it is the probe that ends or prolongs the ejection.
    pub fn picked(&mut self, now: Instant) -> bool {
        match self.state {
            State::Out { until } if until <= now => {
                self.state = State::Probing { since: now };
                true
            }
            _ => false,
        }
    }

    /// It took a connection.
    pub fn succeeded(&mut self, now: Instant) {
        if !matches!(self.state, State::In) {
            self.recovered = Some(now);
        }
        self.failures = 0;
        self.avoided = None;
        self.state = State::In;
    }

    /// It refused nothing so far, and has not answered either, as a UDP endpoint that only listens. Only the probe's silence says
    /// anything while it is ejected: the others began before.
    pub fn silent(&mut self, now: Instant, probe: bool) {
        match self.state {
            State::In if self.avoided.is_some_and(|until| now < until) => return,
            State::In => {}
            State::Probing { .. } if probe => self.recovered = Some(now),
            State::Out { .. } | State::Probing { .. } => return,
        }
        self.failures = self.failures.min(FAILURES - 1);
        self.avoided = None;
        self.state = State::In;
    }

    /// It did not take a connection. Only the probe's failure counts while it is ejected: the others began before.
    pub fn failed(&mut self, now: Instant, probe: bool, may_eject: bool) {
        match self.state {
            State::In => {
                self.avoided = Some(now + doubled(self.failures));
                self.failures = self.failures.saturating_add(1);
                if self.failures >= FAILURES && may_eject {
                    self.eject(now);
                }
            }
            State::Probing { .. } if probe => self.eject(now),
            State::Out { .. } | State::Probing { .. } => {}
        }
    }

    /// The stream was given up before it was known whether the endpoint answers; after a probe the next stream is one.
    pub fn gave_up(&mut self, probe: bool) {
        if let (true, State::Probing { since }) = (probe, self.state) {
            self.state = State::Out { until: since };
        }
    }

    /// Its state in words.
    pub fn status(&self, now: Instant) -> HealthStatus {
        match self.state {
            _ if self.checked == Checked::Out => HealthStatus::Down,
            State::In if self.is_failing() => HealthStatus::Failing,
            State::In => HealthStatus::Healthy,
            State::Out { until } => HealthStatus::Ejected(until.saturating_duration_since(now)),
            State::Probing { .. } => HealthStatus::Probing,
        }
    }

    fn eject(&mut self, now: Instant) {
        let stable = self.recovered.is_some_and(|at| now.saturating_duration_since(at) >= LONGEST);
        if stable && matches!(self.state, State::In) {
            self.ejections = 0;
        }
        self.state = State::Out { until: now + doubled(self.ejections) };
        self.ejections = self.ejections.saturating_add(1);
    }
}

/// [`SHORTEST`], doubled so many times, up to [`LONGEST`].
fn doubled(times: u32) -> Duration {
    LONGEST.min(SHORTEST * (1 << times.min(6)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ejected(health: &Health, now: Instant) -> Option<u64> {
        match health.status(now) {
            HealthStatus::Ejected(left) => Some(left.as_secs()),
            _ => None,
        }
    }

    #[test]
    fn ejections_double_up_to_the_longest_and_start_again_after_a_stable_time() {
        let mut now = Instant::now();
        let mut health = Health::default();
        for _ in 0..FAILURES {
            assert!(health.admits(now));
            health.failed(now, false, true);
        }
        let mut lengths = vec![];
        for _ in 0..8 {
            lengths.extend(ejected(&health, now));
            now += LONGEST;
            assert!(health.picked(now), "the first stream afterwards is the probe");
            assert!(!health.picked(now) && !health.admits(now), "and no other");
            health.failed(now, true, true);
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60]);

        now += LONGEST;
        assert!(health.picked(now));
        health.succeeded(now);
        assert_eq!(health.status(now), HealthStatus::Healthy);
        now += LONGEST;
        (0..FAILURES).for_each(|_| health.failed(now, false, true));
        assert_eq!(ejected(&health, now), Some(1));
    }

    #[test]
    fn a_flapping_endpoint_stays_out_longer_each_time() {
        let mut now = Instant::now();
        let mut health = Health::default();
        for length in [1, 2, 4, 8] {
            (0..FAILURES).for_each(|_| health.failed(now, false, true));
            assert_eq!(ejected(&health, now), Some(length));
            now += Duration::from_secs(length);
            assert!(health.picked(now));
            health.succeeded(now);
        }
    }

    #[test]
    fn a_probe_that_was_given_up_leaves_room_for_the_next() {
        let now = Instant::now();
        let mut health = Health::default();
        (0..FAILURES).for_each(|_| health.failed(now, false, true));
        let later = now + SHORTEST;
        assert!(health.picked(later));
        health.gave_up(true);
        assert!(health.admits(later) && health.picked(later));
    }

    #[test]
    fn a_probe_that_meets_silence_ends_an_ejection_and_one_failure_begins_the_next() {
        let mut now = Instant::now();
        let mut health = Health::default();
        (0..FAILURES).for_each(|_| health.failed(now, false, true));
        for length in [1, 2, 4, 8] {
            assert_eq!(ejected(&health, now), Some(length));
            now += Duration::from_secs(length);
            health.silent(now, false);
            assert!(matches!(health.status(now), HealthStatus::Ejected(_)), "streams begun before say nothing");
            assert!(health.picked(now));
            health.silent(now, true);
            assert_eq!(health.status(now), HealthStatus::Healthy);
            health.gave_up(true);
            assert!(health.admits(now), "and its end changes nothing");
            health.failed(now, true, true);
        }
    }

    #[test]
    fn silence_ends_failing_no_sooner_than_an_ejection_would_end() {
        let now = Instant::now();
        let mut health = Health::default();
        (0..FAILURES).for_each(|_| health.failed(now, false, false));
        health.silent(now, false);
        assert_eq!(health.status(now), HealthStatus::Failing);
        health.silent(now + LONGEST, false);
        assert_eq!(health.status(now + LONGEST), HealthStatus::Healthy);
    }

    #[test]
    fn failures_of_streams_begun_before_do_not_prolong_an_ejection() {
        let now = Instant::now();
        let mut health = Health::default();
        (0..50).for_each(|_| health.failed(now, false, true));
        assert_eq!(ejected(&health, now), Some(1));
    }

    #[test]
    fn where_ejecting_is_not_allowed_it_only_counts() {
        let now = Instant::now();
        let mut health = Health::default();
        (0..50).for_each(|_| health.failed(now, false, false));
        assert_eq!(health.status(now), HealthStatus::Failing);
        assert!(health.admits(now) && health.penalty(now) > 1000.0);
        assert!(health.penalty(now + LONGEST) == 1.0, "it is tried now and then");
    }
}

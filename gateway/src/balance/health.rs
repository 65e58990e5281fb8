//! ● One endpoint's passive health: what its streams have shown. A cluster's, seen from another one, is the same.
//!
//! ```text
//!          3 failures, 5 resets       time is over, one stream
//! healthy ────────────────────▶ ejected ────────────────────────▶ probing
//!    ▲                             ▲  1 s, 2 s, 4 s … 60 s           │ │
//!    │                             └──────────── failure ────────────┘ │
//!    └──────────────────────────────── success ────────────────────────┘
//!
//! A UDP endpoint may be silent: nothing was refused, and nothing answered. That ends an ejection as well, but one more failure
//! begins the next. So it is with a reset: the probe has shown that the endpoint takes connections, and no more.
//! ```
//!
//! Numbers and times are those of [`Outliers`]; here its defaults.

use isthmus_control_api::Outliers;
use std::time::{Duration, Instant};

/// Whether an endpoint should be chosen.
#[derive(Debug, Default, Clone)]
pub struct Health {
    /// Connections that it did not take, in a row.
    failures: u32,
    /// Streams that it reset before its first byte, in a row.
    resets: u32,
    ejections: u32,
    /// Why it is failing, ejected or not.
    why: Option<Why>,
    state: State,
    /// Until when it is to be left alone, even where it is not ejected.
    avoided: Option<Instant>,
    /// When the last ejection was ended by a success.
    recovered: Option<Instant>,
}

/// What an endpoint is left out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It does not take connections.
    Failures,
    /// It resets streams before its first byte.
    Resets,
    /// It is much slower than others.
    Slow,
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

impl Why {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failures => "does not take connections",
            Self::Resets => "resets streams before its first byte",
            Self::Slow => "is much slower than the others",
        }
    }
}

impl Health {
    /// Whether a stream may be sent there at `now`.
    pub fn admits(&self, now: Instant) -> bool {
        match self.state {
            State::In => true,
            State::Out { until } => until <= now,
            State::Probing { .. } => false,
        }
    }

    /// How often in a row it has not taken a connection.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How many streams in a row it has reset before its first byte.
    pub fn resets(&self) -> u32 {
        self.resets
    }

    /// What it is failing for, ejected or not; `None`: it is well.
    pub fn why(&self) -> Option<Why> {
        self.why
    }

    /// It is unwell, ejected or not.
    pub fn is_failing(&self) -> bool {
        self.why.is_some()
    }

    /// It is left out, or being probed.
    pub fn is_ejected(&self) -> bool {
        !matches!(self.state, State::In)
    }

    /// From when on one stream may find out whether it is back; `None`: it is well, or one is finding out.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Out { until } => Some(until),
            State::In if self.is_failing() => Some(self.avoided.unwrap_or(now)),
            State::In | State::Probing { .. } => None,
        }
    }

    /// What its load is multiplied with: an endpoint that fails fast has no load and would attract every stream. It ends after
    /// the time that an ejection would take, so that an idle gateway finds out that the endpoint is well.
    pub fn penalty(&self, now: Instant) -> f64 {
        let avoided = self.avoided.is_some_and(|until| now < until);
        if avoided { f64::from(1_u32 << self.failures.max(self.resets).min(16)) } else { 1.0 }
    }

    /// A stream is sent there; whether it is the probe that ends or prolongs the ejection.
    pub fn picked(&mut self, now: Instant, rules: &Outliers) -> bool {
        match self.state {
            State::Out { until } if until <= now => {
                self.state = State::Probing { since: now };
                true
            }
            // One stream finds out here as well, and others wait for what it finds.
            State::In if self.is_failing() && self.avoided.is_none_or(|until| until <= now) => {
                self.avoided = Some(now + rules.ejection);
                false
            }
            _ => false,
        }
    }

    /// It took a connection.
    pub fn succeeded(&mut self, now: Instant) {
        if self.is_ejected() {
            self.recovered = Some(now);
            self.why = None;
        }
        self.failures = 0;
        self.state = State::In;
        // Whether it goes on resetting streams, only its first byte tells.
        if self.why != Some(Why::Resets) {
            self.why = None;
            self.avoided = None;
        }
    }

    /// Its first byte came.
    pub fn answered(&mut self) {
        self.resets = 0;
        if self.why == Some(Why::Resets) && !self.is_ejected() {
            self.why = None;
            self.avoided = None;
        }
    }

    /// It refused nothing so far, and has not answered either, as a UDP endpoint that only listens. Only the probe's silence says
    /// anything while it is ejected: the others began before.
    pub fn silent(&mut self, now: Instant, probe: bool, rules: &Outliers) {
        match self.state {
            State::In if self.avoided.is_some_and(|until| now < until) => return,
            State::In => {}
            State::Probing { .. } if probe => self.recovered = Some(now),
            State::Out { .. } | State::Probing { .. } => return,
        }
        self.failures = self.failures.min(rules.failures.saturating_sub(1));
        self.why = None;
        self.avoided = None;
        self.state = State::In;
    }

    /// It did not take a connection. Only the probe's failure counts while it is ejected: the others began before.
    pub fn failed(&mut self, now: Instant, probe: bool, rules: &Outliers, may_eject: bool) {
        match self.state {
            State::In => {
                self.avoided = Some(now + doubled(self.failures, rules));
                self.failures = self.failures.saturating_add(1);
                if self.failures >= rules.failures {
                    self.unwell(Why::Failures, now, rules, may_eject);
                }
            }
            State::Probing { .. } if probe => self.eject(now, rules),
            State::Out { .. } | State::Probing { .. } => {}
        }
    }

    /// It reset a stream before its first byte. While it is ejected that says nothing: the stream began before.
    pub fn reset(&mut self, now: Instant, rules: &Outliers, may_eject: bool) {
        if self.is_ejected() {
            return;
        }
        self.avoided = Some(now + doubled(self.resets, rules));
        self.resets = self.resets.saturating_add(1);
        if self.resets >= rules.resets {
            self.unwell(Why::Resets, now, rules, may_eject);
        }
    }

    /// It is much slower than others.
    pub fn slow(&mut self, now: Instant, rules: &Outliers, may_eject: bool) {
        if may_eject && !self.is_failing() {
            self.unwell(Why::Slow, now, rules, true);
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
            State::In if self.is_failing() => HealthStatus::Failing,
            State::In => HealthStatus::Healthy,
            State::Out { until } => HealthStatus::Ejected(until.saturating_duration_since(now)),
            State::Probing { .. } => HealthStatus::Probing,
        }
    }

    fn unwell(&mut self, why: Why, now: Instant, rules: &Outliers, may_eject: bool) {
        self.why = Some(why);
        if may_eject {
            self.eject(now, rules);
        }
    }

    fn eject(&mut self, now: Instant, rules: &Outliers) {
        let stable = self.recovered.is_some_and(|at| now.saturating_duration_since(at) >= rules.longest_ejection);
        if stable && matches!(self.state, State::In) {
            self.ejections = 0;
        }
        self.state = State::Out { until: now + doubled(self.ejections, rules) };
        self.ejections = self.ejections.saturating_add(1);
        // Once it is back, one more reset is enough.
        self.resets = self.resets.min(rules.resets.saturating_sub(1));
    }
}

/// The first ejection's length, doubled so many times, up to the longest.
fn doubled(times: u32, rules: &Outliers) -> Duration {
    rules.longest_ejection.min(rules.ejection.saturating_mul(1 << times.min(20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES: u32 = 3;
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    fn rules() -> Outliers {
        Outliers::default()
    }

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
            health.failed(now, false, &rules(), true);
        }
        let mut lengths = vec![];
        for _ in 0..8 {
            lengths.extend(ejected(&health, now));
            now += LONGEST;
            assert!(health.picked(now, &rules()), "the first stream afterwards is the probe");
            assert!(!health.picked(now, &rules()) && !health.admits(now), "and no other");
            health.failed(now, true, &rules(), true);
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60]);

        now += LONGEST;
        assert!(health.picked(now, &rules()));
        health.succeeded(now);
        assert_eq!(health.status(now), HealthStatus::Healthy);
        now += LONGEST;
        (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), true));
        assert_eq!(ejected(&health, now), Some(1));
    }

    #[test]
    fn a_flapping_endpoint_stays_out_longer_each_time() {
        let mut now = Instant::now();
        let mut health = Health::default();
        for length in [1, 2, 4, 8] {
            (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), true));
            assert_eq!(ejected(&health, now), Some(length));
            now += Duration::from_secs(length);
            assert!(health.picked(now, &rules()));
            health.succeeded(now);
        }
    }

    #[test]
    fn a_probe_that_was_given_up_leaves_room_for_the_next() {
        let now = Instant::now();
        let mut health = Health::default();
        (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), true));
        let later = now + SHORTEST;
        assert!(health.picked(later, &rules()));
        health.gave_up(true);
        assert!(health.admits(later) && health.picked(later, &rules()));
    }

    #[test]
    fn a_probe_that_meets_silence_ends_an_ejection_and_one_failure_begins_the_next() {
        let mut now = Instant::now();
        let mut health = Health::default();
        (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), true));
        for length in [1, 2, 4, 8] {
            assert_eq!(ejected(&health, now), Some(length));
            now += Duration::from_secs(length);
            health.silent(now, false, &rules());
            assert!(matches!(health.status(now), HealthStatus::Ejected(_)), "streams begun before say nothing");
            assert!(health.picked(now, &rules()));
            health.silent(now, true, &rules());
            assert_eq!(health.status(now), HealthStatus::Healthy);
            health.gave_up(true);
            assert!(health.admits(now), "and its end changes nothing");
            health.failed(now, true, &rules(), true);
        }
    }

    #[test]
    fn silence_ends_failing_no_sooner_than_an_ejection_would_end() {
        let now = Instant::now();
        let mut health = Health::default();
        (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), false));
        health.silent(now, false, &rules());
        assert_eq!(health.status(now), HealthStatus::Failing);
        health.silent(now + LONGEST, false, &rules());
        assert_eq!(health.status(now + LONGEST), HealthStatus::Healthy);
    }

    #[test]
    fn failures_of_streams_begun_before_do_not_prolong_an_ejection() {
        let now = Instant::now();
        let mut health = Health::default();
        (0..50).for_each(|_| health.failed(now, false, &rules(), true));
        assert_eq!(ejected(&health, now), Some(1));
    }

    #[test]
    fn where_ejecting_is_not_allowed_it_only_counts() {
        let now = Instant::now();
        let mut health = Health::default();
        (0..50).for_each(|_| health.failed(now, false, &rules(), false));
        assert_eq!(health.status(now), HealthStatus::Failing);
        assert!(health.admits(now) && health.penalty(now) > 1000.0);
        assert!(health.penalty(now + LONGEST) == 1.0, "it is tried now and then");
    }

    #[test]
    fn streams_that_are_reset_before_the_first_byte_count_although_connecting_works() {
        let mut now = Instant::now();
        let mut health = Health::default();
        for _ in 0..4 {
            health.succeeded(now);
            health.reset(now, &rules(), true);
        }
        health.succeeded(now);
        health.answered();
        assert_eq!(health.resets(), 0, "an answer ends the row");
        for _ in 0..5 {
            assert!(health.admits(now));
            health.succeeded(now);
            health.reset(now, &rules(), true);
        }
        assert_eq!((ejected(&health, now), health.why()), (Some(1), Some(Why::Resets)));
        // It is back, and resets the first one again: out for twice as long.
        now += SHORTEST;
        assert!(health.picked(now, &rules()));
        health.succeeded(now);
        health.reset(now, &rules(), true);
        assert_eq!(ejected(&health, now), Some(2));
    }

    #[test]
    fn one_that_fails_and_may_not_be_ejected_is_tried_by_one_stream_at_a_time() {
        let now = Instant::now();
        let mut health = Health::default();
        (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), false));
        let later = health.due_at(now).unwrap();
        assert!(later > now);
        assert!(!health.picked(later, &rules()));
        assert!(health.due_at(later).unwrap() > later, "others wait");
        health.succeeded(later);
        assert_eq!((health.due_at(later), health.why()), (None, None));
    }
}

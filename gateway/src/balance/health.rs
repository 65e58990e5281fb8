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
//! begins the next. So it is with a reset: the probe has shown that the endpoint takes connections, and no more. A probe that
//! failed, and of which nobody knows by whose fault, has the ejection begin again, as long as it was.
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
            _ if self.checked == Checked::Out => false,
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
        self.why.is_some() || self.checked != Checked::Well
    }

    /// Nothing is held against it, not even for a moment.
    pub fn is_well(&self, now: Instant) -> bool {
        !self.is_failing() && !self.is_ejected() && self.avoided.is_none_or(|until| until <= now)
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

    /// From when on one stream may find out whether it is back; `None`: it is well, or one is finding out.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Out { until } => Some(until),
            // Of what only checks say, checks find out.
            State::In if self.why.is_some() => Some(self.avoided.unwrap_or(now)),
            State::In | State::Probing { .. } => None,
        }
    }

    /// What its load is multiplied with: an endpoint that fails fast has no load and would attract every stream. It ends after
    /// the time that an ejection would take, so that an idle gateway finds out that the endpoint is well.
    pub fn penalty(&self, now: Instant) -> f64 {
        if self.checked != Checked::Well {
            return f64::from(1_u32 << 16);
        }
        let avoided = self.avoided.is_some_and(|until| now < until);
        if avoided { f64::from(1_u32 << self.failures.max(self.resets).clamp(1, 16)) } else { 1.0 }
    }

    /// A stream is sent there; whether it is the probe that ends or prolongs the ejection.
    pub fn picked(&mut self, now: Instant, rules: &Outliers) -> bool {
        match self.state {
            State::Out { until } if until <= now => {
                self.state = State::Probing { since: now };
                true
            }
            // One stream finds out here as well, and others wait for what it finds.
            State::In if self.why.is_some() && self.avoided.is_none_or(|until| until <= now) => {
                self.avoided = Some(now + rules.ejection);
                false
            }
            _ => false,
        }
    }

    /// It took a connection.
    pub fn succeeded(&mut self, now: Instant) {
        if !matches!(self.state, State::In) {
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

    /// It has not taken a connection within what it usually takes, so far.
    pub fn late(&mut self, now: Instant, rules: &Outliers) {
        if let State::In = self.state {
            let until = now + doubled(self.failures, rules);
            self.avoided = Some(self.avoided.map_or(until, |avoided| avoided.max(until)));
        }
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

    /// It did not take a connection, and nobody knows by whose fault. If that was the probe, it is left out for as long again.
    pub fn put_off(&mut self, now: Instant, probe: bool, rules: &Outliers) {
        if let (true, State::Probing { .. }) = (probe, self.state) {
            self.state = State::Out { until: now + doubled(self.ejections.saturating_sub(1), rules) };
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
mod tests;

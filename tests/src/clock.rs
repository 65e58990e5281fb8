//! How long the steps of a way take, as a table. It measures and asserts nothing.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Steps one after the other, from its making.
#[derive(Debug)]
pub struct Clock {
    since: Instant,
    steps: Vec<(&'static str, Duration)>,
}

impl Clock {
    /// The first step begins.
    pub fn start() -> Self {
        Self { since: Instant::now(), steps: Vec::new() }
    }

    /// A step is done, and the next begins.
    pub fn step(&mut self, name: &'static str) {
        let now = Instant::now();
        self.steps.push((name, now - self.since));
        self.since = now;
    }

    /// What was done since the last step is no part of the way.
    pub fn leave_out(&mut self) {
        self.since = Instant::now();
    }
}

/// A table, in seconds.
impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| step | s |\n|---|---|")?;
        for (name, took) in &self.steps {
            writeln!(f, "| {name} | {:.1} |", took.as_secs_f64())?;
        }
        let all: Duration = self.steps.iter().map(|(_, took)| took).sum();
        writeln!(f, "| **all** | **{:.1}** |", all.as_secs_f64())
    }
}

//! What became of the requests of a phase in which something was broken.
//!
//! The rule by which a failure counts as one that should not have happened: the request's connection was opened after what had been
//! broken was whole again (the dead endpoint gone and known by its closed port, the link back), or the request had failed before
//! anything was broken. A connection that was open meanwhile may be lost: no gateway can move it.

use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// One request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// When the opening of its connection began.
    pub(super) opened: Instant,
    /// When it had its answer, or had failed.
    pub(super) ended: Instant,
    /// Which endpoint answered, by its place in the list of endpoints; or how it failed.
    pub(super) outcome: Result<usize, Fault>,
}

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// No connection.
    Refused,
    /// The connection ended before the answer was whole.
    Broken,
    /// No whole answer in time.
    Timeout,
    /// An answer that is not what the endpoints say.
    Wrong,
}

impl Fault {
    /// In one word, as the JSON has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Wrong => "wrong",
        }
    }
}

/// A span of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Its first moment.
    pub(super) from: Instant,
    /// Its last.
    pub(super) to: Instant,
}

impl Sample {
    /// Whether its connection was open at any time of `broken`.
    fn touches(&self, broken: Span) -> bool {
        self.opened <= broken.to && self.ended >= broken.from
    }
}

/// The outcome of a phase.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    /// How many requests were sent.
    pub(super) requests: u64,
    /// How many of them failed.
    pub(super) failed: u64,
    /// How many failed that should not have.
    pub(super) unexpected: u64,
    /// The failures by their kind.
    pub(super) faults: BTreeMap<&'static str, u64>,
    /// The longest time without a successful request.
    pub(super) longest_gap_ms: f64,
    /// How many requests each endpoint answered.
    pub(super) answered: BTreeMap<String, u64>,
}

impl Outcome {
    /// Counts the samples of a phase that took the time of `phase`, with something broken during `broken`.
    pub(super) fn of(samples: &[Sample], phase: Span, broken: Span, endpoints: &[String]) -> Self {
        let (mut failed, mut unexpected) = (0, 0);
        let (mut faults, mut answered) = (BTreeMap::new(), BTreeMap::new());
        for sample in samples {
            match sample.outcome {
                Ok(endpoint) => {
                    let name = endpoints.get(endpoint).cloned().unwrap_or_default();
                    *answered.entry(name).or_insert(0) += 1;
                }
                Err(fault) => {
                    failed += 1;
                    unexpected += u64::from(!sample.touches(broken));
                    *faults.entry(fault.name()).or_insert(0) += 1;
                }
            }
        }
        let requests = samples.len() as u64;
        Self {
            requests,
            failed,
            unexpected,
            faults,
            longest_gap_ms: milliseconds(longest_gap(samples, phase)),
            answered,
        }
    }
}

/// The longest time within `phase` in which no request succeeded.
fn longest_gap(samples: &[Sample], phase: Span) -> Duration {
    let mut moments: Vec<_> =
        samples.iter().filter(|sample| sample.outcome.is_ok()).map(|sample| sample.ended).collect();
    moments.extend([phase.from, phase.to]);
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| pair[1].duration_since(pair[0]));
    gaps.max().unwrap_or_default()
}

/// Milliseconds, with three decimals.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn sample(start: Instant, opened: u32, ended: u32, outcome: Result<usize, Fault>) -> Sample {
        Sample { opened: start + MS * opened, ended: start + MS * ended, outcome }
    }

    fn span(start: Instant, from: u32, to: u32) -> Span {
        Span { from: start + MS * from, to: start + MS * to }
    }

    #[test]
    fn only_connections_open_while_it_was_broken_may_fail() {
        let start = Instant::now();
        let cases = [(0, 9, 1), (0, 10, 0), (0, 50, 0), (15, 16, 0), (20, 40, 0), (21, 40, 1)];
        for (opened, ended, unexpected) in cases {
            let samples = [sample(start, opened, ended, Err(Fault::Timeout))];
            let outcome = Outcome::of(&samples, span(start, 0, 100), span(start, 10, 20), &[]);
            assert_eq!((outcome.failed, outcome.unexpected), (1, unexpected), "{opened} to {ended}");
        }
    }

    #[test]
    fn the_longest_gap_is_between_successes_and_counts_the_ends() {
        let start = Instant::now();
        let at = |ended| sample(start, 0, ended, Ok(0));
        let lost = sample(start, 0, 40, Err(Fault::Broken));
        let gap = |samples: &[Sample]| longest_gap(samples, span(start, 0, 100));
        assert_eq!(gap(&[at(60), lost, at(30)]), MS * 40);
        assert_eq!(gap(&[at(60), at(50)]), MS * 50);
        assert_eq!(gap(&[]), MS * 100);
    }

    #[test]
    fn answers_and_faults_are_counted_by_name() {
        let start = Instant::now();
        let outcomes = [Ok(1), Ok(1), Ok(0), Err(Fault::Refused)];
        let samples = outcomes.map(|outcome| sample(start, 0, 1, outcome));
        let outcome = Outcome::of(&samples, span(start, 0, 1), span(start, 0, 1), &["a".into(), "b".into()]);
        assert_eq!(outcome.answered, BTreeMap::from([("a".into(), 1), ("b".into(), 2)]));
        assert_eq!(outcome.faults, BTreeMap::from([("refused", 1)]));
        assert_eq!(outcome.requests, 4);
    }
}

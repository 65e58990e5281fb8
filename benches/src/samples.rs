//! The samples of a run.

use std::collections::BTreeMap;

use crate::case::Case;
use crate::metric::Metric;
use crate::setup::Setup;
use crate::stats::Spread;

/// What one block (a case on a setup, in a round) gave.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Values by metric.
    pub values: Vec<(Metric, f64)>,
    /// Requests or streams that failed.
    pub errors: u64,
}

/// Everything measured, by metric, setup and round.
#[derive(Debug, Default)]
pub struct Samples {
    values: BTreeMap<(Metric, Setup), BTreeMap<u32, f64>>,
    errors: BTreeMap<(Setup, Case), u64>,
    failures: Vec<String>,
}

impl Samples {
    /// Adds what was measured of `setup` in `round`.
    pub fn record(&mut self, round: u32, setup: Setup, values: &[(Metric, f64)]) {
        for &(metric, value) in values {
            self.values.entry((metric, setup)).or_default().insert(round, value);
        }
    }

    /// Adds the outcome of a block in `round`.
    pub fn add(&mut self, round: u32, setup: Setup, case: Case, outcome: &Outcome) {
        self.record(round, setup, &outcome.values);
        if outcome.errors > 0 {
            *self.errors.entry((setup, case)).or_default() += outcome.errors;
        }
    }

    /// Notes a block that could not be done.
    pub fn fail(&mut self, failure: String) {
        self.failures.push(failure);
    }

    /// The raw samples, in the order of the rounds.
    pub fn raw(&self, metric: Metric, setup: Setup) -> Vec<f64> {
        self.values.get(&(metric, setup)).map_or_else(Vec::new, |rounds| rounds.values().copied().collect())
    }

    /// The ratios of `one` to `other` within each round, where both were measured.
    pub fn ratios(&self, metric: Metric, one: Setup, other: Setup) -> Option<Spread> {
        let (one, other) = (self.values.get(&(metric, one))?, self.values.get(&(metric, other))?);
        let ratios: Vec<f64> = one.iter().filter_map(|(round, value)| Some(value / other.get(round)?)).collect();
        Spread::of(&ratios)
    }

    /// Their median and range.
    pub fn spread(&self, metric: Metric, setup: Setup) -> Option<Spread> {
        Spread::of(&self.raw(metric, setup))
    }

    /// Their median.
    pub fn median(&self, metric: Metric, setup: Setup) -> Option<f64> {
        self.spread(metric, setup).map(|spread| spread.median)
    }

    /// The best median among `setups`, and whose it is.
    pub fn best(&self, metric: Metric, setups: &[Setup]) -> Option<(Setup, f64)> {
        let medians = setups.iter().filter_map(|&setup| Some((setup, self.median(metric, setup)?)));
        medians.reduce(|one, other| if metric.best(one.1, other.1) == one.1 { one } else { other })
    }

    /// Setups with a sample of any metric, in the order of the tables.
    pub fn setups(&self) -> Vec<Setup> {
        let measured = |setup: &Setup| self.values.keys().any(|(_, with)| with == setup);
        Setup::ALL.into_iter().filter(measured).collect()
    }

    /// Metrics with a sample of any setup, in the order of the tables.
    pub fn metrics(&self) -> Vec<Metric> {
        let measured = |metric: &Metric| self.values.keys().any(|(with, _)| with == metric);
        Metric::ALL.into_iter().filter(measured).collect()
    }

    /// Failed requests and streams, where there were any.
    pub fn errors(&self) -> impl Iterator<Item = (Setup, Case, u64)> {
        self.errors.iter().map(|(&(setup, case), &count)| (setup, case, count))
    }

    /// Blocks that could not be done.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(metric: Metric, value: f64) -> Outcome {
        Outcome { values: vec![(metric, value)], errors: 1 }
    }

    #[test]
    fn samples_gather_by_metric_and_setup() {
        let mut samples = Samples::default();
        for (round, value) in [(1, 3.0), (2, 1.0), (3, 2.0)] {
            samples.add(round, Setup::Nginx, Case::Many, &outcome(Metric::ManyRate, value));
        }
        assert_eq!(samples.raw(Metric::ManyRate, Setup::Nginx), [3.0, 1.0, 2.0]);
        assert_eq!(samples.median(Metric::ManyRate, Setup::Nginx), Some(2.0));
        assert_eq!(samples.errors().collect::<Vec<_>>(), [(Setup::Nginx, Case::Many, 3)]);
        assert_eq!((samples.setups(), samples.metrics()), (vec![Setup::Nginx], vec![Metric::ManyRate]));
    }

    #[test]
    fn ratios_pair_what_was_measured_in_the_same_round() {
        let mut samples = Samples::default();
        for (round, setup, value) in [(1, Setup::Nginx, 2.0), (2, Setup::Nginx, 9.0), (3, Setup::Nginx, 8.0)] {
            samples.add(round, setup, Case::Many, &outcome(Metric::ManyRate, value));
        }
        for (round, value) in [(1, 1.0), (3, 2.0)] {
            samples.add(round, Setup::Haproxy, Case::Many, &outcome(Metric::ManyRate, value));
        }
        let ratios = samples.ratios(Metric::ManyRate, Setup::Nginx, Setup::Haproxy).unwrap();
        assert_eq!((ratios.min, ratios.max, ratios.count), (2.0, 4.0, 2));
        assert_eq!(samples.ratios(Metric::ManyRate, Setup::Nginx, Setup::EnvoyTcp), None);
    }

    #[test]
    fn the_best_depends_on_the_metric() {
        let mut samples = Samples::default();
        for metric in [Metric::ManyRate, Metric::ManyP99] {
            samples.add(1, Setup::Nginx, Case::Many, &outcome(metric, 1.0));
            samples.add(1, Setup::Haproxy, Case::Many, &outcome(metric, 2.0));
        }
        assert_eq!(samples.best(Metric::ManyRate, &Setup::PEERS), Some((Setup::Haproxy, 2.0)));
        assert_eq!(samples.best(Metric::ManyP99, &Setup::PEERS), Some((Setup::Nginx, 1.0)));
        assert_eq!(samples.best(Metric::ManyP50, &Setup::PEERS), None);
    }
}

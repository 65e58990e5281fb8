//! ● What was measured, for people and scripts.

use super::{
    load::{Measured, Plan},
    round::Took,
    times::{Bars, HEADINGS, Row, Times, histogram, rows},
};
use crate::output::Grid;
use serde::Serialize;
use std::{collections::BTreeMap, fmt, time::Duration};

/// A measurement.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    service: String,
    at: String,
    /// The clusters that new streams go to.
    leads_to: Option<String>,
    http: Option<String>,
    connections: u16,
    rounds: u64,
    failed: u64,
    faults: BTreeMap<String, u64>,
    seconds: f64,
    rounds_per_second: f64,
    /// The most that were allowed.
    rate_limit: u32,
    bytes: u64,
    /// Of answers; none where nothing was asked for.
    megabits_per_second: Option<f64>,
    connect: Times,
    first_byte: Times,
    whole: Times,
    /// Of the first byte: up to so many milliseconds, so many rounds.
    histogram: Vec<Row>,
}

impl Report {
    /// Of the load that was put on by this plan.
    pub(super) fn new(service: &str, leads_to: Option<String>, plan: &Plan, measured: &Measured) -> Self {
        let seconds = measured.took.as_secs_f64().max(f64::MIN_POSITIVE);
        let times = |of: fn(&Took) -> Duration| Times::of(&histogram(measured.all.iter().map(of)));
        let http = plan.round.http.as_ref().map(|(path, _)| path.clone());
        Self {
            service: service.to_owned(),
            at: plan.round.at.to_string(),
            leads_to,
            connections: plan.connections,
            rounds: measured.rounds,
            failed: measured.failed(),
            faults: measured.faults.clone(),
            seconds,
            rounds_per_second: measured.rounds as f64 / seconds,
            rate_limit: plan.rate,
            bytes: measured.bytes,
            megabits_per_second: http.is_some().then(|| measured.bytes as f64 * 8.0 / 1e6 / seconds),
            http,
            connect: times(|took| took.connect),
            first_byte: times(|took| took.first),
            whole: times(|took| took.whole),
            histogram: rows(&histogram(measured.all.iter().map(|took| took.first))),
        }
    }

    /// What failed, in one line.
    pub(super) fn problem(&self) -> Option<String> {
        let (fault, _) = self.faults.iter().max_by_key(|(_, count)| **count)?;
        let all = self.failed + self.rounds;
        Some(format!("{} of {all} rounds failed, most of them: {fault}", self.failed))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leads = self.leads_to.as_ref().map_or_else(String::new, |leads| format!(" ({leads})"));
        let what = self.http.as_ref().map_or_else(|| "connect and end".to_owned(), |path| format!("GET {path}"));
        writeln!(f, "{} at {}{leads}: {what}", self.service, self.at)?;
        let Self { connections, seconds, rate_limit, .. } = self;
        writeln!(f, "{connections} connections at once, at most {rate_limit} rounds a second, {seconds:.1} s\n")?;
        let mut counts = Grid::new(["ROUNDS", "FAILED", "A SECOND", "THROUGHPUT"]);
        let throughput = self.megabits_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1} Mbit/s"));
        counts.row([
            self.rounds.to_string(),
            self.failed.to_string(),
            format!("{:.1}", self.rounds_per_second),
            throughput,
        ]);
        writeln!(f, "{counts}")?;
        let mut times = Grid::new(HEADINGS);
        times.row(self.connect.cells("connect"));
        times.row(self.first_byte.cells("first byte"));
        if self.http.is_some() {
            times.row(self.whole.cells("whole answer"));
        }
        write!(f, "{times}\nfirst byte, up to\n{}", Bars(&self.histogram))?;
        self.faults.iter().try_for_each(|(fault, count)| writeln!(f, "{count} failed: {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::bench::round::Round;

    fn took(micros: u64) -> Took {
        let first = Duration::from_micros(micros);
        Took { connect: first / 2, first, whole: first * 2, bytes: 1000 }
    }

    fn report(http: bool, micros: &[u64]) -> Report {
        let all: Vec<_> = micros.iter().copied().map(took).collect();
        let (rounds, bytes) = (all.len() as u64, all.len() as u64 * 1000);
        let faults = [("reset".to_owned(), 1)].into();
        let measured = Measured { rounds, faults, bytes, took: Duration::from_secs(2), all };
        let http = http.then(|| ("/file".to_owned(), "shop/api".to_owned()));
        let round = Round { at: "127.0.0.1:18080".parse().unwrap(), http };
        let plan = Plan { round, connections: 4, time: Duration::from_secs(2), rate: 500, bytes: 1 << 20 };
        Report::new("shop/api", Some("100% to east".into()), &plan, &measured)
    }

    #[test]
    fn people_see_rates_percentiles_and_a_histogram() {
        let text = report(true, &[1000, 1000, 2000, 4000]).to_string();
        for part in [
            "shop/api at 127.0.0.1:18080 (100% to east): GET /file\n",
            "4 connections at once, at most 500 rounds a second, 2.0 s\n",
            "4       1       2.0       0.0 Mbit/s\n",
            "first byte    1.00  1.00",
            "whole answer  2.00",
            "      4.00 ms         1  ####################\n",
            "1 failed: reset\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!report(false, &[1000]).to_string().contains("whole answer"));
        assert_eq!(report(false, &[1000]).problem().unwrap(), "1 of 2 rounds failed, most of them: reset");
    }
}

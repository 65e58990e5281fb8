//! ● What was measured of a link, for people and scripts.

use crate::{
    cmd::bench::times::{Bars, HEADINGS, Row, Times, histogram, rows},
    output::{Grid, count},
};
use isthmus_gateway::status::measure::{LinkMeasure, MeasuredTunnel, Way};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// A measurement. Its JSON form is an interface: docs/check.md has its fields.
#[derive(Debug, Serialize)]
pub(in crate::cmd::bench) struct Report {
    cluster: String,
    link: String,
    direction: Way,
    streams: usize,
    tunnels: Vec<MeasuredTunnel>,
    /// How long it was to last.
    seconds_limit: u64,
    seconds: f64,
    bytes: u64,
    /// Behind the first piece of each stream; none where that took less than 100 ms.
    megabits_per_second: Option<f64>,
    /// In each second since the load began; the last one may be a part of a second.
    megabits_by_second: Vec<f64>,
    /// Whether the bytes that were allowed were moved before the time was over.
    all_bytes: bool,
    faults: BTreeMap<String, u64>,
    round_trips: RoundTrips,
    /// Of round trips under load.
    histogram: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct RoundTrips {
    idle: Option<Trips>,
    loaded: Option<Trips>,
}

#[derive(Debug, Serialize)]
struct Trips {
    count: usize,
    #[serde(flatten)]
    times: Times,
}

impl Report {
    /// Of what the gateway has measured in at most so many seconds.
    pub(in crate::cmd::bench) fn new(seconds_limit: u64, found: &LinkMeasure) -> Self {
        let recorded = |micros: &[u64]| histogram(micros.iter().map(|&micros| Duration::from_micros(micros)));
        let trips = |micros: &[u64]| {
            (!micros.is_empty()).then(|| Trips { count: micros.len(), times: Times::of(&recorded(micros)) })
        };
        Self {
            cluster: found.cluster.clone(),
            link: found.peer.clone(),
            direction: found.direction,
            streams: found.tunnels.iter().map(|tunnel| tunnel.streams).sum(),
            tunnels: found.tunnels.clone(),
            seconds_limit,
            seconds: found.seconds,
            bytes: found.bytes,
            megabits_per_second: found.bytes_per_second.map(megabits),
            megabits_by_second: found.bytes_by_second.iter().map(|&bytes| megabits(bytes as f64)).collect(),
            all_bytes: found.all_bytes,
            faults: found.faults.clone(),
            round_trips: RoundTrips { idle: trips(&found.idle_us), loaded: trips(&found.loaded_us) },
            histogram: if found.loaded_us.is_empty() { Vec::new() } else { rows(&recorded(&found.loaded_us)) },
        }
    }

    /// What broke while it was measured, in one line.
    pub(in crate::cmd::bench) fn problem(&self) -> Option<String> {
        let (fault, _) = self.faults.iter().max_by_key(|(_, count)| **count)?;
        let ended = self.faults.values().sum::<u64>();
        Some(format!(
            "{ended} of {} ended early: {fault}: `isthmus check --link {}` says more",
            count(self.streams, "stream"),
            self.link
        ))
    }

    /// The cores, gateways and transports that the streams were on.
    fn over(&self) -> String {
        let all = |of: fn(&MeasuredTunnel) -> &str| self.tunnels.iter().map(of).collect::<BTreeSet<_>>();
        let gateways = all(|tunnel| &tunnel.gateway).len();
        let cores = self.tunnels.iter().map(|tunnel| tunnel.core).collect::<BTreeSet<_>>().len();
        let transports = all(|tunnel| &tunnel.transport).into_iter().collect::<Vec<_>>().join(" and ");
        let of = if gateways > 1 { format!(" to {gateways} gateways") } else { String::new() };
        format!("{} over {transports} of {}{of}", count(self.streams, "stream"), count(cores, "core"))
    }
}

fn megabits(bytes: f64) -> f64 {
    bytes * 8.0 / 1e6
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, link, direction, seconds_limit, seconds, .. } = self;
        let (from, to) = if *direction == Way::Down { (link, cluster) } else { (cluster, link) };
        let early = if self.all_bytes { ", until all bytes were moved" } else { "" };
        writeln!(f, "{from} to {to}: {}", self.over())?;
        writeln!(f, "{seconds:.1} s of at most {seconds_limit} s{early}\n")?;
        let mut rates = Grid::new(["DIRECTION", "THROUGHPUT", "MIB"]);
        let throughput = self.megabits_per_second.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1} Mbit/s"));
        rates.row([direction.to_string(), throughput, format!("{:.1}", self.bytes as f64 / f64::from(1 << 20))]);
        writeln!(f, "{rates}")?;
        let by_second: Vec<_> = self.megabits_by_second.iter().map(|rate| format!("{rate:.1}")).collect();
        writeln!(f, "Mbit in each second: {}\n", by_second.join(" "))?;
        let mut times = Grid::new(HEADINGS);
        let nothing = |name: &str| [name, "-", "-", "-", "-", "-", "-"].map(str::to_owned);
        for (name, trips) in [("idle", &self.round_trips.idle), ("loaded", &self.round_trips.loaded)] {
            times.row(trips.as_ref().map_or_else(|| nothing(name), |trips| trips.times.cells(name)));
        }
        write!(f, "{times}\nround trip while loaded, up to\n{}", Bars(&self.histogram))?;
        self.faults.iter().try_for_each(|(fault, count)| writeln!(f, "{count} ended early: {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> LinkMeasure {
        let tunnel = |core, streams| MeasuredTunnel {
            core,
            transport: "tls".into(),
            gateway: "0000000000000001".into(),
            streams,
            bytes: 6_250_000 * streams as u64,
        };
        LinkMeasure {
            cluster: "west".into(),
            peer: "east".into(),
            direction: Way::Down,
            tunnels: vec![tunnel(0, 2), tunnel(1, 2)],
            bytes: 25_000_000,
            seconds: 2.0,
            bytes_per_second: Some(12_500_000.0),
            bytes_by_second: vec![12_000_000, 13_000_000],
            all_bytes: false,
            faults: BTreeMap::new(),
            idle_us: vec![1000, 1000, 1000],
            loaded_us: vec![2000, 4000],
        }
    }

    #[test]
    fn people_see_throughput_and_round_trips_without_and_under_load() {
        let report = Report::new(2, &found());
        let text = report.to_string();
        for part in [
            "east to west: 4 streams over tls of 2 cores\n",
            "2.0 s of at most 2 s\n",
            "down       100.0 Mbit/s  23.8\n",
            "Mbit in each second: 96.0 104.0\n",
            "idle          1.00  1.00",
            "loaded        2.00  2.00",
            "      4.00 ms         1  ####",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert_eq!(report.problem(), None);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["direction"], &json["round_trips"]["idle"]["count"]), (&"down".into(), &3.into()), "{json}");
        assert_eq!(json["round_trips"]["loaded"]["min"], 2.0, "{json}");
    }

    #[test]
    fn what_was_too_short_has_no_rate() {
        let short = LinkMeasure { seconds: 0.001, bytes_per_second: None, ..found() };
        let report = Report::new(2, &short);
        let text = report.to_string();
        assert!(text.contains("down       -           23.8\n") && !text.contains("Mbit/s"), "{text}");
        assert_eq!(serde_json::to_value(&report).unwrap()["megabits_per_second"], serde_json::Value::Null);
    }

    #[test]
    fn what_broke_and_what_nobody_answered_is_told() {
        let faults = [("the tunnel ended".to_owned(), 4)].into();
        let broken =
            LinkMeasure { direction: Way::Up, all_bytes: true, faults, idle_us: vec![], loaded_us: vec![], ..found() };
        let report = Report::new(5, &broken);
        let text = report.to_string();
        for part in [
            "west to east: ",
            "until all bytes were moved",
            "loaded        -    -",
            "4 ended early: the tunnel ended\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let problem = report.problem().unwrap();
        assert!(problem.starts_with("4 of 4 streams ended early: the tunnel ended: `isthmus check"), "{problem}");
    }
}

//! What the demonstration has found: a table for people, one JSON object for scripts (documented in docs/demo.md).

use super::{samples::Outcome, wrk::Figures};
use crate::paint::Paint;
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

/// What [`SetUp::mode`] is with namespaces.
pub(super) const NAMESPACES: &str = "namespaces";
/// What [`SetUp::mode`] is without.
pub(super) const LOOPBACK: &str = "loopback";

/// What the words of the tables mean.
const NOTES: &str = "direct: inside east, without a gateway. longest gap: without any answer.
recovery: from the restored link to the first answer.";
/// The same with an emulated WAN.
const NOTES_WAN: &str = "direct: plain TCP over the same WAN, from west's gateway to an nginx that is open to it.
longest gap: without any answer. recovery: from the restored link to the first answer.";
/// What is to be known about `--loopback`.
const RELAY: &str = "The WAN was a relay within the demo, at a cost.";
/// Why the way through the gateways can be the quicker one (docs/decisions/0012-busy-polling.md).
const AWAKE: &str = "1 connection was quicker through the gateways: they stay awake between its messages; the direct run's cores sleep.";

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// Under which circumstances.
    #[serde(flatten)]
    pub(super) set_up: SetUp,
    /// With nothing broken.
    pub(super) throughput: Vec<Measurement>,
    /// While one of the two endpoints was killed and started again.
    pub(super) endpoint_killed: Outcome,
    /// While the link was cut and restored.
    pub(super) link_cut: LinkCut,
    /// How many requests failed that should not have, in all of it.
    pub(super) unexpected: u64,
    /// Whether none did, and the link came back.
    pub(super) ok: bool,
    /// How the table looks.
    #[serde(skip)]
    pub(super) paint: Paint,
}

/// The circumstances of a run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SetUp {
    /// [`NAMESPACES`] or [`LOOPBACK`].
    pub(super) mode: &'static str,
    /// The emulated WAN, if there is one.
    pub(super) wan: Option<String>,
    /// The time of each measurement.
    pub(super) seconds: u64,
}

/// What wrk found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measurement {
    /// Whether through both gateways, or beside the endpoint without any.
    pub(super) path: Path,
    /// How many keep-alive connections.
    pub(super) connections: u32,
    /// Requests answered.
    pub(super) requests: u64,
    /// Per second.
    pub(super) requests_per_second: f64,
    /// Latency within which half of the requests were answered.
    pub(super) p50_us: u64,
    /// 90%.
    pub(super) p90_us: u64,
    /// 99%.
    pub(super) p99_us: u64,
    /// All.
    pub(super) max_us: u64,
    /// Requests that failed.
    pub(super) errors: u64,
    /// The same by kind.
    pub(super) faults: BTreeMap<&'static str, u64>,
}

/// The way of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Path {
    /// Without a gateway: inside east, or over an emulated WAN.
    Direct,
    /// From west, through both gateways.
    Gateways,
}

/// What became of requests while the link was cut.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LinkCut {
    /// The requests.
    #[serde(flatten)]
    pub(super) outcome: Outcome,
    /// For how long nothing passed.
    pub(super) cut_ms: f64,
    /// From then to the first answer; none if none came.
    pub(super) recovery_ms: Option<f64>,
}

impl Measurement {
    /// Names wrk's figures.
    pub(super) fn new(path: Path, connections: u32, figures: &Figures) -> Self {
        Self {
            path,
            connections,
            requests: figures.requests,
            requests_per_second: (figures.rate() * 10.0).round() / 10.0,
            p50_us: figures.p50_us,
            p90_us: figures.p90_us,
            p99_us: figures.p99_us,
            max_us: figures.max_us,
            errors: figures.errors(),
            faults: figures.faults(),
        }
    }
}

impl Path {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateways => "through the gateways",
        }
    }
}

impl Report {
    /// Adds up what should not have failed.
    pub(super) fn judge(
        set_up: SetUp,
        throughput: Vec<Measurement>,
        endpoint_killed: Outcome,
        link_cut: LinkCut,
    ) -> Self {
        let errors: u64 = throughput.iter().map(|measurement| measurement.errors).sum();
        let unexpected = errors + endpoint_killed.unexpected + link_cut.outcome.unexpected;
        let ok = unexpected == 0 && link_cut.recovery_ms.is_some();
        Self { set_up, throughput, endpoint_killed, link_cut, unexpected, ok, paint: Paint::default() }
    }

    /// What is to be said about it in one line.
    pub(super) fn verdict(&self) -> String {
        match (self.unexpected, self.link_cut.recovery_ms) {
            (0, Some(_)) => "no request failed that should not have".into(),
            (0, None) => "nothing passed any more after the link was restored".into(),
            (1, _) => "1 request failed that should not have".into(),
            (n, _) => format!("{} requests failed that should not have", grouped(n)),
        }
    }

    /// Whether one connection was quicker through the gateways, as the table has it. Over an emulated WAN they sleep, too.
    fn is_quicker_through(&self) -> bool {
        let rate = |path: Path| {
            let found = self.throughput.iter().find(|m| m.path == path && m.connections == 1);
            found.map(|m| m.requests_per_second.round())
        };
        self.set_up.wan.is_none()
            && rate(Path::Direct).zip(rate(Path::Gateways)).is_some_and(|(direct, through)| through > direct)
    }

    fn throughput(&self) -> Rows<8> {
        let headings = ["connections", "path", "requests/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "errors"];
        let mut rows = Rows::new(headings);
        for m in &self.throughput {
            let [p50, p90, p99, max] = [m.p50_us, m.p90_us, m.p99_us, m.max_us].map(milliseconds_of_us);
            let rate = grouped(m.requests_per_second.round() as u64);
            let errors = grouped(m.errors);
            rows.add([m.connections.to_string(), m.path.name().into(), rate, p50, p90, p99, max, errors], m.errors > 0);
        }
        rows
    }

    fn failures(&self) -> Rows<6> {
        let headings = ["under load", "requests", "failed", "unexpected", "longest gap", "recovery"];
        let mut rows = Rows::new(headings);
        let cells = |what: String, outcome: &Outcome, recovery: String| {
            let [requests, failed, unexpected] = [outcome.requests, outcome.failed, outcome.unexpected].map(grouped);
            [what, requests, failed, unexpected, milliseconds(outcome.longest_gap_ms), recovery]
        };
        let (endpoint, link) = (&self.endpoint_killed, &self.link_cut);
        rows.add(cells("one endpoint of two killed".into(), endpoint, "-".into()), endpoint.unexpected > 0);
        let recovery = link.recovery_ms.map_or_else(|| "never".into(), milliseconds);
        let cut = format!("link cut for {:.1} s, restored", link.cut_ms / 1e3);
        rows.add(cells(cut, &link.outcome, recovery), link.outcome.unexpected > 0 || link.recovery_ms.is_none());
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paint = self.paint;
        self.throughput().write(f, paint, 2)?;
        writeln!(f)?;
        self.failures().write(f, paint, 1)?;
        let notes = match (self.set_up.mode, &self.set_up.wan) {
            (LOOPBACK, _) => format!("{NOTES} {RELAY}"),
            (_, Some(_)) => NOTES_WAN.to_owned(),
            (_, None) => NOTES.to_owned(),
        };
        let notes = if self.is_quicker_through() { format!("{notes}\n{AWAKE}") } else { notes };
        writeln!(f, "\n{}\n", paint.dim(&notes))?;
        let verdict = self.verdict();
        if self.ok {
            writeln!(f, "{}", paint.green(&format!("√ {verdict}")))
        } else {
            writeln!(f, "{}", paint.red(&format!("× {verdict}")))
        }
    }
}

/// A table of which the first columns are texts, set left, and the others figures, set right.
struct Rows<const N: usize> {
    headings: [&'static str; N],
    rows: Vec<([String; N], bool)>,
}

impl<const N: usize> Rows<N> {
    fn new(headings: [&'static str; N]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    fn add(&mut self, cells: [String; N], bad: bool) {
        self.rows.push((cells, bad));
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, paint: Paint, texts: usize) -> fmt::Result {
        let widest = |column: usize| {
            let cells = self.rows.iter().map(|(cells, _)| cells[column].as_str());
            cells.chain([self.headings[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(widest);
        let line = |cells: [&str; N]| {
            let set = |(n, cell): (usize, &str)| {
                let width = widths[n];
                if n < texts { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            };
            cells.into_iter().enumerate().map(set).collect::<Vec<_>>().join("  ")
        };
        writeln!(f, "{}", paint.bold(&line(self.headings)))?;
        for (cells, bad) in &self.rows {
            let text = line(cells.each_ref().map(String::as_str));
            writeln!(f, "{}", if *bad { paint.red(&text) } else { text })?;
        }
        Ok(())
    }
}

/// 1234567 as 1,234,567.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let groups = tail.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let head = Some(head.to_owned()).filter(|head| !head.is_empty());
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

/// Milliseconds of a latency.
fn milliseconds_of_us(us: u64) -> String {
    format!("{}.{:02}", us / 1000, us % 1000 / 10)
}

/// A time for people: 7 ms, 3.41 s.
pub(super) fn milliseconds(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.0} ms") } else { format!("{:.2} s", ms / 1e3) }
}

#[cfg(test)]
mod tests;

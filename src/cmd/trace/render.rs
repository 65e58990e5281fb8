//! A trace as a text for people.

use super::{
    decisions::{write_decisions, write_taken},
    hop::{self, Hop},
};
use crate::{cmd::Failure, output::Grid};
use isthmus_gateway::status::trace::{ClusterTrace, EndpointTrace, ExportTrace, ImportTrace, Trace};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// A gateway's answer: what it sent, as JSON; what we know of it, as tables.
#[derive(Debug)]
pub(super) struct View {
    pub(super) trace: Trace,
    /// What was found by going there.
    pub(super) hops: Vec<Hop>,
    json: serde_json::Value,
}

impl View {
    /// Reads the answer of `admin`.
    pub(super) fn new(json: impl AsRef<[u8]>, admin: &str) -> Result<Self, Failure> {
        let unknown = |error| {
            let message =
                format!("{admin} answered something else than a trace: {error} (is it a gateway of this version?)");
            Failure::failed(message)
        };
        let json: serde_json::Value = serde_json::from_slice(json.as_ref()).map_err(unknown)?;
        let trace = Trace::deserialize(&json).map_err(unknown)?;
        Ok(Self { trace, hops: Vec::new(), json })
    }
}

/// Keeps what a newer gateway says and this version does not know.
impl Serialize for View {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut json = self.json.clone();
        if !self.hops.is_empty() {
            json["hops"] = serde_json::to_value(&self.hops).map_err(serde::ser::Error::custom)?;
        }
        json.serialize(to)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trace { cluster, service, imports, exports, taken, decisions, silent_cores } = &self.trace;
        writeln!(f, "{service} at a gateway of {cluster}")?;
        if !silent_cores.is_empty() {
            writeln!(f, "cores that did not answer, so that something is missing below: {silent_cores:?}")?;
        }
        if !self.hops.is_empty() {
            write!(f, "\n{}", hop::grid(&self.hops))?;
        }
        imports.iter().try_for_each(|import| write_import(import, f))?;
        exports.iter().try_for_each(|export| write_export(export, f))?;
        write_taken(taken, f)?;
        write_decisions(decisions, f)
    }
}

fn write_import(import: &ImportTrace, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "\nimported at {} as {}", import.listen, import.name)?;
    match &import.weights {
        Some(weights) => {
            let others = weights.clusters.iter().map(|(cluster, weight)| format!(", {cluster}={weight}"));
            write!(f, ", by shares: here={}{}", weights.local, others.collect::<String>())?;
        }
        None => write!(f, ", affinity {}", word(&import.affinity))?,
    }
    writeln!(f, "{}", if import.sticky { ", each client stays where it is" } else { "" })?;
    write!(f, "{}", clusters(&import.clusters))
}

fn clusters(clusters: &[ClusterTrace]) -> Grid<8> {
    let headings = ["CLUSTER", "READY", "HEALTHY", "TUNNEL", "RTT", "PART", "STREAMS", "MESSAGE"];
    let mut grid = Grid::new(headings);
    for cluster in clusters {
        let tunnel = match (cluster.here, cluster.live) {
            (true, _) => "here",
            (false, true) => "live",
            (false, false) => "none",
        };
        grid.row([
            cluster.cluster.clone(),
            cluster.ready.to_string(),
            or_dash(cluster.healthy),
            tunnel.to_owned(),
            or_dash(cluster.rtt_ms.map(millis)),
            format!("{:.0}%", cluster.part * 100.0),
            format!("{}%", cluster.percent),
            or_dash(cluster.message.clone()),
        ]);
    }
    grid
}

fn write_export(export: &ExportTrace, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (balance, near) = (export.policy.balance.as_str(), word(&export.policy.near));
    writeln!(f, "\nserved here as {}, balance {balance}, near {near}", export.name)?;
    write!(f, "{}", endpoints(&export.endpoints))
}

fn endpoints(endpoints: &[EndpointTrace]) -> Grid<9> {
    let headings = ["ENDPOINT", "HEALTH", "DISTANCE", "SCORE", "INFLIGHT", "CONNECT", "ANSWER", "STREAMS", "MESSAGE"];
    let mut grid = Grid::new(headings);
    for endpoint in endpoints {
        grid.row([
            endpoint.address.clone(),
            endpoint.health.clone(),
            endpoint.distance.clone(),
            format!("{:.2}", endpoint.score),
            endpoint.inflight.to_string(),
            or_dash(endpoint.connect_ms.map(millis)),
            or_dash(endpoint.answer_ms.map(millis)),
            format!("{}%", endpoint.percent),
            or_dash(message(endpoint)),
        ]);
    }
    grid
}

/// What is wrong with it, and for how long it is left out for that.
fn message(endpoint: &EndpointTrace) -> Option<String> {
    let new = (endpoint.share < 1.0).then(|| format!("new: {:.0}% of its share", endpoint.share * 100.0));
    let why = endpoint.message.clone().or(new)?;
    let left =
        endpoint.ejected_ms.map(|left| format!(", left out by {} cores for {}", endpoint.ejected_by, millis(left)));
    Some(why + &left.unwrap_or_default())
}

/// As it is in JSON.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn millis(millis: f64) -> String {
    if millis >= 1000.0 { format!("{:.1} s", millis / 1e3) } else { format!("{millis:.1} ms") }
}

pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

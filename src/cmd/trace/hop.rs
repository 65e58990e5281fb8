//! The hops of a stream, from a client's name for the service to the endpoint, each found out as far as can be.
//!
//! ```text
//! dns ─▶ listener ─▶ gateway ● ─▶ peer ● ─▶ policy ● ─▶ endpoint ●
//! ```

mod dns;
mod endpoint;
mod gateway;
mod listener;
mod peer;
mod policy;

use crate::{
    cmd::{Failure, admin},
    output::Grid,
};
use isthmus_control_api::ServiceName;
use isthmus_gateway::status::{
    probe::{LinksProbe, ServiceProbe},
    trace::{ClusterTrace, Trace},
};
use serde::Serialize;
use std::net::IpAddr;

/// What came of a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    /// A stream gets past it.
    Ok,
    /// It does not.
    Failed,
    /// It does not apply, or an earlier one failed.
    Skipped,
}

/// One hop.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Hop {
    /// Which.
    pub(super) hop: &'static str,
    /// Where that is.
    pub(super) at: String,
    pub(super) mark: Mark,
    /// How long it took, in milliseconds, with all before it that are on the same way.
    pub(super) took_ms: Option<f64>,
    /// What was found.
    pub(super) found: String,
}

impl Hop {
    fn ok(hop: &'static str, at: &str, took_ms: Option<f64>, found: impl Into<String>) -> Self {
        Self { hop, at: at.to_owned(), mark: Mark::Ok, took_ms, found: found.into() }
    }

    fn failed(hop: &'static str, at: &str, found: impl Into<String>) -> Self {
        Self { hop, at: at.to_owned(), mark: Mark::Failed, took_ms: None, found: found.into() }
    }

    fn skipped(hop: &'static str, at: &str, why: impl Into<String>) -> Self {
        Self { hop, at: at.to_owned(), mark: Mark::Skipped, took_ms: None, found: why.into() }
    }
}

/// What was found by going there.
#[derive(Debug, Default)]
struct Found {
    service: ServiceProbe,
    links: LinksProbe,
}

/// Walks all ways that new streams of the service take; `from`: on behalf of the client with that address. `name`: what clients
/// call it.
pub(super) async fn walk(
    admin: &str,
    trace: &Trace,
    service: &ServiceName,
    from: Option<IpAddr>,
    name: Option<&str>,
) -> Result<Vec<Hop>, Failure> {
    let query = from.map_or_else(String::new, |from| format!("?from={from}"));
    let asked = admin::probe(admin, &format!("/probe/service/{service}{query}")).await?;
    let links = admin::probe(admin, "/probe/links").await?;
    let found = Found { service: serde_json::from_slice(&asked)?, links: serde_json::from_slice(&links)? };
    let mut hops = vec![dns::hop(service, name).await];
    for import in &trace.imports {
        hops.push(listener::hop(&import.listen).await);
        hops.push(gateway::hop(trace, import));
        for cluster in import.clusters.iter().filter(|cluster| cluster.percent > 0.0) {
            hops.extend(beyond(&found, &import.listen, cluster));
        }
    }
    if trace.imports.is_empty() {
        hops.extend(endpoint::here(&found.service));
    }
    Ok(hops)
}

/// The hops behind the choice of a cluster.
fn beyond(found: &Found, listen: &str, cluster: &ClusterTrace) -> Vec<Hop> {
    if cluster.here {
        return endpoint::here(&found.service);
    }
    let imports = found.service.imports.iter().filter(|import| import.listen == listen);
    let stream = imports.flat_map(|import| &import.clusters).find(|stream| stream.cluster == cluster.cluster);
    let link = found.links.links.iter().find(|link| link.cluster == cluster.cluster);
    let peer = peer::hop(&cluster.cluster, link, stream);
    if peer.mark == Mark::Failed {
        let skipped = |hop| Hop::skipped(hop, &cluster.cluster, "nothing gets there");
        return vec![peer, skipped("policy"), skipped("endpoint")];
    }
    vec![peer, policy::hop(&cluster.cluster, stream), endpoint::hop(&cluster.cluster, stream)]
}

/// The first hop that fails, in one line.
pub(super) fn problem(hops: &[Hop]) -> Option<String> {
    let failed = hops.iter().find(|hop| hop.mark == Mark::Failed)?;
    Some(format!("it fails at the {} ({}): {}", failed.hop, failed.at, failed.found))
}

/// A table for people.
pub(super) fn grid(hops: &[Hop]) -> Grid<4> {
    let mut grid = Grid::new(["HOP", "AT", "TOOK", "FOUND"]);
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    for hop in hops {
        let mark = match hop.mark {
            Mark::Ok => "√",
            Mark::Failed => "×",
            Mark::Skipped => "–",
        };
        let took = hop.took_ms.map_or_else(|| "-".to_owned(), |took| format!("{took:.1} ms"));
        grid.row([format!("{mark} {}", hop.hop), clean(&hop.at), took, clean(&hop.found)]);
    }
    grid
}

#[cfg(test)]
mod tests;

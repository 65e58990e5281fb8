//! ● What the page of one service or one link shows beyond its row.

use super::history::{LinkHistory, ServiceHistory};
use crate::{
    metrics::{HandshakeCounts, Metrics},
    status::{CoreReport, Timestamp, trace::Trace},
};
use isthmus_control_api::ClusterName;
use serde::Serialize;
use std::time::Instant;

#[derive(Serialize)]
struct Link<'s> {
    cluster: &'s ClusterName,
    history: Option<&'s LinkHistory>,
    tunnels: Vec<Tunnel>,
    dials: Vec<Dial>,
    /// Tunnels that broke within ten minutes.
    breaks: Vec<Break>,
    /// Of this gateway, all links together.
    handshakes: HandshakeCounts,
}

#[derive(Serialize)]
struct Tunnel {
    core: usize,
    transport: &'static str,
    direction: &'static str,
    health: &'static str,
    rtt_ms: Option<f64>,
    streams_out: usize,
    streams_in: usize,
    /// The peer's gateway.
    gateway: Option<String>,
    /// Where it was dialled.
    address: Option<String>,
    /// Who relays it.
    via: Option<String>,
    cert_expiry: Option<Timestamp>,
}

#[derive(Serialize)]
struct Dial {
    core: usize,
    address: Option<String>,
    state: &'static str,
    since_s: u64,
    error: Option<String>,
}

#[derive(Serialize)]
struct Break {
    core: usize,
    times: usize,
    ago_s: u64,
    why: String,
}

/// A service's page as JSON. `records` are JSON each, the newest last.
pub(super) fn service<'r>(
    trace: &Trace,
    histories: &[(String, &ServiceHistory)],
    records: impl Iterator<Item = &'r str>,
) -> serde_json::Result<String> {
    let histories: std::collections::BTreeMap<_, _> = histories.iter().map(|(port, of)| (port, of)).collect();
    let (trace, histories) = (serde_json::to_string(trace)?, serde_json::to_string(&histories)?);
    let records: Vec<_> = records.collect();
    Ok(format!("{{\"trace\":{trace},\"histories\":{histories},\"records\":[{}]}}", records.join(",")))
}

/// A link's page as JSON.
pub(super) fn link(
    cluster: &ClusterName,
    reports: &[Option<CoreReport>],
    history: Option<&LinkHistory>,
    metrics: &Metrics,
    now: Instant,
) -> serde_json::Result<String> {
    let cores = || reports.iter().enumerate().filter_map(|(core, report)| Some((core, report.as_ref()?)));
    let tunnels = cores().flat_map(|(core, report)| {
        report.tunnels.iter().filter(|tunnel| tunnel.cluster == *cluster).map(move |tunnel| Tunnel {
            core,
            transport: tunnel.status.transport.as_str(),
            direction: tunnel.status.direction.as_str(),
            health: tunnel.status.health.as_str(),
            rtt_ms: tunnel.status.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            streams_out: tunnel.status.streams_out,
            streams_in: tunnel.status.streams_in,
            gateway: tunnel.status.peer.filter(|peer| peer.gateway.is_known()).map(|peer| peer.gateway.to_string()),
            address: tunnel.address.map(|address| address.to_string()),
            via: tunnel.via.as_ref().map(ToString::to_string),
            cert_expiry: tunnel.cert_expiry.map(Timestamp::from),
        })
    });
    let dials = cores().flat_map(|(core, report)| {
        report.dials.iter().filter(|dial| dial.cluster == *cluster).map(move |dial| Dial {
            core,
            address: dial.address.map(|address| address.to_string()),
            // What it led to last has another tunnel: there being none is as it should be.
            state: if dial.same.is_some() { "not needed" } else { dial.state.as_str() },
            since_s: now.saturating_duration_since(dial.state.since()).as_secs(),
            error: dial.state.last_error().map(str::to_owned),
        })
    });
    let breaks = cores().flat_map(|(core, report)| {
        report.breaks.iter().filter(|of| of.cluster == *cluster).map(move |of| Break {
            core,
            times: of.broken.times,
            ago_s: of.broken.ago.as_secs(),
            why: of.broken.why.to_string(),
        })
    });
    serde_json::to_string(&Link {
        cluster,
        history,
        tunnels: tunnels.collect(),
        dials: dials.collect(),
        breaks: breaks.collect(),
        handshakes: metrics.handshake_counts(),
    })
}

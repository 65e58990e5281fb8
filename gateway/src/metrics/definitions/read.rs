//! Values that take more than a line to read.

use crate::{
    metrics::{
        counter::HistogramSum,
        datagrams::DatagramTotals,
        scrape::{Samples, Scrape},
        streams::StreamTotals,
    },
    status::ServiceKind,
    tunnel::TunnelHealth,
};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

type Label = std::borrow::Cow<'static, str>;

pub(super) fn stream_labels(total: &StreamTotals) -> [Label; 3] {
    [total.service().into(), total.peer().into(), total.side.as_str().into()]
}

/// Summed over peers: a bucket is a series, and a service's latency is asked for far more often than a peer's.
pub(super) fn histograms(scrape: &Scrape, to: &mut Samples, of: fn(&StreamTotals) -> &HistogramSum) {
    let mut by_service = BTreeMap::new();
    for total in &scrape.streams {
        let sum = by_service.entry((total.service(), total.side));
        sum.and_modify(|sum: &mut HistogramSum| sum.merge(of(total))).or_insert_with(|| of(total).clone());
    }
    for ((service, side), sum) in by_service {
        to.histogram([service.into(), side.as_str().into()], sum);
    }
}

/// What UDP flows have counted, by service and direction.
pub(super) fn flows(scrape: &Scrape) -> BTreeMap<(String, &'static str), DatagramTotals> {
    let mut flows = BTreeMap::<_, DatagramTotals>::new();
    let udp = |total: &&StreamTotals| total.key.as_ref().is_none_or(|key| !key.service.protocol.is_tcp());
    for total in scrape.streams.iter().filter(udp) {
        flows.entry((total.service(), total.side.as_str())).or_default().merge(&total.datagrams);
    }
    flows
}

pub(super) fn datagrams(scrape: &Scrape, to: &mut Samples, of: fn(&DatagramTotals) -> Vec<(&'static str, u64)>) {
    for ((service, side), totals) in flows(scrape) {
        for (word, count) in of(&totals) {
            to.whole([service.clone().into(), side.into(), word.into()], count);
        }
    }
}

pub(super) fn tunnels(scrape: &Scrape, to: &mut Samples) {
    let mut counts = BTreeMap::new();
    for tunnel in scrape.tunnels.iter().filter(|tunnel| tunnel.status.health != TunnelHealth::Closed) {
        let status = &tunnel.status;
        let words = (status.transport.as_str(), status.direction.as_str(), status.health.as_str());
        *counts.entry((tunnel.cluster.clone(), words)).or_insert(0) += 1;
    }
    for ((peer, (transport, direction, health)), count) in counts {
        to.whole([peer.to_string().into(), transport.into(), direction.into(), health.into()], count);
    }
}

pub(super) fn tunnel_rtt(scrape: &Scrape, to: &mut Samples) {
    let mut shortest = BTreeMap::new();
    for tunnel in &scrape.tunnels {
        let status = &tunnel.status;
        let Some(rtt) = status.rtt.filter(|_| status.health != TunnelHealth::Closed) else { continue };
        let key = (tunnel.cluster.clone(), status.transport.as_str(), status.direction.as_str());
        shortest.entry(key).and_modify(|least: &mut Duration| *least = rtt.min(*least)).or_insert(rtt);
    }
    for ((peer, transport, direction), rtt) in shortest {
        to.number([peer.to_string().into(), transport.into(), direction.into()], rtt.as_secs_f64());
    }
}

pub(super) fn endpoints(scrape: &Scrape, to: &mut Samples) {
    let mut counts = BTreeMap::new();
    for service in scrape.status.services.iter().filter(|service| service.kind == ServiceKind::Export) {
        for endpoint in &service.endpoints {
            let name = service.name();
            *counts.entry((name, endpoint.health.clone())).or_insert(0) += 1;
        }
    }
    for ((service, health), count) in counts {
        to.whole([service.into(), health.into()], count);
    }
}

pub(super) fn checked_endpoints(scrape: &Scrape, to: &mut Samples) {
    let mut counts = BTreeMap::new();
    for service in &scrape.status.services {
        for check in service.endpoints.iter().filter_map(|endpoint| endpoint.check.as_ref()) {
            *counts.entry((service.name(), check.state.clone())).or_insert(0) += 1;
        }
    }
    for ((service, state), count) in counts {
        to.whole([service.into(), state.into()], count);
    }
}

pub(super) fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

//! What `/trace` says of one service: who could serve it, how each fares, and where the next streams would go.
//!
//! Each core says what it would do: it lets copies of its balancers choose for streams that do not exist. The answers of all cores are
//! put together here.

mod decision;

pub use decision::{PortDecision, Taken, Whom};

use super::{CoreReport, ExtraStatus, merge::millis};
use crate::balance::{EndpointStatus, health::HealthStatus};
use isthmus_control_api::{
    Affinity, ClusterName, Export, Import, Listen, ServiceName, ServicePolicy, ServicePort, Weights,
};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, time::Duration};

/// The answer. Its JSON form is an interface: fields are added, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// This cluster.
    pub cluster: String,
    /// What was asked for, `namespace/name`.
    pub service: String,
    /// Its imports here.
    pub imports: Vec<ImportTrace>,
    /// Its exports here.
    pub exports: Vec<ExportTrace>,
    /// What its streams take of their limits.
    #[serde(default)]
    pub taken: Vec<Taken>,
    /// What access policies would say of streams of those who were asked about.
    #[serde(default)]
    pub decisions: Vec<PortDecision>,
    /// Cores that did not answer in time.
    pub silent_cores: Vec<usize>,
}

/// Where the streams of a listener go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportTrace {
    /// `namespace/name:port`.
    pub name: String,
    /// Where clients connect.
    pub listen: String,
    /// Which clusters it prefers.
    pub affinity: Affinity,
    /// Shares instead.
    pub weights: Option<Weights>,
    /// Whether a client stays with its cluster and endpoint.
    pub sticky: bool,
    /// How its streams are served.
    pub policy: ServicePolicy,
    /// Who could serve them; this cluster first, if it could.
    pub clusters: Vec<ClusterTrace>,
}

/// A cluster that could serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterTrace {
    /// Its name.
    pub cluster: String,
    /// Whether it is this one.
    pub here: bool,
    /// Its ready endpoints, as the registry has them.
    pub ready: u32,
    /// How many of them are well, where that is known: here.
    pub healthy: Option<usize>,
    /// Whether a live tunnel leads there, from any core; always, of this one.
    pub live: bool,
    /// The shortest round trip, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The part of its streams that it gets now, 0 to 1, at the core where it is least: below 1 while it fails or comes back.
    pub part: f64,
    /// How many of 100 new streams would go there.
    pub percent: f64,
    /// Why it would get none, in words.
    pub message: Option<String>,
}

/// Where the streams of an exported port go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportTrace {
    /// `namespace/name:port`.
    pub name: String,
    /// How its streams are served.
    pub policy: ServicePolicy,
    /// Its endpoints.
    pub endpoints: Vec<EndpointTrace>,
}

/// An endpoint, over all cores: of each the worst, where nothing else is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointTrace {
    /// Where it listens.
    pub address: String,
    /// `healthy`, `probing`, `failing` or `ejected`.
    pub health: String,
    /// Why it is not healthy, in words.
    pub message: Option<String>,
    /// For how much longer it is left out, in milliseconds.
    pub ejected_ms: Option<f64>,
    /// How many cores leave it out.
    pub ejected_by: usize,
    /// What one more stream would cost, on average: streams, with that one, times milliseconds.
    pub score: f64,
    /// Streams that it has, all cores together.
    pub inflight: u32,
    /// What connecting takes, in milliseconds.
    pub connect_ms: Option<f64>,
    /// What it takes from the client's first byte to the endpoint's, in milliseconds.
    pub answer_ms: Option<f64>,
    /// Failures to connect in a row.
    pub failures: u32,
    /// Resets before the first byte in a row.
    pub resets: u32,
    /// The share that it has while it is new, 0.1 to 1.
    pub share: f64,
    /// Whether it is on our `node`, in our `zone`, or `far`: what does not count is far.
    pub distance: String,
    /// How many of 100 new streams would go there.
    pub percent: f64,
}

/// What one core knows of a service.
#[derive(Debug, Clone, Default)]
pub struct CoreTrace {
    /// Of each listener that leads to it.
    pub clusters: Vec<(Listen, CoreCluster)>,
    /// Of each exported port.
    pub endpoints: Vec<(ServicePort, CoreEndpoint)>,
    /// Of each port, as its gates have it: the same on all cores that have met it.
    pub taken: Vec<Taken>,
}

/// What a core knows of a cluster.
#[derive(Debug, Clone)]
pub struct CoreCluster {
    /// Which; `None` is this one.
    pub cluster: Option<ClusterName>,
    /// How many of its endpoints are well, where that is known.
    pub healthy: Option<usize>,
    /// The round trip, if there is a live tunnel: zero where it was not measured.
    pub link: Option<Duration>,
    /// The part of its streams that it gets.
    pub part: f64,
    /// What is known of its health.
    pub health: Option<HealthStatus>,
    /// How many of a number of streams would go there.
    pub chosen: u32,
}

/// What a core knows of an endpoint.
#[derive(Debug, Clone)]
pub struct CoreEndpoint {
    /// What its balancer says.
    pub status: EndpointStatus,
    /// How many of a number of streams would go there.
    pub chosen: u32,
}

/// One answer of what each core said; `None` of one that did not. `whom`: whose streams policies are asked about.
pub fn merge(
    (service, whom): (&ServiceName, Option<&Whom>),
    extra: &ExtraStatus,
    reports: &[Option<CoreReport>],
) -> Trace {
    let cores: Vec<&CoreTrace> = reports.iter().flatten().filter_map(|report| report.trace.as_ref()).collect();
    let table = &extra.table;
    let imports = table.imports.iter().filter(|(_, import)| import.service.service == *service);
    let exports = table.exports.iter().filter(|(port, _)| port.service == *service);
    Trace {
        cluster: extra.cluster.clone(),
        service: service.to_string(),
        imports: imports.map(|(listen, import)| import_trace(listen, import, extra, &cores)).collect(),
        exports: exports.map(|(port, export)| export_trace(port, export, &cores)).collect(),
        taken: taken(&cores),
        decisions: whom.map(|whom| decision::decide(service, whom, extra)).unwrap_or_default(),
        silent_cores: (0..reports.len()).filter(|&core| reports[core].is_none()).collect(),
    }
}

/// A core that met a service later knows more of it.
fn taken(cores: &[&CoreTrace]) -> Vec<Taken> {
    let mut all = std::collections::BTreeMap::new();
    for taken in cores.iter().flat_map(|core| &core.taken) {
        all.insert((&taken.name, &taken.side), taken);
    }
    all.into_values().cloned().collect()
}

fn import_trace(listen: &Listen, import: &Import, extra: &ExtraStatus, cores: &[&CoreTrace]) -> ImportTrace {
    let of_listener = || cores.iter().flat_map(|core| &core.clusters).filter(|(at, _)| at == listen).map(|(_, of)| of);
    let all: u32 = of_listener().map(|of| of.chosen).sum();
    let own = extra.table.exports.get(&import.service);
    let own = own.map(|export| (None, u32::try_from(export.endpoints.len()).unwrap_or(u32::MAX)));
    let others = import.clusters.iter().map(|(name, &ready)| (Some(name), ready));
    let cluster = |(name, ready): (Option<&ClusterName>, u32)| {
        let known: Vec<_> = of_listener().filter(|of| of.cluster.as_ref() == name).collect();
        let chosen: u32 = known.iter().map(|of| of.chosen).sum();
        let live = name.is_none() || known.iter().any(|of| of.link.is_some());
        let ejected =
            known.iter().any(|of| matches!(of.health, Some(HealthStatus::Ejected(_) | HealthStatus::Probing)));
        let healthy = known.iter().filter_map(|of| of.healthy).min();
        let message = if ready == 0 {
            Some("no endpoint is ready")
        } else if !live {
            Some("no live tunnel leads there")
        } else if healthy == Some(0) {
            Some("no endpoint is healthy")
        } else if ejected {
            Some("it has answered that it has no endpoint")
        } else if chosen == 0 && all > 0 {
            Some("others come first")
        } else {
            None
        };
        let rtt = known.iter().filter_map(|of| of.link).filter(|trip| !trip.is_zero()).min();
        ClusterTrace {
            cluster: name.map_or_else(|| extra.cluster.clone(), ToString::to_string),
            here: name.is_none(),
            ready,
            healthy,
            live,
            rtt_ms: rtt.map(millis),
            part: known.iter().map(|of| of.part).reduce(f64::min).unwrap_or(1.0),
            percent: percent(chosen, all),
            message: message.map(str::to_owned),
        }
    };
    ImportTrace {
        name: import.service.to_string(),
        listen: listen.to_string(),
        affinity: import.affinity,
        weights: import.weights.clone(),
        sticky: import.sticky,
        policy: (*import.policy).clone(),
        clusters: own.into_iter().chain(others).map(cluster).collect(),
    }
}

fn export_trace(port: &ServicePort, export: &Export, cores: &[&CoreTrace]) -> ExportTrace {
    let of_port = || cores.iter().flat_map(|core| &core.endpoints).filter(|(of, _)| of == port).map(|(_, of)| of);
    let all: u32 = of_port().map(|of| of.chosen).sum();
    let endpoint = |address: SocketAddr| {
        let known: Vec<_> = of_port().filter(|of| of.status.address == address).collect();
        endpoint_trace(address, &known, all)
    };
    ExportTrace {
        name: port.to_string(),
        policy: (*export.policy).clone(),
        endpoints: export.endpoints.iter().map(|of| endpoint(of.address)).collect(),
    }
}

fn endpoint_trace(address: SocketAddr, known: &[&CoreEndpoint], all: u32) -> EndpointTrace {
    let statuses = || known.iter().map(|of| &of.status);
    let worst = statuses().map(|status| super::merge::badness(status.health)).max();
    let left = |status: &EndpointStatus| match status.health {
        HealthStatus::Ejected(left) => Some(left),
        _ => None,
    };
    let longest = |of: fn(&EndpointStatus) -> Option<Duration>| statuses().filter_map(of).max().map(millis);
    let score: f64 = statuses().map(|status| status.cost.product() * 1e3).sum();
    EndpointTrace {
        address: address.to_string(),
        health: worst.map_or("unknown", |(_, word)| word).to_owned(),
        message: statuses().find_map(|status| status.why).map(|why| why.as_str().to_owned()),
        ejected_ms: statuses().filter_map(left).max().map(millis),
        ejected_by: statuses().filter_map(left).count(),
        score: (score / known.len().max(1) as f64 * 1e3).round() / 1e3,
        inflight: statuses().map(|status| status.in_flight).fold(0, u32::saturating_add),
        connect_ms: longest(|status| status.connect_time),
        answer_ms: longest(|status| status.answer_time),
        failures: statuses().map(|status| status.failures).max().unwrap_or(0),
        resets: statuses().map(|status| status.resets).max().unwrap_or(0),
        share: statuses().map(|status| status.share).reduce(f64::min).unwrap_or(1.0),
        distance: statuses().map(|status| status.distance).max().unwrap_or_default().as_str().to_owned(),
        percent: percent(known.iter().map(|of| of.chosen).sum(), all),
    }
}

/// To the tenth.
fn percent(part: u32, all: u32) -> f64 {
    (f64::from(part) * 1e3 / f64::from(all.max(1))).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control_api::{Endpoint, Table};
    use std::sync::Arc;

    fn core(chosen: [u32; 2], health: HealthStatus) -> Option<CoreReport> {
        let address = "10.0.0.2:80".parse().unwrap();
        let endpoint = CoreEndpoint { status: EndpointStatus { health, ..EndpointStatus::unused(address) }, chosen: 5 };
        let cluster = |cluster: Option<&str>, chosen| CoreCluster {
            cluster: cluster.map(|name| name.parse().unwrap()),
            healthy: cluster.is_none().then_some(1),
            link: cluster.map(|_| Duration::from_millis(7)),
            part: 1.0,
            health: None,
            chosen,
        };
        let clusters = [cluster(None, chosen[0]), cluster(Some("east"), chosen[1])];
        let trace = CoreTrace {
            clusters: clusters.map(|of| ("127.0.0.1:80".parse().unwrap(), of)).into(),
            endpoints: vec![(port(), endpoint)],
            taken: Vec::new(),
        };
        Some(CoreReport { trace: Some(trace), ..CoreReport::default() })
    }

    fn port() -> ServicePort {
        ServicePort::tcp("shop/api".parse().unwrap(), 80)
    }

    fn extra() -> ExtraStatus {
        let import = Import {
            service: port(),
            affinity: Affinity::None,
            clusters: [("east".parse().unwrap(), 3), ("north".parse().unwrap(), 1)].into(),
            weights: None,
            sticky: false,
            policy: Arc::default(),
        };
        let export = Export { endpoints: vec![Endpoint::at("10.0.0.2:80".parse().unwrap())], ..Export::default() };
        let table = Table {
            imports: [("127.0.0.1:80".parse().unwrap(), Arc::new(import))].into(),
            exports: [(port(), Arc::new(export))].into(),
            ..Table::default()
        };
        ExtraStatus { cluster: "west".into(), table: Arc::new(table), ..ExtraStatus::default() }
    }

    #[test]
    fn what_the_cores_would_do_is_put_together() {
        let ejected = HealthStatus::Ejected(Duration::from_secs(2));
        let reports = [core([30, 70], HealthStatus::Healthy), core([10, 90], ejected), None];
        let trace = merge((&"shop/api".parse().unwrap(), None), &extra(), &reports);
        let [west, east, north] = &trace.imports[0].clusters[..] else { panic!("three clusters") };
        assert_eq!((west.percent, east.percent, north.percent), (20.0, 80.0, 0.0));
        assert_eq!((west.here, west.healthy, east.rtt_ms), (true, Some(1), Some(7.0)));
        assert_eq!(north.message.as_deref(), Some("no live tunnel leads there"));
        let endpoint = &trace.exports[0].endpoints[0];
        assert_eq!((endpoint.health.as_str(), endpoint.ejected_by, endpoint.percent), ("ejected", 1, 100.0));
        assert_eq!(trace.silent_cores, [2]);
    }

    #[test]
    fn a_service_that_nobody_knows_has_nothing() {
        let trace = merge((&"shop/db".parse().unwrap(), None), &extra(), &[core([1, 1], HealthStatus::Healthy)]);
        assert!(trace.imports.is_empty() && trace.exports.is_empty());
    }
}

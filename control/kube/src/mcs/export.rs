//! ● What this cluster exports of a service.

use super::{
    ObjectKey, Problem, World,
    asked::{Asked, FEDERATED, MIRROR},
    endpoints::{self, Ready},
    ports,
};
use crate::api::mcs::ServiceExport;
use isthmus_control::exchange::summary::{Port, PortSummary, Summary, member_service};
use isthmus_control_api::{Endpoint, Export, ServiceName, ServicePort};
use k8s_openapi::api::core::v1::{Service, ServicePort as KubePort, ServiceSpec};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// How long a client stays where the Service says that it does and not for how long: Kubernetes' own default, in seconds.
const AFFINITY: u32 = 10_800;

/// An export that is valid.
pub(super) struct Exported<'a> {
    /// What peers are told.
    pub(super) summary: Arc<Summary>,
    /// What the gateway serves.
    pub(super) table: BTreeMap<ServicePort, Export>,
    /// Its ready endpoints.
    pub(super) ready: BTreeMap<IpAddr, Ready<'a>>,
    /// What is left out of what peers are told.
    pub(super) problems: Vec<Problem>,
}

/// Why an export is not valid.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What is exported of the Service of that name: by its ServiceExport, or as something else asks for.
///
/// # Errors
/// There is none, or it cannot be exported.
pub(super) fn exported<'a>(
    world: &'a World,
    key: &ObjectKey,
    export: Option<&ServiceExport>,
    asked: Option<&Asked>,
) -> Result<Exported<'a>, Invalid> {
    let no_service = || Invalid { reason: "NoService", message: format!("there is no Service {key}") };
    let service = world.services.get(key).ok_or_else(no_service)?;
    let name = key.service().ok_or_else(no_service)?;
    let spec = service.spec.as_ref().ok_or_else(no_service)?;
    if spec.type_.as_deref() == Some("ExternalName") {
        let message = "a Service of type ExternalName has no endpoints to export".to_owned();
        return Err(Invalid { reason: "InvalidServiceType", message });
    }
    let ready = endpoints::ready(world, key, service);
    let mut summary = said(export, service, spec, &ready);
    for (key, is_asked) in asked.into_iter().flat_map(|asked| [(MIRROR, asked.mirror), (FEDERATED, asked.federated)]) {
        summary.annotations.extend(is_asked.then(|| (key.into(), "true".into())));
    }
    let mut cut: Vec<String> = summary.fit().into_iter().map(str::to_owned).collect();
    cut.extend(not_told(spec));
    let table = table(&name, &summary, &ready);
    let not_carried = (!summary.sctp.is_empty()).then(|| summary.sctp.keys().copied().collect());
    let cut = cut.into_iter().map(|what| Problem::Cut { what });
    let problems = cut.chain(not_carried.map(|ports| Problem::NotCarried { ports })).collect();
    Ok(Exported { summary: Arc::new(summary), table, ready, problems })
}

fn said(
    export: Option<&ServiceExport>,
    service: &Service,
    spec: &ServiceSpec,
    ready: &BTreeMap<IpAddr, Ready<'_>>,
) -> Summary {
    let meta = export.map_or(&service.metadata, |export| &export.metadata);
    let created = meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond());
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let texts =
        |of: &BTreeMap<String, String>| of.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
    let mut zones = BTreeMap::new();
    for zone in ready.values().filter_map(|ready| ready.zone) {
        *zones.entry(Arc::from(zone)).or_default() += 1;
    }
    Summary {
        since: u64::try_from(created).unwrap_or_default(),
        headless,
        ports: said_ports(spec, ready),
        sctp: said_sctp(spec),
        zones,
        affinity: affinity(spec),
        node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        traffic_distribution: spec.traffic_distribution.as_deref().map(Arc::from),
        families: if spec.ip_families.is_some() { endpoints::families(service) } else { Vec::new() },
        labels: export.map(|export| texts(&export.spec.exported_labels)).unwrap_or_default(),
        annotations: export.map(|export| texts(&export.spec.exported_annotations)).unwrap_or_default(),
        members: if headless { ready.values().map(Ready::member).collect() } else { BTreeSet::new() },
    }
}

fn said_ports(spec: &ServiceSpec, ready: &BTreeMap<IpAddr, Ready<'_>>) -> BTreeMap<Port, PortSummary> {
    let port = |port: &KubePort| {
        let key = ports::number(port)?;
        let serving = ready.values().filter(|ready| ready.port(port.name.as_deref(), key.protocol).is_some()).count();
        Some((key, PortSummary { ready: u32::try_from(serving).unwrap_or(u32::MAX), ..said_port(port) }))
    };
    spec.ports.iter().flatten().filter_map(port).collect()
}

fn said_sctp(spec: &ServiceSpec) -> BTreeMap<u16, PortSummary> {
    let port = |port| Some((sctp(port)?, said_port(port)));
    spec.ports.iter().flatten().filter_map(port).collect()
}

fn said_port(port: &KubePort) -> PortSummary {
    let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(Arc::from);
    PortSummary { name: text(&port.name), app_protocol: text(&port.app_protocol), ready: 0 }
}

fn sctp(port: &KubePort) -> Option<u16> {
    ports::sctp_number(port.port, port.protocol.as_deref())
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|config| config.timeout_seconds).and_then(|seconds| u32::try_from(seconds).ok());
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| seconds.unwrap_or(AFFINITY))
}

/// Ports of protocols that Kubernetes has not.
fn not_told(spec: &ServiceSpec) -> impl Iterator<Item = String> {
    let not_told = spec.ports.iter().flatten().filter(|port| ports::number(port).is_none() && sctp(port).is_none());
    not_told.map(|port| format!("port {}, which is {}", port.port, port.protocol.as_deref().unwrap_or("TCP")))
}

/// What the gateway serves: each port by all endpoints; and of a headless service each endpoint by itself, under a name of its own.
fn table(name: &ServiceName, summary: &Summary, ready: &BTreeMap<IpAddr, Ready<'_>>) -> BTreeMap<ServicePort, Export> {
    let mut table = BTreeMap::new();
    for (key, port) in &summary.ports {
        let address =
            |ready: &Ready<'_>| Some(SocketAddr::new(ready.address, ready.port(port.name.as_deref(), key.protocol)?));
        let key = |service| ServicePort { service, port: key.number, protocol: key.protocol };
        let empty = || Export {
            port_name: port.name.as_deref().map(str::to_owned),
            endpoints: Vec::new(),
            ..Export::default()
        };
        let mut add = |service, address| table.entry(key(service)).or_insert_with(empty).endpoints.extend(address);
        add(name.clone(), None);
        for ready in ready.values() {
            let Some(address) = address(ready) else { continue };
            let zone = ready.zone.map(Arc::from);
            let endpoint = Endpoint { address, zone, node: ready.endpoint.node_name.as_deref().map(Arc::from) };
            add(name.clone(), Some(endpoint.clone()));
            let member = ready.member();
            if summary.members.contains(&member) {
                add(member_service(name, &member.key), Some(endpoint));
            }
        }
    }
    table
}

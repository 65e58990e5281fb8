//! ● What Connectors export.

use super::{KEY_PORT, owned, service_port};
use crate::{
    compat::{
        hosts,
        skupper::{Connector, Target},
    },
    mcs::{
        Kind, ObjectKey, ServicePlan, Unwanted, World,
        asked::unheeded,
        endpoints::{self, Ready},
        here::Context,
        marks::{self, EXPORT},
        ports::number,
        service::lacking,
    },
    optional::OptionalKind,
};
use isthmus_control::exchange::summary::{Port, PortSummary, Summary, bounds::is_label};
use isthmus_control_api::{Endpoint, Export, Protocol};
use k8s_openapi::{
    api::core::v1::{Service, ServicePort as KubePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::{ResourceExt as _, api::DynamicObject};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// On the Service that finds a Connector's pods: the Connector's name.
const CONNECTOR: &str = "isthmus.io/connector";
/// The plan of a routing key: what its Connectors export.
pub(in crate::mcs) fn plan(cx: &Context<'_>, key: &ObjectKey) -> ServicePlan {
    let mut plan = ServicePlan { problems: cx.skupper.problems(key).collect(), ..ServicePlan::default() };
    let (Some(connectors), Some(name)) = (cx.skupper.connectors.get(key), key.service()) else { return plan };
    let mut serving = Serves::default();
    for (object, connector) in connectors {
        if let Err(why) = connect(cx, &mut plan, &mut serving, object, connector) {
            let what = format!("{} {}: {why}", OptionalKind::Connector, ObjectKey::of(*object));
            plan.problems.push(unheeded(what));
        }
    }
    let since = connectors.iter().filter_map(|(object, _)| object.metadata.creation_timestamp.as_ref());
    let since = since.map(|time| time.0.as_millisecond()).min().unwrap_or_default();
    let ready = u32::try_from(serving.endpoints.len()).unwrap_or(u32::MAX);
    let mut summary = Summary {
        since: u64::try_from(since).unwrap_or_default(),
        ports: [(KEY_PORT, PortSummary { ready, ..PortSummary::default() })].into(),
        zones: serving.zones,
        ..Summary::default()
    };
    summary.fit();
    let endpoints = serving.endpoints.into_iter().map(Endpoint::at).collect();
    plan.exports.insert(service_port(name), Arc::new(Export { endpoints, ..Export::default() }));
    plan.summary = Some(Arc::new(summary));
    plan.problems.extend(lacking(cx, key));
    plan
}

/// Who serves a routing key here.
#[derive(Debug, Default)]
struct Serves {
    endpoints: BTreeSet<SocketAddr>,
    zones: BTreeMap<Arc<str>, u32>,
}

impl Serves {
    fn add(&mut self, ready: &Ready<'_>, port: u16) {
        if self.endpoints.insert(SocketAddr::new(ready.address, port))
            && let Some(zone) = ready.zone
        {
            *self.zones.entry(zone.into()).or_default() += 1;
        }
    }
}

/// Adds those that a Connector leads to, and the Service by which its pods are found.
fn connect(
    cx: &Context<'_>,
    plan: &mut ServicePlan,
    serves: &mut Serves,
    object: &DynamicObject,
    connector: &Connector,
) -> Result<(), String> {
    let own = ObjectKey::of(object);
    let key = ObjectKey::new(&own.namespace, &format!("connector-{}", own.name));
    let observed = cx.world.services.get(&key).map(|service| &**service);
    let is_of_it = |service: &Service| service.annotations().get(CONNECTOR).is_some_and(|of| **of == *own.name);
    match &connector.target {
        Target::Pods(labels) => {
            if !is_label(&key.name) {
                return Err(format!("metadata.name: the Service for its pods, {}, is longer than 63 bytes", key.name));
            }
            if observed.is_some_and(|service| !is_of_it(service)) {
                return Err(format!("the Service {key} for its pods exists and is not ours"));
            }
            plan.services.push(pods(&key, object, connector, labels));
            let ready = observed.map(|service| endpoints::ready(cx.world, &key, service)).unwrap_or_default();
            ready.values().for_each(|ready| serves.add(ready, connector.port));
        }
        Target::Host(host) => {
            if let Some(service) = observed.filter(|service| is_of_it(service)) {
                let (key, uid) = marks::identity(service);
                plan.unwanted.push(Unwanted { kind: Kind::Service, key, uid });
            }
            to_host(cx, serves, &own.namespace, host, connector.port)?;
        }
    }
    Ok(())
}

/// A host that is an address of no other namespace, or a Service beside the Connector: who may write Connectors in a namespace exports no other's.
fn to_host(cx: &Context<'_>, serves: &mut Serves, from: &str, host: &str, port: u16) -> Result<(), String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        if !is_of_another_host(address) {
            return Err(format!("spec.host: found {host:?}, expected an address that others can reach"));
        }
        if let Some(other) = who_has(cx, address.to_canonical()).find(|namespace| namespace != from) {
            return Err(format!(
                "spec.host: found {host:?}, an address in {other}, expected one that no other namespace has"
            ));
        }
        serves.endpoints.insert(SocketAddr::new(address, port));
        return Ok(());
    }
    let lacking =
        || format!("spec.host: found {host:?}, expected an IP address, or a Service of {from} with a port {port}");
    let (_, name) = hosts::service(host, from).filter(|(namespace, _)| namespace == from).ok_or_else(lacking)?;
    let key = ObjectKey::new(from, &name);
    let service = cx.world.services.get(&key).ok_or_else(lacking)?;
    let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let wanted = Port { number: port, protocol: Protocol::Tcp };
    let found = ports.find(|of| number(of) == Some(wanted)).ok_or_else(lacking)?;
    for ready in endpoints::ready(cx.world, &key, service).values() {
        if let Some(port) = ready.port(found.name.as_deref(), Protocol::Tcp) {
            serves.add(ready, port);
        }
    }
    Ok(())
}

/// The namespaces whose Services or endpoints have an address, ready or not.
fn who_has(cx: &Context<'_>, address: IpAddr) -> impl Iterator<Item = String> {
    let is = move |text: &str| text.parse::<IpAddr>().is_ok_and(|found| found.to_canonical() == address);
    let services = cx.world.services.iter().filter(move |(_, service)| addresses(service).any(is));
    let slices = cx.world.slices.iter().filter(move |(_, slice)| {
        slice.endpoints.iter().flatten().any(|endpoint| endpoint.addresses.iter().any(|text| is(text)))
    });
    services.map(|(key, _)| key.namespace.to_string()).chain(slices.map(|(key, _)| key.namespace.to_string()))
}

/// Where a Service can be reached.
fn addresses(service: &Service) -> impl Iterator<Item = &str> {
    let spec = service.spec.iter();
    let balancer = service.status.iter().flat_map(|status| &status.load_balancer).flat_map(|at| &at.ingress).flatten();
    spec.flat_map(|spec| {
        let lists = [&spec.cluster_ips, &spec.external_ips];
        spec.cluster_ip.iter().chain(lists.into_iter().flatten().flatten())
    })
    .map(String::as_str)
    .chain(balancer.filter_map(|at| at.ip.as_deref()))
}

/// Whether an address is not one of the gateway's own host or of what clouds have beside it: it is the gateway that dials.
fn is_of_another_host(address: IpAddr) -> bool {
    let is_near = match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let address = address.to_canonical();
    !(is_near || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// Whether a Service is the one by which a Connector's pods are found: it has no label of ours.
pub(crate) fn is_of_connector(world: &World, service: &Service) -> bool {
    let namespace = service.namespace().unwrap_or_default();
    service.annotations().get(CONNECTOR).is_some_and(|name| {
        let connector = world.optional_object(OptionalKind::Connector, &ObjectKey::new(&namespace, name));
        let uid = connector.and_then(|connector| connector.metadata.uid.as_ref());
        uid.is_some() && service.owner_references().iter().any(|owner| Some(&owner.uid) == uid)
    })
}

/// The Service by which Kubernetes finds a Connector's pods. It has no label of ours: its slices would have it, too.
fn pods(key: &ObjectKey, object: &DynamicObject, connector: &Connector, labels: &BTreeMap<String, String>) -> Service {
    let annotations = [(CONNECTOR.to_owned(), object.name_any()), (EXPORT.to_owned(), "false".to_owned())];
    let port = KubePort {
        port: connector.port.into(),
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(connector.port.into())),
        ..KubePort::default()
    };
    Service {
        metadata: ObjectMeta { annotations: Some(annotations.into()), ..owned(key, OptionalKind::Connector, object) },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some("None".into()),
            selector: Some(labels.clone()),
            ports: Some(vec![port]),
            publish_not_ready_addresses: connector.not_ready.then_some(true),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

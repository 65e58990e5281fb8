//! ● Where Listeners have clients led.

use super::{KEY_PORT, owned, owner, plan, service_port};
use crate::{
    api::mcs::{SERVICE_NAME, SOURCE_CLUSTER},
    compat::skupper::{self, Listener, NAMESPACE},
    mcs::{
        Kind, ObjectKey, Problem, ServicePlan, World, derived,
        here::{Context, is_unheard},
        marks::{MANAGED_BY, MANAGER, is_ours},
        merge::MergedPort,
        names::digest,
        ports::Ports,
        service::listen,
        slices::{Place, Role, Serving},
    },
    optional::OptionalKind,
};
use isthmus_control::{exchange::summary::Port, registry::DesiredImport};
use isthmus_control_api::{Affinity, ClusterName, ServiceName};
use k8s_openapi::{
    api::core::v1::{Service, ServiceSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{ResourceExt as _, api::DynamicObject};
use std::collections::BTreeMap;

/// Adds what Listeners want of a Service's name: the Service, which leads to the gateways, and what these listen for.
pub(in crate::mcs) fn fill(plan: &mut ServicePlan, cx: &Context<'_>, key: &ObjectKey, ports: &mut Ports) {
    let Some(listeners) = cx.skupper.listeners.get(key) else { return };
    let Some((object, _)) = listeners.values().next() else { return };
    let observed = cx.world.services.get(key).map(|service| &**service);
    let is_for_it =
        |service: &Service| is_ours(service) && service.labels().get(SERVICE_NAME).is_some_and(|of| **of == *key.name);
    if observed.is_some_and(|service| !is_for_it(service)) {
        plan.problems.push(Problem::NotOurs { kind: Kind::Service, key: key.clone() });
        return;
    }
    let mut given = BTreeMap::new();
    for (port, (_, listener)) in listeners {
        // Nobody but this cluster's own users has asked for it.
        match (ports.give(key, *port, &[]), routed(listener)) {
            (Ok(target), _) => drop(given.insert(*port, target)),
            (Err(_), Some(service)) => plan.problems.push(Problem::NoPort { port: service_port(service), more: 0 }),
            (Err(_), None) => {}
        }
    }
    if given.is_empty() {
        plan.waiting.insert(key.clone());
    }
    let named: BTreeMap<Port, MergedPort> =
        listeners.iter().map(|(port, (_, of))| (*port, name_of(of, listeners.len()))).collect();
    plan.services.extend(service(cx.world, key, object, observed, &named, &given));
    let Some(observed) = observed else { return };
    for cluster in clusters(cx) {
        let serving = |port: &Port| {
            let routed = listeners.get(port).and_then(|(_, listener)| routed(listener));
            routed.is_some_and(|service| serves(cx, cluster, &service, key, &named, *port))
        };
        let served = given.iter().filter(|(port, _)| serving(port)).map(|(port, target)| (*port, *target)).collect();
        let serving = Serving { cluster, role: Role::Listener, service: key, observed, named: &named, ports: served };
        let owner = owner(OptionalKind::Listener, object);
        let place = Place { world: cx.world, origin: &key.name, owner, distribution: None };
        plan.slices.extend(place.gateways(&serving));
    }
    for (port, (_, listener)) in listeners {
        let Some(service) = routed(listener) else { continue };
        let one = given.iter().filter(|(of, _)| *of == port).map(|(port, target)| (*port, *target)).collect();
        listen(plan, key, &one, ports, |_| DesiredImport {
            service: service_port(service.clone()),
            affinity: Affinity::None,
            weights: None,
            sticky: false,
            policy: Default::default(),
            member: None,
        });
    }
}

fn service(
    world: &World,
    key: &ObjectKey,
    object: &DynamicObject,
    observed: Option<&Service>,
    named: &BTreeMap<Port, MergedPort>,
    given: &BTreeMap<Port, u16>,
) -> Option<Service> {
    let ports: Vec<_> = given
        .iter()
        .filter_map(|(port, target)| Some(derived::service_port(*port, named.get(port)?, *target)))
        .collect();
    if ports.is_empty() {
        return None;
    }
    let (policy, families) = derived::families(world, observed);
    let labels = [(MANAGED_BY, MANAGER), (SERVICE_NAME, &key.name)];
    let labels = labels.into_iter().map(|(label, value)| (label.to_owned(), value.to_owned()));
    let spec = ServiceSpec {
        type_: Some("ClusterIP".into()),
        ports: Some(ports),
        ip_family_policy: Some(policy),
        ip_families: families,
        ..ServiceSpec::default()
    };
    let metadata = ObjectMeta { labels: Some(labels.collect()), ..owned(key, OptionalKind::Listener, object) };
    Some(Service { metadata, spec: Some(spec), status: None })
}

/// The clusters that can serve anything: this one and the linked ones.
fn clusters<'a>(cx: &'a Context<'_>) -> impl Iterator<Item = &'a ClusterName> {
    std::iter::once(&cx.settings.cluster).chain(cx.peers.keys())
}

/// Whether a cluster serves a routing key now. One that has said nothing since our start does as a Listener's slices say.
fn serves(
    cx: &Context<'_>,
    cluster: &ClusterName,
    service: &ServiceName,
    listener: &ObjectKey,
    named: &BTreeMap<Port, MergedPort>,
    port: Port,
) -> bool {
    let Some(peer) = cx.peers.get(cluster) else {
        let connectors = cx.skupper.connectors.get(&ObjectKey::from(service));
        return connectors.is_some()
            && plan(cx, &ObjectKey::from(service)).exports.values().any(|of| !of.endpoints.is_empty());
    };
    if is_unheard(peer) {
        let name = named.get(&port).and_then(|port| port.name.as_deref()).unwrap_or_default();
        let mut slices = cx.world.slices.of_service(listener).map(|(_, slice)| slice);
        return !peer.late
            && slices.any(|slice| {
                let is_of = slice.labels().get(SOURCE_CLUSTER).is_some_and(|of| of == cluster.as_str());
                is_of && slice.ports.iter().flatten().any(|port| port.name.as_deref().unwrap_or_default() == name)
            });
    }
    let summary = peer.exports.services.get(service).filter(|_| peer.up);
    summary.and_then(|of| of.ready(KEY_PORT.number, KEY_PORT.protocol)).is_some_and(|ready| ready > 0)
}

/// The service that a Listener's routing key is.
fn routed(listener: &Listener) -> Option<ServiceName> {
    ObjectKey::new(NAMESPACE, &skupper::service_name(&listener.routing_key, digest)).service()
}

/// A port needs a name only beside others.
fn name_of(listener: &Listener, ports: usize) -> MergedPort {
    MergedPort { name: (ports > 1).then(|| format!("port-{}", listener.port).into()), app_protocol: None }
}

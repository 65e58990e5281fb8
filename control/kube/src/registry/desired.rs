//! ● From a plan to what the gateway is to do.

use super::links::Links;
use crate::{
    api::mcs::SERVICE_NAME,
    mcs::{ObjectKey, Plan, World},
};
use isthmus_control::registry::Desired;
use isthmus_control_api::{Listen, Protocol, Relaying};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// What follows from `plan` and `links`.
///
/// Only those gateway ports are listened on that the API server has on record: whatever another replica writes meanwhile, nobody is
/// ever led to a port of another service.
pub(super) fn desired(plan: &Plan, world: &World, links: &Links, relay: &Relaying) -> Desired {
    let recorded = recorded(world);
    let any = if has_ipv6(world) { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    let plans = || plan.services.values();
    let imports = plan.services.iter().flat_map(|(key, plan)| plan.imports.iter().map(move |import| (key, import)));
    let imports = imports.filter(|(key, (port, import))| {
        recorded.get(&(**port, import.service.protocol)).is_some_and(|of| *of == **key)
    });
    let imports = imports.map(|(_, (&port, import))| {
        let listen = Listen { address: SocketAddr::new(any, port), protocol: import.service.protocol };
        (listen, import.clone())
    });
    let services = plan.services.iter().filter_map(|(key, plan)| Some((key.service()?, plan.summary.clone()?)));
    let namespaces: BTreeSet<Arc<str>> = world.namespaces.clone();
    Desired {
        exports: plans().flat_map(|plan| plan.exports.clone()).collect(),
        services: Arc::new(services.collect()),
        namespaces: Some(Arc::new(namespaces)),
        imports: imports.collect(),
        links: links.clone(),
        relay: relay.clone(),
    }
}

/// Which service each gateway port is for, by the derived Services.
fn recorded(world: &World) -> BTreeMap<(u16, Protocol), ObjectKey> {
    let mut recorded = BTreeMap::new();
    for (key, service) in world.services.iter() {
        let Some(of) = service.labels().get(SERVICE_NAME).map(|name| ObjectKey::new(&key.namespace, name)) else {
            continue;
        };
        for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let protocol = match port.protocol.as_deref() {
                None | Some("TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some(_) => continue,
            };
            if let Some(IntOrString::Int(number)) = &port.target_port
                && let Ok(number) = u16::try_from(*number)
            {
                recorded.insert((number, protocol), of.clone());
            }
        }
    }
    recorded
}

fn has_ipv6(world: &World) -> bool {
    world.gateways.iter().flat_map(|gateway| &gateway.addresses).any(IpAddr::is_ipv6)
}

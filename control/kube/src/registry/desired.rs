//! ● From a plan to what the gateway is to do.

use super::links::Links;
use crate::mcs::{Plan, World};
use isthmus_control::registry::Desired;
use isthmus_control_api::{Listen, Relaying};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// What follows from `plan` and `links`.
pub(super) fn desired(plan: &Plan, world: &World, links: &Links, relay: &Relaying) -> Desired {
    let any = if has_ipv6(world) { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    let plans = || plan.services.values();
    let imports = plans().flat_map(|plan| &plan.imports).map(|(&port, import)| {
        let listen = Listen { address: SocketAddr::new(any, port), protocol: import.service.protocol };
        (listen, import.clone())
    });
    let services = plan.services.iter().filter_map(|(key, plan)| Some((key.service()?, plan.summary.clone()?)));
    Desired {
        exports: plans().flat_map(|plan| plan.exports.clone()).collect(),
        services: Arc::new(services.collect()),
        namespaces: Some(Arc::new(world.namespaces.clone())),
        imports: imports.collect(),
        links: links.clone(),
        relay: relay.clone(),
    }
}

/// Whether anybody comes to our gateways by IPv6. Its wildcard takes IPv4 as well.
fn has_ipv6(world: &World) -> bool {
    world.gateways.iter().flat_map(|gateway| &gateway.addresses).any(IpAddr::is_ipv6)
}

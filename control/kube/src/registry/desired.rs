//! ● From a plan to what the gateway is to do.

use super::links::Links;
use crate::{
    compat::skupper::NAMESPACE,
    mcs::{Plan, World},
    optional::OptionalKind,
};
use isthmus_control::{registry::Desired, shared};
use isthmus_control_api::Listen;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// What follows from `plan` and `links`, and from where `file` has gateways listen and relay. What is as it was `before` is shared with it.
pub(super) fn desired(plan: &Plan, world: &World, links: &Links, file: &Desired, before: &Desired) -> Desired {
    let any = if has_ipv6(world) { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    let plans = || plan.services.values();
    let imports = plans().flat_map(|plan| &plan.imports).map(|(&port, import)| {
        let address = SocketAddr::new(any, port);
        let listen = Listen { address, protocol: import.service.protocol, server_name: None };
        (listen, import.clone())
    });
    let exports = plans().flat_map(|plan| &plan.exports);
    let services = plan.services.iter().filter_map(|(key, plan)| Some((key.service()?, plan.summary.clone()?)));
    let (services, namespaces) = (Arc::new(services.collect()), Arc::new(namespaces(world)));
    Desired {
        exports: exports.map(|(port, export)| (port.clone(), export.clone())).collect(),
        services: shared(Some(&before.services), &services),
        namespaces: Some(shared(before.namespaces.as_ref(), &namespaces)),
        imports: imports.chain(file.imports.clone()).collect(),
        links: links.clone(),
        relay: file.relay.clone(),
        sources: file.sources.clone(),
        awaits_sources: false,
        // Of two of the same name the operator's counts.
        policies: world.access.policies.clone().into_iter().chain(file.policies.clone()).collect(),
    }
}

/// The namespaces that exports of peers can be used in: those of the cluster, and that of routing keys where these are.
fn namespaces(world: &World) -> BTreeSet<Arc<str>> {
    let mut all = world.namespaces.clone();
    if world.optional.contains_key(&OptionalKind::Listener) {
        all.insert(NAMESPACE.into());
    }
    all
}

/// Whether anybody comes to our gateways by IPv6. Its wildcard takes IPv4 as well.
fn has_ipv6(world: &World) -> bool {
    world.gateways.iter().flat_map(|gateway| &gateway.addresses).any(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcs::{GatewayPod, ObjectKey, ServicePlan};
    use isthmus_control::{exchange::Summary, registry::DesiredImport};
    use isthmus_control_api::{Affinity, Protocol, ServicePort};

    fn plan(protocol: Protocol) -> Plan {
        let service = ServicePort { service: "shop/api".parse().unwrap(), port: 80, protocol };
        let import = DesiredImport {
            service,
            affinity: Affinity::None,
            weights: None,
            sticky: false,
            policy: Default::default(),
            member: None,
        };
        let of_service = ServicePlan {
            imports: [(20000, Arc::new(import))].into(),
            summary: Some(Arc::new(Summary::default())),
            ..ServicePlan::default()
        };
        Plan { services: [(ObjectKey::new("shop", "api"), of_service)].into() }
    }

    fn world(gateway: &str) -> World {
        let addresses = vec![gateway.parse().unwrap()];
        let gateway =
            GatewayPod { name: "gateway-0".into(), namespace: "isthmus-system".into(), addresses, node: None };
        World { gateways: vec![gateway], ..World::default() }
    }

    fn listens(plan: &Plan, world: &World) -> Vec<String> {
        let desired = desired(plan, world, &Links::new(), &Desired::default(), &Desired::default());
        assert_eq!(desired.services.len(), 1);
        desired.imports.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn the_file_says_where_else_gateways_listen() {
        let listen = Listen::tcp("127.0.0.1:5432".parse().unwrap());
        let service = ServicePort { service: "shop/db".parse().unwrap(), port: 5432, protocol: Protocol::Tcp };
        let import = DesiredImport {
            service,
            affinity: Affinity::Local,
            weights: None,
            sticky: false,
            policy: Default::default(),
            member: None,
        };
        let import = Arc::new(import);
        let file = Desired { imports: [(listen.clone(), import.clone())].into(), ..Desired::default() };
        let all = desired(&plan(Protocol::Tcp), &world("10.0.0.1"), &Links::new(), &file, &Desired::default()).imports;
        assert_eq!((all.len(), &all[&listen]), (2, &import));
    }

    #[test]
    fn imports_are_listened_for_at_every_address_that_gateways_have() {
        assert_eq!(listens(&plan(Protocol::Tcp), &world("10.0.0.1")), ["0.0.0.0:20000"]);
        assert_eq!(listens(&plan(Protocol::Udp), &world("fd00::1")), ["[::]:20000/udp"]);
    }
}

//! ● Headless services: every endpoint of another cluster gets a virtual address of its own here, so it can be told from the others
//! without any network between the clusters' pods.

use super::{
    ObjectKey, ServicePlan, Wanted,
    derivation::{self, member_name},
    derived::{self, addresses, gateway_service, given_families},
    export::Exported,
    here::Here,
    import::{HOSTNAME, MEMBER},
    ports::Ports,
    preference::only,
    service::{Wanting, give, listen},
    slices::{self, MAX_ENDPOINTS, Role, Serving, is_of, is_ready, slice_port},
};
use crate::api::mcs::SOURCE_CLUSTER;
use isthmus_control::{
    exchange::summary::{Family, Member, Port, Summary, member_service},
    registry::{DesiredImport, DesiredMember},
};
use isthmus_control_api::{Affinity, ClusterName, ServicePort};
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointPort},
};
use std::{collections::BTreeMap, net::IpAddr};

/// The derived Service, those of the endpoints, and their slices. Says which ports have one of the gateway's.
pub(super) fn fill(
    plan: &mut ServicePlan,
    here: &Here<'_>,
    own: Option<&Exported<'_>>,
    ports: &mut Ports,
) -> BTreeMap<Port, u16> {
    let taken = match derivation::observed(here.cx.world, &here.derived, here.key) {
        Ok(taken) => taken,
        Err(problem) => {
            plan.problems.push(problem);
            return BTreeMap::new();
        }
    };
    if taken.is_none() || here.observed.is_some() {
        plan.services.extend(derived::headless_service(here));
    }
    let mut given = BTreeMap::new();
    for (cluster, summary) in here.constituents.iter().filter(|(cluster, _)| **cluster != here.cx.settings.cluster) {
        let mut endpoints = Vec::new();
        for member in &summary.members {
            let member = Remote { here, cluster, summary, member };
            let (ports, service) = member.fill(plan, ports);
            given.extend(ports);
            endpoints.extend(service.map(|service| (member.member, service)));
        }
        plan.slices.extend(of_members(here, cluster, summary, &endpoints));
    }
    if let Some(own) = own.filter(|own| own.summary.headless) {
        plan.slices.extend(of_own(here, own));
    }
    given
}

/// An endpoint of another cluster.
struct Remote<'a> {
    here: &'a Here<'a>,
    cluster: &'a ClusterName,
    summary: &'a Summary,
    member: &'a Member,
}

impl<'a> Remote<'a> {
    /// Its Service and the slices that lead to the gateways. Gives its gateway ports, and the Service once clients can use it.
    fn fill(&self, plan: &mut ServicePlan, ports: &mut Ports) -> (BTreeMap<Port, u16>, Option<&'a Service>) {
        let Self { here, cluster, summary, member } = *self;
        let name = member_name(here.key, cluster.as_str(), &member.key);
        let key = ObjectKey::new(&here.key.namespace, &name);
        let observed = match derivation::observed(here.cx.world, &key, here.key) {
            Ok(observed) => observed,
            Err(problem) => {
                plan.problems.push(problem);
                return Default::default();
            }
        };
        let exposed = here.merged.ports.keys().filter(|port| summary.ports.contains_key(port));
        let wanting = Wanting { service: &key, payers: vec![cluster], is_there: observed.is_some() };
        let given = give(plan, here, &wanting, exposed.map(|port| (*port, vec![cluster])), ports);
        let Some(mut service) = gateway_service(here, &key, &here.merged.ports, &given, observed, &[]) else {
            return (given, None);
        };
        let labels = service.metadata.labels.get_or_insert_default();
        labels.insert(SOURCE_CLUSTER.into(), cluster.to_string());
        labels.insert(MEMBER.into(), (*member.key).to_owned());
        labels.extend(member.is_hostname.then(|| (HOSTNAME.to_owned(), "true".to_owned())));
        plan.services.push(service);
        let Some(observed) = observed else { return (given, None) };
        listen(plan, &key, &given, ports, |port| self.import(port));
        if !here.is_up(cluster) && !here.is_awaited(cluster) {
            return (given, None);
        }
        let serving = Serving {
            cluster,
            role: Role::Member,
            service: &key,
            observed,
            named: &here.merged.ports,
            ports: given.clone(),
        };
        plan.slices.extend(slices::of_gateways(here, &serving));
        (given, Some(observed))
    }

    fn import(&self, port: Port) -> DesiredImport {
        let Self { here, cluster, member, .. } = self;
        // Another cluster, this one too, may have an endpoint that is called the same.
        let service = member_service(&here.name, &member.key);
        let (cluster, key) = ((*cluster).clone(), member.key.clone());
        DesiredImport {
            service: ServicePort { service, port: port.number, protocol: port.protocol },
            affinity: Affinity::None,
            weights: Some(only(&cluster)),
            sticky: false,
            policy: Default::default(),
            member: Some(DesiredMember { cluster, service: here.name.clone(), key }),
        }
    }
}

/// The slices of a cluster's endpoints: their virtual addresses.
fn of_members(
    here: &Here<'_>,
    cluster: &ClusterName,
    summary: &Summary,
    members: &[(&Member, &Service)],
) -> Vec<Wanted> {
    let exposed = here.merged.ports.keys().filter(|port| summary.ports.contains_key(port));
    let ports: Vec<_> = exposed.map(|port| slice_port(&here.merged.ports, *port, port.number)).collect();
    let endpoints = |family| {
        let endpoint = |(member, service): &(&Member, &Service)| {
            let addresses = addresses(service);
            let mut addresses = addresses.iter().filter_map(|ip| ip.parse().ok());
            Some(named(addresses.find(|ip: &IpAddr| is_of(*ip, family))?, member))
        };
        members.iter().filter_map(endpoint).collect()
    };
    by_family(here, cluster, |family| (endpoints(family), ports.clone()))
}

/// The slices of this cluster's own endpoints: their own addresses, as they are within reach.
fn of_own(here: &Here<'_>, own: &Exported<'_>) -> Vec<Wanted> {
    let Some(first) = own.ready.values().next() else { return Vec::new() };
    let target = |port: &Port| {
        let name = own.summary.ports.get(port)?.name.as_deref();
        Some(slice_port(&here.merged.ports, *port, first.port(name, port.protocol)?))
    };
    let ports: Vec<_> = here.merged.ports.keys().filter_map(target).collect();
    let endpoint = |ready: &super::endpoints::Ready<'_>| Endpoint {
        node_name: ready.endpoint.node_name.clone(),
        zone: ready.zone.map(str::to_owned),
        target_ref: ready.endpoint.target_ref.clone(),
        ..named(ready.address, &ready.member())
    };
    let endpoints = |family| {
        let of = own.ready.values().filter(|ready| is_of(ready.address, family));
        of.take(MAX_ENDPOINTS).map(endpoint).collect()
    };
    by_family(here, &here.cx.settings.cluster, |family| (endpoints(family), ports.clone()))
}

/// The slices that have any endpoint.
fn by_family(
    here: &Here<'_>,
    cluster: &ClusterName,
    of: impl Fn(Family) -> (Vec<Endpoint>, Vec<EndpointPort>),
) -> Vec<Wanted> {
    let Some(observed) = here.observed else { return Vec::new() };
    let serving = Serving {
        cluster,
        role: Role::Import,
        service: &here.derived,
        observed,
        named: &here.merged.ports,
        ports: BTreeMap::new(),
    };
    let slice = |family| {
        let (endpoints, ports) = of(family);
        (!endpoints.is_empty()).then(|| slices::slice(here, &serving, family, endpoints, ports)).flatten()
    };
    given_families(observed).into_iter().filter_map(slice).collect()
}

fn named(address: IpAddr, member: &Member) -> Endpoint {
    Endpoint {
        addresses: vec![address.to_string()],
        conditions: is_ready(),
        hostname: member.is_hostname.then(|| (*member.key).to_owned()),
        ..Endpoint::default()
    }
}

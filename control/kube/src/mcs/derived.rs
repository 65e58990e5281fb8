//! ● Services without selectors, whose endpoints are our gateways.

use super::{
    ObjectKey, World,
    endpoints::family,
    here::Here,
    marks::{MANAGED_BY, MANAGER, owned_by},
    merge::{MergedPort, affinity_name},
};
use crate::api::mcs::SERVICE_NAME;
use isthmus_control::exchange::summary::{Family, Port, Summary};
use k8s_openapi::{
    api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use std::collections::{BTreeMap, BTreeSet};

/// What `trafficDistribution` may say on a Service: another word is only on the import.
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];

/// The Service of a service with a virtual address; `None` until its import is there, or without a port.
pub(super) fn virtual_service(here: &Here<'_>, given: &BTreeMap<Port, u16>) -> Option<Service> {
    let from = &here.merged.from;
    let known = here.import.map(|import| import.spec.ips.as_slice()).unwrap_or_default();
    let mut service = gateway_service(here, &here.derived, &here.merged.ports, given, here.observed, known)?;
    let spec = service.spec.get_or_insert_default();
    spec.session_affinity = Some(affinity_name(from).into());
    spec.session_affinity_config = affinity_config(from);
    let distribution = from.traffic_distribution.as_deref();
    spec.traffic_distribution = distribution.filter(|word| DISTRIBUTIONS.contains(word)).map(str::to_owned);
    Some(service)
}

/// A Service that leads to the gateways: to a port of theirs for each of its own, which `named` tells of. `known` are the addresses that it had, should it have
/// been lost.
pub(super) fn gateway_service(
    here: &Here<'_>,
    key: &ObjectKey,
    named: &BTreeMap<Port, MergedPort>,
    given: &BTreeMap<Port, u16>,
    observed: Option<&Service>,
    known: &[String],
) -> Option<Service> {
    let ports: Vec<_> =
        given.iter().filter_map(|(port, target)| Some(service_port(*port, named.get(port)?, *target))).collect();
    if ports.is_empty() {
        return None;
    }
    let ips = observed.map(addresses).filter(|ips| !ips.is_empty()).unwrap_or_else(|| known.to_vec());
    let (policy, families) = families(here.cx.world, observed);
    let spec = ServiceSpec {
        type_: Some("ClusterIP".into()),
        ports: Some(ports),
        cluster_ip: ips.first().cloned(),
        cluster_ips: (!ips.is_empty()).then_some(ips),
        ip_family_policy: Some(policy),
        ip_families: families,
        ..ServiceSpec::default()
    };
    Some(Service { metadata: meta(here, key)?, spec: Some(spec), status: None })
}

/// The Service of a headless service, on which the slices of its endpoints hang; `None` until its import is there.
pub(super) fn headless_service(here: &Here<'_>) -> Option<Service> {
    let ports = here.merged.ports.iter().map(|(port, of)| service_port(*port, of, port.number)).collect();
    let (policy, families) = families(here.cx.world, here.observed);
    let spec = ServiceSpec {
        type_: Some("ClusterIP".into()),
        ports: Some(ports).filter(|ports: &Vec<_>| !ports.is_empty()),
        cluster_ip: Some("None".into()),
        cluster_ips: Some(vec!["None".into()]),
        ip_family_policy: Some(policy),
        ip_families: families,
        ..ServiceSpec::default()
    };
    Some(Service { metadata: meta(here, &here.derived)?, spec: Some(spec), status: None })
}

/// Whether a Service has no virtual address.
pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// A Service's virtual addresses, as far as it has been given any.
pub(super) fn addresses(service: &Service) -> Vec<String> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let all = spec.cluster_ips.clone().unwrap_or_else(|| spec.cluster_ip.iter().cloned().collect());
    all.into_iter().filter(|ip| !ip.is_empty() && ip != "None").collect()
}

/// What a client's stay with its endpoint is bounded by.
pub(super) fn affinity_config(of: &Summary) -> Option<SessionAffinityConfig> {
    let timeout_seconds = Some(i32::try_from(of.affinity?).unwrap_or(i32::MAX));
    Some(SessionAffinityConfig { client_ip: Some(ClientIPConfig { timeout_seconds }) })
}

/// The families of a Service's addresses: those that it has; of a new one those that the gateways have, as nobody else answers there.
pub(super) fn families(world: &World, observed: Option<&Service>) -> (String, Option<Vec<String>>) {
    let single = |families| ("SingleStack".to_owned(), Some(families));
    let spec = observed.and_then(|service| service.spec.as_ref());
    match spec.and_then(|spec| spec.ip_family_policy.clone()) {
        Some(policy) if policy == "SingleStack" => {
            return single(spec.and_then(|spec| spec.ip_families.clone()).unwrap_or_default());
        }
        Some(policy) => return (policy, None),
        None => {}
    }
    let addresses = world.gateways.iter().flat_map(|gateway| &gateway.addresses);
    let families: BTreeSet<_> =
        addresses.map(|address| if address.is_ipv4() { Family::V4 } else { Family::V6 }).collect();
    match families.iter().collect::<Vec<_>>().as_slice() {
        [one] => single(vec![one.as_str().into()]),
        _ => ("PreferDualStack".into(), None),
    }
}

/// The families that a Service has been given, in the order of its addresses.
pub(super) fn given_families(service: &Service) -> Vec<Family> {
    let named = service.spec.as_ref().and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    named.iter().filter_map(|name| family(name)).collect()
}

fn meta(here: &Here<'_>, key: &ObjectKey) -> Option<ObjectMeta> {
    let labels = [(MANAGED_BY, MANAGER), (SERVICE_NAME, &here.key.name)];
    Some(ObjectMeta {
        namespace: Some((*key.namespace).to_owned()),
        name: Some((*key.name).to_owned()),
        labels: Some(labels.into_iter().map(|(label, value)| (label.to_owned(), value.to_owned())).collect()),
        owner_references: Some(vec![owned_by(here.import?)?]),
        ..ObjectMeta::default()
    })
}

pub(super) fn service_port(port: Port, of: &MergedPort, target: u16) -> ServicePort {
    ServicePort {
        name: of.name.as_deref().map(str::to_owned),
        protocol: Some(port.protocol.as_str().into()),
        port: port.number.into(),
        app_protocol: of.app_protocol.as_deref().map(str::to_owned),
        target_port: Some(IntOrString::Int(target.into())),
        node_port: None,
    }
}

//! ● The ready endpoints of a Service here, from its EndpointSlices.

use super::{ObjectKey, World, marks::is_ours, names::digest, objects::SLICE_OF, ports::protocol};
use isthmus_control::exchange::summary::{Family, Member, bounds::is_label};
use isthmus_control_api::Protocol;
use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
};
use kube::ResourceExt as _;
use std::{collections::BTreeMap, net::IpAddr};

/// A ready endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready<'a> {
    pub(super) address: IpAddr,
    pub(super) ports: &'a [EndpointPort],
    pub(super) endpoint: &'a Endpoint,
    pub(super) zone: Option<&'a str>,
}

/// The ready endpoints of a Service, by address. Of one that has two families, those of the first: a pod is to count once.
pub(super) fn ready<'a>(world: &'a World, key: &ObjectKey, service: &Service) -> BTreeMap<IpAddr, Ready<'a>> {
    let slices = || {
        let of = world.slices.of_service(key).map(|(_, slice)| &**slice);
        of.filter(|slice| slice.labels().get(SLICE_OF).is_some_and(|name| **name == *key.name) && !is_ours(*slice))
    };
    let families = families(service);
    let of_family = |family: Family| -> BTreeMap<_, _> {
        slices()
            .filter(|slice| slice.address_type == family.as_str())
            .flat_map(|slice| endpoints(world, slice))
            .collect()
    };
    let known = families.iter().map(|family| of_family(*family)).find(|found| !found.is_empty());
    known.unwrap_or_default()
}

/// The families of a Service, the first one first. One that does not say has either.
pub(super) fn families(service: &Service) -> Vec<Family> {
    let named = service.spec.as_ref().and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let families: Vec<_> = named.iter().filter_map(|name| family(name)).collect();
    if families.is_empty() { vec![Family::V4, Family::V6] } else { families }
}

/// A family by its name.
pub(super) fn family(name: &str) -> Option<Family> {
    [Family::V4, Family::V6].into_iter().find(|family| family.as_str() == name)
}

fn endpoints<'a>(world: &'a World, slice: &'a EndpointSlice) -> impl Iterator<Item = (IpAddr, Ready<'a>)> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)).filter_map(move |endpoint| {
        let address = endpoint.addresses.first()?.parse().ok()?;
        let of_node = || world.zones.get(endpoint.node_name.as_deref()?).map(|zone| &**zone);
        let zone = endpoint.zone.as_deref().or_else(of_node);
        Some((address, Ready { address, ports, endpoint, zone }))
    })
}

/// Ready, as consumers are to see it: what is not said is true.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

impl Ready<'_> {
    /// The number that a port of the Service has on this endpoint.
    pub(super) fn port(&self, name: Option<&str>, of: Protocol) -> Option<u16> {
        let is = |port: &&EndpointPort| {
            port.name.as_deref().unwrap_or_default() == name.unwrap_or_default()
                && protocol(port.protocol.as_deref()) == Some(of)
        };
        u16::try_from(self.ports.iter().find(is)?.port?).ok()
    }

    /// What tells it from the others, for peers: its host name, or a digest of its pod's name or of its address.
    pub(super) fn member(&self) -> Member {
        if let Some(name) = self.endpoint.hostname.as_deref().filter(|name| is_label(name)) {
            return Member { key: name.into(), is_hostname: true };
        }
        let pod = self.endpoint.target_ref.as_ref().and_then(|of| of.name.clone());
        let key = digest(&pod.unwrap_or_else(|| self.address.to_string()));
        Member { key: key.into(), is_hostname: false }
    }
}

//! ● Which port of the gateway stands for which port of a derived Service. What is given out stays: the Service's `targetPort` says it.

use super::{ObjectKey, Plan, World, marks::is_ours};
use isthmus_control::exchange::summary::Port;
use isthmus_control_api::Protocol;
use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

/// The gateway's ports: given out, and free. No two service ports have the same one, whatever their protocols.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    given: BTreeMap<(ObjectKey, Port), u16>,
    taken: BTreeSet<u16>,
    /// None below it is free; `None`: none at all.
    next: Option<u16>,
}

impl Ports {
    /// Those that the API server shows, and those that the plan before gave out and it does not show yet.
    pub(super) fn read(world: &World, previous: &Plan, range: RangeInclusive<u16>) -> Self {
        let mut ports = Self { next: Some(*range.start()), range, given: BTreeMap::new(), taken: BTreeSet::new() };
        for (_, service) in world.services.iter().filter(|(_, service)| is_ours(&***service)) {
            ports.take_all(service);
        }
        for service in previous.services.values().flat_map(|planned| &planned.services) {
            ports.take_all(service);
        }
        ports
    }

    /// The gateway's port for a port of a Service: the one that it has, or the lowest that is free. `None`: none is.
    pub(super) fn give(&mut self, service: &ObjectKey, port: Port) -> Option<u16> {
        let key = (service.clone(), port);
        if let Some(known) = self.given.get(&key) {
            return Some(*known);
        }
        let from = self.next?;
        let free = (from..=*self.range.end()).find(|port| !self.taken.contains(port));
        self.next = free;
        let free = free?;
        self.given.insert(key, free);
        self.taken.insert(free);
        Some(free)
    }

    fn take_all(&mut self, service: &Service) {
        for (port, target) in targets(service) {
            let key = (ObjectKey::of(service), port);
            if self.range.contains(&target) && !self.given.contains_key(&key) && self.taken.insert(target) {
                self.given.insert(key, target);
            }
        }
    }
}

/// The gateway's ports that a derived Service leads to, by its own.
pub(super) fn targets(service: &Service) -> impl Iterator<Item = (Port, u16)> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    ports.iter().filter_map(|port| Some((number(port)?, target(port)?)))
}

/// A Service's port, if it is of a protocol that is carried.
pub(super) fn number(port: &ServicePort) -> Option<Port> {
    let protocol = protocol(port.protocol.as_deref())?;
    Some(Port { number: u16::try_from(port.port).ok().filter(|&number| number != 0)?, protocol })
}

/// A protocol by Kubernetes' name for it; `None` if it is not carried.
pub(super) fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some(_) => None,
    }
}

fn target(port: &ServicePort) -> Option<u16> {
    match port.target_port.as_ref()? {
        IntOrString::Int(target) => u16::try_from(*target).ok(),
        IntOrString::String(_) => None,
    }
}

#[cfg(test)]
mod tests;

//! ● Which port of the gateway stands for which port of a derived Service. What is given out stays: the Service's `targetPort` says it.

use super::{
    Before, ObjectKey, ServicePlan, World,
    claims::{Claim, Claims},
    quota::{Item, Ledger, Quota},
};
use isthmus_control::exchange::summary::Port;
use isthmus_control_api::{ClusterName, Protocol};
use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

/// The protocol that imports name and no gateway carries.
pub(super) const SCTP: &str = "SCTP";

/// The gateway's ports: given out, and free. No two service ports have the same one, whatever their protocols.
///
/// At first it only tells what is given out already, and counts that towards the quotas; once it is [open](Self::open) it gives out
/// more. So what is new never takes the place of what was there before.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    claims: Claims,
    ledger: Ledger,
    /// What was asked for.
    asked: BTreeSet<Claim>,
    /// Something was asked for that is to be given out once it is open.
    is_lacking: bool,
    /// Neither given out nor claimed; none, until it is open.
    free: BTreeSet<u16>,
    /// Claimed, and nobody asked: a Service has each that is to go. The last to be given out.
    spare: BTreeMap<u16, Claim>,
    is_open: bool,
    /// The services by the names of their mirrors.
    mirrors: BTreeMap<ObjectKey, ObjectKey>,
}

/// Why there is no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The range is used up.
    Range,
    /// The quota of all clusters that export it is.
    Quota,
}

impl Ports {
    /// Those that the API server shows, and those that the plan before gave out.
    pub(super) fn read(world: &World, before: Before<'_>, range: RangeInclusive<u16>, quota: Quota) -> Self {
        let claims = Claims::read(world, before, &range);
        Self { claims, ..Self::new(range, quota) }
    }

    /// Those of one service, as a plan has them, and no others.
    pub(super) fn of(plan: &ServicePlan, range: RangeInclusive<u16>, quota: Quota) -> Self {
        Self { claims: Claims::of(plan), ..Self::new(range, quota) }
    }

    fn new(range: RangeInclusive<u16>, quota: Quota) -> Self {
        Self {
            range,
            claims: Claims::default(),
            ledger: Ledger::new(quota),
            asked: BTreeSet::new(),
            is_lacking: false,
            free: BTreeSet::new(),
            spare: BTreeMap::new(),
            is_open: false,
            mirrors: BTreeMap::new(),
        }
    }

    /// Whether anything was asked for since the last call that is yet to be given out.
    pub(super) fn was_lacking(&mut self) -> bool {
        std::mem::take(&mut self.is_lacking)
    }

    /// From now on it gives out what is free: all that has ports has asked for them.
    pub(super) fn open(&mut self) {
        let claimed: BTreeMap<u16, &Claim> = self.claims.given.iter().map(|(claim, port)| (*port, claim)).collect();
        self.free = self.range.clone().filter(|port| !claimed.contains_key(port)).collect();
        let spare = claimed.into_iter().filter(|(_, claim)| !self.asked.contains(*claim));
        self.spare = spare.map(|(port, claim)| (port, claim.clone())).collect();
        self.is_open = true;
    }

    /// The gateway's port for a port of a Service: the one that it has, or the lowest that is free. `payers` export it, the oldest first;
    /// none, if this cluster does itself.
    pub(super) fn give(&mut self, service: &ObjectKey, port: Port, payers: &[&ClusterName]) -> Result<u16, Refused> {
        let claim = (service.clone(), port);
        let item = Item::Port(service.clone(), port);
        if let Some(&known) = self.claims.given.get(&claim) {
            self.ledger.pay(&item, payers, true);
            self.spare.remove(&known);
            self.asked.insert(claim);
            return Ok(known);
        }
        if !self.is_open {
            self.is_lacking = true;
            return Err(Refused::Range);
        }
        let next = self.free.first().or(self.spare.keys().next()).copied().ok_or(Refused::Range)?;
        if !self.ledger.pay(&item, payers, false) {
            return Err(Refused::Quota);
        }
        self.free.remove(&next);
        if let Some(old) = self.spare.remove(&next) {
            self.claims.given.remove(&old);
        }
        self.claims.given.insert(claim, next);
        Ok(next)
    }

    /// Whether a Service may have a virtual address. One that `is_there` has it.
    pub(super) fn address(
        &mut self,
        service: &ObjectKey,
        payers: &[&ClusterName],
        is_there: bool,
    ) -> Result<(), Refused> {
        let first = Port { number: 0, protocol: Protocol::Tcp };
        let of_service = self.claims.given.range((service.clone(), first)..).next();
        let is_there = is_there || of_service.is_some_and(|((of, _), _)| of == service);
        if !is_there && !self.is_open {
            self.is_lacking = true;
            return Err(Refused::Quota);
        }
        self.ledger.pay(&Item::Address(service.clone()), payers, is_there).then_some(()).ok_or(Refused::Quota)
    }

    /// Whether the gateway may listen for a port: the API server shows it, or has shown it, so that every replica knows whose it is.
    pub(super) fn is_settled(&self, service: &ObjectKey, port: Port) -> bool {
        self.claims.settled.contains(&(service.clone(), port))
    }

    /// Takes the name of a mirror for a service.
    ///
    /// # Errors
    /// Another has it: that one.
    pub(super) fn name_mirror(&mut self, mirror: &ObjectKey, of: &ObjectKey) -> Result<(), ObjectKey> {
        let has = self.mirrors.entry(mirror.clone()).or_insert_with(|| of.clone());
        if has == of { Ok(()) } else { Err(has.clone()) }
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

/// The number of a Service's port of SCTP.
pub(super) fn sctp_number(number: i32, protocol: Option<&str>) -> Option<u16> {
    u16::try_from(number).ok().filter(|&number| number != 0 && protocol == Some(SCTP))
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

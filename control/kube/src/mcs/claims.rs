//! ● Who has which gateway port: by what this control gave out, and by what the API server shows of Services that are derived for certain.

use super::{ObjectKey, Plan, Port, ServicePlan, World, derivation::is_derived, ports::targets};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::Time};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

/// A port of a derived Service.
pub(super) type Claim = (ObjectKey, Port);

/// The plan before, and what it is worth.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// That plan.
    pub plan: &'a Plan,
    /// Whether this replica alone has written since. Then the ports that it gave out count, whatever the API server shows: a change of
    /// one is put right. Else what the API server shows counts, but takes no port from a Service that was shown with it before.
    pub is_ours: bool,
}

/// The gateway ports that are given out.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// By service port: no two the same.
    pub(super) given: BTreeMap<Claim, u16>,
    /// Of these, what the API server shows or has shown: every replica knows them.
    pub(super) settled: BTreeSet<Claim>,
    taken: BTreeSet<u16>,
}

impl Claims {
    /// What one service has.
    pub(super) fn of(plan: &ServicePlan) -> Self {
        let mut read = Self::default();
        for (claim, port) in plan.services.iter().flat_map(claims) {
            read.take(&claim, port, &(1..=u16::MAX), plan.imports.contains_key(&port));
        }
        read
    }

    pub(super) fn read(world: &World, before: Before<'_>, range: &RangeInclusive<u16>) -> Self {
        let mut shown: Vec<_> = world
            .services
            .iter()
            .filter(|(_, service)| is_derived(world, service))
            .map(|(_, service)| &**service)
            .collect();
        shown.sort_by_key(|service| age(service));
        let shown: Vec<_> = shown.into_iter().flat_map(claims).collect();
        let by_claim: BTreeMap<_, _> = shown.iter().cloned().collect();
        let remembered = remembered(world, before);
        let held: BTreeSet<_> = remembered.values().map(|(port, _)| *port).collect();
        let mut read = Self::default();
        let mut moved = Vec::new();
        for (claim, &(port, was_shown)) in &remembered {
            let now = by_claim.get(claim).copied();
            match now.filter(|now| !before.is_ours && *now != port && !held.contains(now)) {
                Some(now) => moved.push((claim, now, port)),
                None => read.take(claim, port, range, was_shown || now == Some(port)),
            }
        }
        // Another has moved these, if it could; all that stays has its own already.
        for (claim, now, port) in moved {
            read.take(claim, now, range, true);
            read.take(claim, port, range, true);
        }
        for (claim, port) in &shown {
            read.take(claim, *port, range, true);
        }
        read
    }

    /// Gives a port to who has none yet, if it is free.
    fn take(&mut self, claim: &Claim, port: u16, range: &RangeInclusive<u16>, is_settled: bool) {
        if range.contains(&port) && !self.given.contains_key(claim) && self.taken.insert(port) {
            self.given.insert(claim.clone(), port);
            self.settled.extend(is_settled.then(|| claim.clone()));
        }
    }
}

/// What the plan before gave out, and whether the API server has shown it. Of a plan that another may have written since, only what it
/// has shown, and of Services that are there still.
fn remembered(world: &World, before: Before<'_>) -> BTreeMap<Claim, (u16, bool)> {
    let of_service = before.plan.services.values().flat_map(|planned| {
        let ports = planned.services.iter().flat_map(claims);
        ports.map(|(claim, port)| (claim, (port, planned.imports.contains_key(&port))))
    });
    let lasts = |(key, _): &Claim, was_shown| before.is_ours || was_shown && world.services.get(key).is_some();
    of_service.filter(|(claim, (_, was_shown))| lasts(claim, *was_shown)).collect()
}

fn claims(service: &Service) -> impl Iterator<Item = (Claim, u16)> {
    let key = ObjectKey::of(service);
    targets(service).map(move |(port, target)| ((key.clone(), port), target))
}

/// Of two that claim a port and of which nothing is remembered, the older one has it: nobody can choose when the API server makes
/// something.
fn age(service: &Service) -> (Option<Time>, Option<&str>) {
    (service.metadata.creation_timestamp.clone(), service.metadata.uid.as_deref())
}

//! ● What is to be in the API server and in the gateway's table, from what is there and what peers say. Pure.
//!
//! ```text
//! World (the API server's objects) ─┐
//! PeerViews (what peers export) ────┼─ plan ──▶ Plan: wanted objects, statuses, what is unwanted, table, summaries, problems
//! Settings ─────────────────────────┘
//! ```
//!
//! Every cluster works the same merge out by itself, from the exports' times and the clusters' ids: there is no hub. A plan is made of
//! one [`ServicePlan`] a service, which depends on nothing but that service's objects and the gateway ports given out so far; where only
//! its endpoints have changed, it is [planned alone](plan_one).
//!
//! The API server is the memory: a gateway port is what the derived Service's `targetPort` says, an address what it was given.

mod access;
mod asked;
mod claims;
mod conditions;
mod conflicts;
mod derivation;
mod derived;
mod endpoints;
mod export;
mod export_status;
mod global;
mod headless;
mod heard;
mod here;
mod import;
pub mod marks;
mod merge;
mod mirror;
mod names;
mod objects;
mod planned;
mod policy;
mod ports;
mod preference;
mod quota;
mod records;
mod service;
mod skupper;
mod slices;
mod wanted;
mod world;

pub use access::Access;
pub(crate) use access::access;
pub use claims::Before;
pub use global::GLOBAL;
pub use heard::heard;
pub use isthmus_control::peers::{PeerView, PeerViews};
pub use marks::{EXPORT, MANAGED_BY, MANAGER, SLICE_MANAGED_BY, SLICE_MANAGER, is_ours};
pub use names::derived_name;
pub(crate) use objects::is_same_link;
pub use objects::{Grouped, ObjectKey, Objects};
pub use planned::{Kind, Plan, Problem, ServicePlan, Unwanted};
pub use policy::{POLICY, Stated};
pub(crate) use policy::{in_words, status as policy_status};
pub use preference::{AFFINITY, WEIGHTS};
pub use quota::Quota;
pub use records::{HOSTNAME, TTL};
pub(crate) use skupper::is_of_connector;
pub use wanted::Wanted;
pub use world::{GatewayPod, PublicAddresses, Settings, World};

use crate::optional::OptionalKind;
use isthmus_control::{System, exchange::summary::Port};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::Time};
use ports::Ports;
use std::collections::{BTreeMap, BTreeSet};

/// What is to be. `before` is the plan before: the ports that it gave out are not given out again. `now` is for the times of conditions
/// that change.
///
/// Applied to its own outcome it changes nothing; and it may take a few rounds, as an address comes from the API server.
pub fn plan(world: &World, peers: &PeerViews, settings: &Settings, before: Before<'_>, now: &Time) -> Plan {
    let mut ports = Ports::read(world, before, settings.ports.clone(), settings.quota);
    let facts = Facts { asked: asked::all(world, settings), ..Facts::read(world, settings) };
    let cx = facts.context(world, peers, settings, now);
    let (mut services, mut later) = (BTreeMap::new(), Vec::new());
    for key in self::services(&cx) {
        let plan = planned(&cx, &key, &mut ports, before.plan);
        if ports.was_lacking() {
            later.push(key);
        } else {
            services.insert(key, plan);
        }
    }
    // Whatever has ports and addresses has said so.
    if !later.is_empty() {
        ports.open();
    }
    for key in later {
        let plan = planned(&cx, &key, &mut ports, before.plan);
        services.insert(key, plan);
    }
    Plan { services }
}

/// The plan of one service, which has in common with the one before what is the same in both: at no time is all of it there twice.
fn planned(cx: &here::Context<'_>, key: &ObjectKey, ports: &mut Ports, before: &Plan) -> ServicePlan {
    let mut plan = service::plan(cx, key, ports);
    if let Some(before) = before.services.get(key) {
        plan.share(before);
    }
    plan
}

/// Whether a Service's endpoints matter to its own service only: Skupper's Connectors take those of any.
pub fn is_planned_alone(settings: &Settings) -> bool {
    !settings.compat.contains(&System::Skupper)
}

/// What is to be for one service of which nothing but its endpoints, how many of a peer's are [ready](heard()), or what we wrote of it has
/// changed since it was planned: the same as in the plan of all. `None`: it touches others, so all are to be planned. Only where services [can be planned alone](is_planned_alone).
pub fn plan_one(
    world: &World,
    peers: &PeerViews,
    settings: &Settings,
    before: &ServicePlan,
    key: &ObjectKey,
    now: &Time,
) -> Option<ServicePlan> {
    let mut ports = Ports::of(before, settings.ports.clone(), settings.quota);
    let facts = Facts { asked: asked::one(world, settings, key), ..Facts::read(world, settings) };
    let plan = service::plan(&facts.context(world, peers, settings, now), key, &mut ports);
    // What is shared among services: ports and addresses, names, and complaints of these.
    fn shared(plan: &ServicePlan) -> (&[Service], &BTreeSet<ObjectKey>, &[Problem]) {
        (&plan.services, &plan.waiting, &plan.problems)
    }
    (!ports.was_lacking() && shared(&plan) == shared(before)).then_some(plan)
}

/// What is read off users' objects before anything is planned.
#[derive(Debug, Default)]
struct Facts<'a> {
    asked: BTreeMap<ObjectKey, asked::Asked>,
    rules: BTreeMap<ObjectKey, crate::compat::istio::Rule>,
    skupper: skupper::Skupper<'a>,
}

impl<'a> Facts<'a> {
    /// But for what Services ask for.
    fn read(world: &'a World, settings: &Settings) -> Self {
        let (rules, skupper) = (asked::rules(world, settings), skupper::Skupper::read(world, settings));
        Self { asked: BTreeMap::new(), rules, skupper }
    }

    fn context<'b>(
        &'b self,
        world: &'b World,
        peers: &'b PeerViews,
        settings: &'b Settings,
        now: &'b Time,
    ) -> here::Context<'b> {
        let Self { asked, rules, skupper } = self;
        here::Context { world, peers, settings, asked, rules, skupper, now }
    }
}

/// Every service that anything is to be done for, or was done for.
fn services(cx: &here::Context<'_>) -> BTreeSet<ObjectKey> {
    let here::Context { world, peers, .. } = cx;
    let exports = world.exports.iter().map(|(key, _)| key.clone());
    let imports = world.imports.iter().filter(|(_, import)| is_ours(&***import)).map(|(key, _)| key.clone());
    let derived = world.services.groups().cloned();
    let slices = world.slices.iter().filter_map(|(_, slice)| slice.origin());
    let remote = peers.values().flat_map(|peer| {
        let stated = peer.stated.iter().map(|port| &port.service);
        peer.exports.services.keys().chain(stated).map(ObjectKey::from)
    });
    let gke = world.optional(OptionalKind::GkeExport).map(|(key, _)| key.clone());
    let records = records::known(world, cx.settings);
    let policies = world.optional(OptionalKind::ServicePolicy).map(|(key, _)| key.clone());
    let asked = cx.asked.keys().chain(cx.skupper.services()).chain(records).cloned();
    exports.chain(asked).chain(gke).chain(policies).chain(imports).chain(derived).chain(slices).chain(remote).collect()
}

#[cfg(test)]
pub(crate) mod tests;

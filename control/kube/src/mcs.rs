//! ● What is to be in the API server and in the gateway's table, from what is there and what peers say. Pure.
//!
//! ```text
//! World (the API server's objects) ─┐
//! PeerViews (what peers export) ────┼─ plan ──▶ Plan: wanted objects, statuses, what is unwanted, table, summaries, problems
//! Settings ─────────────────────────┘
//! ```
//!
//! Every cluster works the same merge out by itself, from the exports' times and the clusters' ids: there is no hub. A plan is made of
//! one [`ServicePlan`] a service, which depends on nothing but that service's objects and the gateway ports given out so far.
//!
//! The API server is the memory: a gateway port is what the derived Service's `targetPort` says, an address what it was given.

mod asked;
mod conditions;
mod conflicts;
mod derived;
mod endpoints;
mod export;
mod export_status;
mod global;
mod headless;
mod here;
mod import;
mod marks;
mod merge;
mod mirror;
mod names;
mod objects;
mod planned;
mod ports;
mod preference;
mod records;
mod service;
mod skupper;
mod slices;
mod world;

pub use global::GLOBAL;
pub use isthmus_control::peers::{PeerView, PeerViews};
pub use marks::{EXPORT, MANAGED_BY, MANAGER, SLICE_MANAGED_BY, SLICE_MANAGER};
pub use names::derived_name;
pub use objects::{Grouped, ObjectKey, Objects};
pub use planned::{Kind, Plan, Problem, ServicePlan, Unwanted};
pub use preference::{AFFINITY, WEIGHTS};
pub use records::{HOSTNAME, TTL};
pub use world::{GatewayPod, PublicAddresses, Settings, World};

use crate::compat::ForeignKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use ports::Ports;
use std::collections::BTreeSet;

/// What is to be. `previous` is the plan before: gateway ports that it gave out and the API server does not show yet are not given
/// out again. `now` is for the times of conditions that change.
///
/// Applied to its own outcome it changes nothing; and it may take a few rounds, as an address comes from the API server.
pub fn plan(world: &World, peers: &PeerViews, settings: &Settings, previous: &Plan, now: &Time) -> Plan {
    let mut ports = Ports::read(world, previous, settings.ports.clone());
    let (asked, rules) = (asked::all(world, settings), asked::rules(world, settings));
    let skupper = skupper::Skupper::read(world, settings);
    let cx = here::Context { world, peers, settings, asked: &asked, rules: &rules, skupper: &skupper, now };
    let services = services(&cx);
    Plan { services: services.into_iter().map(|key| (key.clone(), service::plan(&cx, &key, &mut ports))).collect() }
}

/// Every service that anything is to be done for, or was done for.
fn services(cx: &here::Context<'_>) -> BTreeSet<ObjectKey> {
    let here::Context { world, peers, .. } = cx;
    let exports = world.exports.iter().map(|(key, _)| key.clone());
    let imports = world.imports.iter().filter(|(_, import)| marks::is_ours(&***import)).map(|(key, _)| key.clone());
    let derived = world.services.groups().cloned();
    let slices = world.slices.iter().filter_map(|(_, slice)| slice.origin());
    let remote = peers.values().flat_map(|peer| {
        let stated = peer.stated.iter().map(|port| &port.service);
        peer.exports.services.keys().chain(stated).map(ObjectKey::from)
    });
    let gke = world.foreign(ForeignKind::GkeExport).map(|(key, _)| key.clone());
    let records = records::known(world, cx.settings);
    let asked = cx.asked.keys().chain(cx.skupper.services()).chain(records).cloned();
    exports.chain(asked).chain(gke).chain(imports).chain(derived).chain(slices).chain(remote).collect()
}

#[cfg(test)]
mod tests;

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

mod objects;
mod planned;
mod world;

pub use objects::{Grouped, ObjectKey, Objects};
pub use planned::{Kind, Plan, Problem, ServicePlan, Unwanted};
pub use world::{GatewayPod, Settings, World};

pub use isthmus_control::peers::{PeerView, PeerViews};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What is to be. `now` is for the times of conditions that change.
pub fn plan(world: &World, peers: &PeerViews, settings: &Settings, now: &Time) -> Plan {
    let _ = (world, peers, settings, now);
    Plan::default()
}

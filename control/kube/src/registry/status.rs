//! ● How the registry fares, for `/status` and for people.

use crate::{
    apply::{Counts, Target},
    index::{Index, Watched},
    lead::driver::Leadership,
    mcs::{Plan, Problem},
};
use isthmus_control::registry::RegistryCounts;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::links::Wrong;

/// No list in it is longer.
const LISTED: usize = 100;

/// How the registry fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeStatus {
    /// Whether enough is known to plan. Before, the table is the last good one.
    pub synced: bool,
    /// The kinds that are watched.
    pub watches: BTreeMap<&'static str, WatchStatus>,
    /// Who writes.
    pub leader: LeaderStatus,
    /// What was written since the start.
    pub writes: Counts,
    /// What was planned and written, in numbers.
    #[serde(skip)]
    pub counts: RegistryCounts,
    /// What could not be done for services and links, at most 100.
    pub problems: Vec<String>,
    /// What could not be written, and why, at most 100.
    pub failures: Vec<String>,
}

/// How the watch of a kind fares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WatchStatus {
    /// Whether a whole list has come since the start.
    pub synced: bool,
    /// Why it does not work now. What it said last counts.
    pub error: Option<String>,
    /// Whether it is of another system, and not there: what is there works without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

/// Who writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeaderStatus {
    /// Whether this replica does.
    pub leading: bool,
    /// Its term; 0 where it does not.
    pub epoch: i32,
    /// Who holds the lease.
    pub holder: String,
    /// Why the lease cannot be read or written.
    pub error: Option<String>,
}

/// The plans that were made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plans {
    pub(super) made: u64,
    pub(super) took: Duration,
}

/// What the status is made from.
pub(super) struct Facts<'a> {
    pub(super) index: &'a Index,
    pub(super) errors: &'a BTreeMap<Watched, String>,
    pub(super) leadership: &'a Leadership,
    pub(super) plan: &'a Plan,
    pub(super) wrong_links: &'a Wrong,
    pub(super) failures: &'a BTreeMap<Target, String>,
    pub(super) writes: Counts,
    pub(super) plans: Plans,
    pub(super) notes: &'a [String],
}

fn counts(facts: &Facts<'_>) -> RegistryCounts {
    let number = |of: usize| u64::try_from(of).unwrap_or(u64::MAX);
    let lacks = |problem: &Problem| matches!(problem, Problem::NoPort { .. } | Problem::OverQuota { .. });
    let lacking = facts.plan.services.values().filter(|plan| plan.problems.iter().any(lacks)).count();
    RegistryCounts {
        plans: facts.plans.made,
        plan_micros: u64::try_from(facts.plans.took.as_micros()).unwrap_or(u64::MAX),
        written: facts.writes.written,
        failed: facts.writes.failed,
        unwatched: number(facts.errors.len()),
        services: number(facts.plan.services.len()),
        lacking: number(lacking),
    }
}

pub(super) fn report(facts: &Facts<'_>, now: Instant) -> KubeStatus {
    let watch = |watched: Watched| {
        let error = facts.errors.get(&watched).cloned();
        let (synced, absent) = (facts.index.is_complete(watched), facts.index.is_absent(watched));
        (watched.name(), WatchStatus { synced, error, absent })
    };
    let term = facts.leadership.term.filter(|term| now < term.until);
    let of_links = facts.wrong_links.iter().map(|(name, why)| format!("ClusterLink {name}: {why}"));
    let of_services = facts.plan.services.iter();
    let of_services = of_services.flat_map(|(key, plan)| plan.problems.iter().map(move |p| format!("{key}: {p}")));
    let conflicts = facts.plan.services.iter().filter_map(|(key, plan)| Some(format!("{key}: {}", plan.conflict()?)));
    let failures = facts.failures.iter().map(|(target, why)| format!("{target}: {why}"));
    KubeStatus {
        synced: facts.index.is_whole(),
        watches: facts.index.watched().map(watch).collect(),
        leader: LeaderStatus {
            leading: term.is_some(),
            epoch: term.map_or(0, |term| term.epoch),
            holder: facts.leadership.holder.clone(),
            error: facts.leadership.error.clone(),
        },
        writes: facts.writes,
        counts: counts(facts),
        problems: facts
            .notes
            .iter()
            .cloned()
            .chain(of_links)
            .chain(of_services)
            .chain(conflicts)
            .take(LISTED)
            .collect(),
        failures: failures.take(LISTED).collect(),
    }
}

impl KubeStatus {
    /// What is worst, in one line; `None`: all is well.
    pub fn error(&self) -> Option<String> {
        let watches = self
            .watches
            .iter()
            .filter(|(_, watch)| !watch.absent)
            .filter_map(|(kind, watch)| Some(format!("{kind}: {}", watch.error.as_ref()?)));
        let lease = self.leader.error.iter().map(|error| format!("lease: {error}"));
        watches.chain(lease).next().or_else(|| self.failures.first().cloned())
    }
}

//! ● Which endpoint is asked when, and what is known of each.

use super::{
    Down,
    verdict::{CheckState, Verdict},
};
use isthmus_control_api::{HealthCheck, ProxyProtocol, ServicePort, Table};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// New endpoints are asked within this, or their interval if that is shorter, so that a large table does not ask all at once.
const SPREAD: Duration = Duration::from_secs(1);

/// An endpoint of a service port.
pub(super) type Place = (ServicePort, SocketAddr);

/// Every endpoint that is checked.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    checks: HashMap<Arc<Place>, Check>,
    /// Those that are not being asked.
    due: BTreeSet<(Instant, u64, Arc<Place>)>,
    next_number: u64,
}

/// One probe that is to be made.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) place: Arc<Place>,
    pub(super) check: Arc<HealthCheck>,
    /// Whether the endpoint expects a header of the PROXY protocol.
    pub(super) header: bool,
    /// Tells this check from one of the same place before or after it.
    number: u64,
    begun: Instant,
}

#[derive(Debug)]
struct Check {
    check: Arc<HealthCheck>,
    header: bool,
    number: u64,
    /// `None` while it is being asked.
    due: Option<Instant>,
    verdict: Verdict,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    took: Duration,
    error: Option<String>,
}

/// What is known of one endpoint by its checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// What it serves.
    pub service: ServicePort,
    /// Where it listens.
    pub address: SocketAddr,
    /// What the answers come to.
    pub state: CheckState,
    /// How long ago the last answer came, or was given up.
    pub age: Option<Duration>,
    /// How long it took.
    pub took: Option<Duration>,
    /// Why it was none, or no good one.
    pub error: Option<String>,
}

impl Plan {
    /// Takes up what a table wants checked. What stays the same keeps its time and what is known of it; `random` spreads the others.
    pub(super) fn reconcile(&mut self, table: &Table, now: Instant, mut random: impl FnMut() -> u64) {
        let mut wanted: HashSet<Arc<Place>> = HashSet::new();
        for (service, export) in table.exports.iter().filter(|(service, _)| service.protocol.is_tcp()) {
            let Some(health) = &export.policy.health else { continue };
            let (check, header) = (Arc::new(health.clone()), export.policy.proxy_protocol == ProxyProtocol::V2);
            for endpoint in &export.endpoints {
                let place = Arc::new((service.clone(), endpoint.address));
                let known = self.checks.get(&place);
                if !known.is_some_and(|known| *known.check == *check && known.header == header) {
                    self.remove(&place);
                    let due = now + part(check.interval.min(SPREAD), random());
                    self.add(&place, check.clone(), header, due);
                }
                wanted.insert(place);
            }
        }
        let gone: Vec<_> = self.checks.keys().filter(|place| !wanted.contains(*place)).cloned().collect();
        gone.iter().for_each(|place| self.remove(place));
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, ..)| *due)
    }

    /// One that is due now, the one that has waited longest. It is not due again before [`Self::done`].
    pub(super) fn take(&mut self, now: Instant) -> Option<Asked> {
        if self.next_due()? > now {
            return None;
        }
        let (_, number, place) = self.due.pop_first()?;
        let check = self.checks.get_mut(&place)?;
        check.due = None;
        Some(Asked { check: check.check.clone(), header: check.header, place, number, begun: now })
    }

    /// It was asked; whether what is known of it has changed.
    pub(super) fn done(&mut self, asked: &Asked, result: Result<(), String>, now: Instant, random: u64) -> bool {
        let known = self.checks.get_mut(&asked.place).filter(|check| check.number == asked.number);
        // The table has changed meanwhile.
        let Some(check) = known else { return false };
        let changed = check.verdict.note(result.is_ok(), &asked.check);
        let took = now.saturating_duration_since(asked.begun);
        check.last = Some(Last { at: now, took, error: result.err() });
        self.ask_again(asked, now, random);
        changed
    }

    /// It could not be asked, for a reason that is not its own: what is known of it stays.
    pub(super) fn unasked(&mut self, asked: &Asked, now: Instant, random: u64) {
        self.ask_again(asked, now, random);
    }

    fn ask_again(&mut self, asked: &Asked, now: Instant, random: u64) {
        let known = self.checks.get_mut(&asked.place).filter(|check| check.number == asked.number);
        let Some(check) = known else { return };
        // From the beginning of the last one, so that one that takes long is not asked less often.
        let interval = asked.check.interval;
        let due = now.max(asked.begun + interval - interval / 10 + part(interval / 5, random));
        check.due = Some(due);
        self.due.insert((due, asked.number, asked.place.clone()));
    }

    /// The endpoints that are down, by service. Sets that have not changed are those of `before`.
    pub(super) fn down(&self, before: &Down) -> Down {
        let mut down: HashMap<ServicePort, HashSet<SocketAddr>> = HashMap::new();
        for (place, check) in &self.checks {
            if check.verdict.state() == CheckState::Down {
                down.entry(place.0.clone()).or_default().insert(place.1);
            }
        }
        let shared = |service: &ServicePort, set: HashSet<SocketAddr>| {
            before.get(service).filter(|before| ***before == set).cloned().unwrap_or_else(|| Arc::new(set))
        };
        down.into_iter().map(|(service, set)| (service.clone(), shared(&service, set))).collect()
    }

    /// What is known of each.
    pub(crate) fn report(&self, now: Instant) -> Vec<CheckReport> {
        let report = |(place, check): (&Arc<Place>, &Check)| CheckReport {
            service: place.0.clone(),
            address: place.1,
            state: check.verdict.state(),
            age: check.last.as_ref().map(|last| now.saturating_duration_since(last.at)),
            took: check.last.as_ref().map(|last| last.took),
            error: check.last.as_ref().and_then(|last| last.error.clone()),
        };
        self.checks.iter().map(report).collect()
    }

    fn add(&mut self, place: &Arc<Place>, check: Arc<HealthCheck>, header: bool, due: Instant) {
        let number = self.next_number;
        self.next_number += 1;
        self.due.insert((due, number, place.clone()));
        let check = Check { check, header, number, due: Some(due), verdict: Verdict::default(), last: None };
        self.checks.insert(place.clone(), check);
    }

    fn remove(&mut self, place: &Arc<Place>) {
        if let Some(check) = self.checks.remove(place)
            && let Some(due) = check.due
        {
            self.due.remove(&(due, check.number, place.clone()));
        }
    }
}

/// A part of `whole`, as large as `random` is.
fn part(whole: Duration, random: u64) -> Duration {
    let millionths = u32::try_from(random % 1_000_000).unwrap_or(0);
    whole.mul_f64(f64::from(millionths) / 1e6)
}

#[cfg(test)]
mod tests;

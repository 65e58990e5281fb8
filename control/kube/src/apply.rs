//! Writes to the API server: what a plan wants and the API server does not have, and nothing else.
//!
//! ```text
//! plan, index ──writes ●──▶ what differs ──pace ●──▶ server-side apply, status, delete ──▶ API server
//! ```
//!
//! An idle control writes nothing. An object that somebody else changes again and again is written ever more seldom, and an object
//! that cannot be written is reported, tried again with growing pauses, and delays no other.

pub mod diff;
pub mod pace;
mod request;
pub mod writes;

pub use writes::{Action, Kind, Part, Target, Write};

use crate::mcs::ObjectKey;
use kube::Client;
use pace::Pace;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// The field manager of what is applied. It never changes: by it the API server knows what was ours before.
pub const MANAGER: &str = "isthmus";
/// The field manager of what is said in statuses.
pub const STATUS_MANAGER: &str = "isthmus-status";
/// Both.
pub const MANAGERS: [&str; 2] = [MANAGER, STATUS_MANAGER];

/// Requests under way at once.
const AT_ONCE: usize = 16;

/// Brings the API server to what is wanted, group by group.
pub struct Applier {
    client: Client,
    pace: Pace,
    /// Groups to be looked at.
    dirty: BTreeSet<ObjectKey>,
    flying: JoinSet<Outcome>,
    /// How many requests of a group are under way, of those with any.
    busy: BTreeMap<ObjectKey, usize>,
    counts: Counts,
}

/// How a request ended.
type Outcome = (ObjectKey, Target, Result<(), String>);

/// What was written since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Requests that the API server took.
    pub written: u64,
    /// Requests that failed.
    pub failed: u64,
}

impl Applier {
    /// One that writes through `client`.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            pace: Pace::default(),
            dirty: BTreeSet::new(),
            flying: JoinSet::new(),
            busy: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// The group is to be looked at.
    pub fn look(&mut self, group: ObjectKey) {
        self.dirty.insert(group);
    }

    /// What was written since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What cannot be written now, and why.
    pub fn failures(&self) -> BTreeMap<Target, String> {
        self.pace.failures()
    }

    /// Begins what is to be written of the groups that are to be looked at, as far as there is room. Nothing is sent that could be on its
    /// way still at `until`. `wanted` says what differs of a group. A group is not looked at again before what is under way of it has ended:
    /// large ones would be looked at once for each of their objects.
    pub fn go(&mut self, until: Instant, wanted: impl Fn(&ObjectKey) -> Vec<Write>) {
        let now = Instant::now();
        while self.flying.len() < AT_ONCE {
            let Some(group) = self.dirty.iter().find(|group| !self.busy.contains_key(group)).cloned() else { return };
            self.dirty.remove(&group);
            let writes = wanted(&group);
            self.pace.keep(&group, writes.iter().map(|write| &write.target), now);
            for write in writes {
                if !self.pace.may(&group, &write, now) {
                    continue;
                }
                if self.flying.len() >= AT_ONCE {
                    self.dirty.insert(group.clone());
                    break;
                }
                debug!(target = %write.target, action = write.action.verb(), "writing");
                self.pace.begun(&group, &write, now);
                *self.busy.entry(group.clone()).or_default() += 1;
                let (client, group) = (self.client.clone(), group.clone());
                self.flying.spawn(async move {
                    let result = request::send(&client, &write, until).await;
                    (group, write.target, result)
                });
            }
        }
    }

    /// Waits until there is something to do again: a request has ended, or one that was put off is due. For ever, if there is nothing.
    pub async fn next(&mut self) {
        let due = self.pace.due(&self.dirty);
        tokio::select! {
            Some(ended) = self.flying.join_next() => {
                match ended {
                    Ok(outcome) => self.ended(outcome),
                    // It is not known whose it was.
                    Err(_) => self.busy.clear(),
                }
            }
            () = at(due) => self.dirty.extend(self.pace.overdue(Instant::now())),
        }
    }

    /// Ends all requests that are under way, and forgets what there was to do.
    pub async fn stop(&mut self) {
        self.flying.shutdown().await;
        self.busy.clear();
        self.pace = Pace::default();
        self.dirty.clear();
    }

    fn ended(&mut self, (group, target, result): Outcome) {
        match &result {
            Ok(()) => self.counts.written += 1,
            Err(error) => {
                self.counts.failed += 1;
                if self.pace.is_news(&group, &target) {
                    warn!(%target, error, "cannot be written; trying again");
                }
            }
        }
        self.pace.ended(&group, &target, result, Instant::now());
        if let Some(count) = self.busy.get_mut(&group) {
            *count -= 1;
            if *count == 0 {
                self.busy.remove(&group);
            }
        }
        self.dirty.insert(group);
    }
}

/// Waits until `due`; for ever without one.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

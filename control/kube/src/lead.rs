//! ● Who writes: one of several replicas, by a Lease of the API server.
//!
//! Judged as client-go judges it: a lease is free when *we* have seen it unwritten for as long as it says. The stamps in it are for
//! people: no two clocks are ever compared. Who holds it counts from when it *sent* its last renewal that was stored, and gives up
//! [`Times::give_up`] later, which is before anybody else can have seen it unchanged for [`Times::lease`].
//!
//! ```text
//! sent ──▶ stored ──▶ seen by another
//!  │◀─ give_up ─▶│       │◀──────── lease ────────▶│
//!                └ stops writing                   └ may take it
//! ```

pub mod driver;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use std::time::{Duration, Instant};

/// How long things last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// A lease unchanged for so long is free. At least a second.
    pub lease: Duration,
    /// Who could not renew for so long stops. Shorter than `lease`.
    pub give_up: Duration,
    /// Between two looks or renewals.
    pub retry: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { lease: seconds(15), give_up: seconds(10), retry: seconds(2) }
    }
}

/// One replica's part in the election.
#[derive(Debug)]
pub struct Election {
    identity: String,
    name: String,
    times: Times,
    /// The lease as last seen.
    seen: Option<Seen>,
    /// The lease as we stored it last, and when that was sent.
    held: Option<(Lease, Instant)>,
    /// The highest epoch seen.
    epoch: i32,
}

/// A lease as it was seen.
#[derive(Debug)]
struct Seen {
    /// The API server's version of it: any write makes another, also one of a holder whose clock stands still.
    version: Option<String>,
    holder: String,
    /// Since when we have seen it like this.
    since: Instant,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Turn {
    /// Somebody else has it: look again later.
    Wait,
    /// There is none: make it.
    Create(Box<Lease>),
    /// Put this in its place, if it is still the version that we saw.
    Replace(Box<Lease>),
}

impl Election {
    /// The part of `identity`, which no other process ever has, in the election by the Lease `name`.
    pub fn new(name: &str, identity: &str, times: Times) -> Self {
        Self { identity: identity.into(), name: name.into(), times, seen: None, held: None, epoch: 0 }
    }

    /// The Lease's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who held it when it was last seen; empty: nobody.
    pub fn holder(&self) -> &str {
        let seen = self.seen.as_ref().map(|seen| seen.holder.as_str());
        if self.held.is_some() { &self.identity } else { seen.unwrap_or_default() }
    }

    /// How long things last.
    pub fn times(&self) -> Times {
        self.times
    }

    /// The renewal of what is held, without looking first.
    pub fn renewal(&self, stamp: Timestamp) -> Option<Turn> {
        let (lease, _) = self.held.as_ref()?;
        Some(self.renewed(lease, stamp))
    }

    /// What to do about the lease, which was found like this at `now`. `stamp` is for people.
    pub fn saw(&mut self, lease: Option<&Lease>, now: Instant, stamp: Timestamp) -> Turn {
        let Some(lease) = lease else {
            (self.seen, self.held) = (None, None);
            // Somebody has removed it: what comes is after all that we know of.
            return Turn::Create(Box::new(self.taken(Lease::default(), self.epoch.saturating_add(1), stamp)));
        };
        let spec = lease.spec.clone().unwrap_or_default();
        self.epoch = self.epoch.max(spec.lease_transitions.unwrap_or(0));
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let version = lease.metadata.resource_version.clone();
        let since = self.seen.as_ref().filter(|seen| seen.version == version).map_or(now, |seen| seen.since);
        self.seen = Some(Seen { version, holder: holder.clone(), since });
        if holder == self.identity {
            return self.renewed(lease, stamp);
        }
        self.held = None;
        let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|&s| s > 0);
        let lasts = lasts.map_or(self.times.lease, Duration::from_secs);
        if !holder.is_empty() && now < since + lasts {
            return Turn::Wait;
        }
        let epoch = self.epoch.saturating_add(1);
        Turn::Replace(Box::new(self.taken(lease.clone(), epoch, stamp)))
    }

    /// What was to be put there is stored, as `lease`; it was sent at `sent`.
    pub fn stored(&mut self, lease: Lease, sent: Instant) {
        self.seen = None;
        self.epoch = self.epoch.max(epoch(&lease));
        self.held = Some((lease, sent));
    }

    /// It was refused: somebody else was there first.
    pub fn refused(&mut self) {
        self.held = None;
    }

    /// The term that is held, if there is one, and until when: the caller stops writing then.
    pub fn term(&self) -> Option<Term> {
        let (lease, sent) = self.held.as_ref()?;
        Some(Term { epoch: epoch(lease), until: *sent + self.times.give_up })
    }

    /// The lease given back, for the next one to take without waiting.
    pub fn release(&mut self, stamp: Timestamp) -> Option<Lease> {
        let (mut lease, _) = self.held.take()?;
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(stamp));
        Some(lease)
    }

    fn renewed(&self, lease: &Lease, stamp: Timestamp) -> Turn {
        let mut lease = lease.clone();
        let spec = lease.spec.get_or_insert_default();
        spec.renew_time = Some(MicroTime(stamp));
        spec.lease_duration_seconds = Some(self.seconds());
        Turn::Replace(Box::new(lease))
    }

    fn taken(&self, lease: Lease, epoch: i32, stamp: Timestamp) -> Lease {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..lease.metadata };
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(self.seconds()),
            acquire_time: Some(MicroTime(stamp)),
            renew_time: Some(MicroTime(stamp)),
            lease_transitions: Some(epoch),
            ..lease.spec.unwrap_or_default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.times.lease.as_secs()).unwrap_or(i32::MAX)
    }
}

/// The time for which a replica is the one that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Grows with every change of the holder: `leaseTransitions`.
    pub epoch: i32,
    /// It writes nothing from then on, unless it could renew.
    pub until: Instant,
}

/// The epoch of a lease.
fn epoch(lease: &Lease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0)
}

#[cfg(test)]
mod tests;

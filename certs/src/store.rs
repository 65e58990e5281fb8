//! The identity of the moment, shared by all who need it.

use crate::{Directory, Identity, RefusedHandshake};
use arc_swap::ArcSwap;
use isthmus_control_api::ClusterName;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use tokio::sync::watch;

/// Holds the current [`Identity`]. Readers never lock; who wants to know of changes subscribes.
#[derive(Clone)]
pub struct IdentityStore(Arc<Shared>);

struct Shared {
    current: ArcSwap<Identity>,
    status: ArcSwap<IdentityStatus>,
    generation: watch::Sender<u64>,
    /// Taken when a handshake is refused, and for status.
    refused: Mutex<BTreeMap<ClusterName, Refusal>>,
    /// Where its files lie, if it has any.
    directory: Option<Directory>,
}

/// A handshake of somebody who claimed to be of a trusted cluster, and was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// When.
    pub at: SystemTime,
    /// Why. Nobody has proven anything: it may have been anybody.
    pub why: RefusedHandshake,
}

/// How the upkeep of the identity fares, for status and metrics.
#[derive(Debug, Clone, Default)]
pub struct IdentityStatus {
    /// Times that a new identity took the place of the one before.
    pub changes: u64,
    /// Times that the SVID was renewed from this cluster's own CA.
    pub renewals: u64,
    /// Times that a change of the files was refused, or a renewal failed.
    pub failures: u64,
    /// Why the last one was; none once things are in order again.
    pub last_error: Option<String>,
    /// When the SVID will be renewed, where this process does it.
    pub renewal_due: Option<SystemTime>,
    /// What is not wrong, but should not be: one line each.
    pub warnings: Vec<String>,
}

impl IdentityStore {
    /// A store that holds `identity` until someone replaces it.
    pub fn new(identity: Identity) -> Self {
        Self::kept_in(identity, None)
    }

    /// The same of one that has files, which somebody keeps up with.
    pub(crate) fn kept_in(identity: Identity, directory: Option<Directory>) -> Self {
        Self(Arc::new(Shared {
            current: ArcSwap::from_pointee(identity),
            status: ArcSwap::from_pointee(IdentityStatus::default()),
            generation: watch::Sender::new(0),
            refused: Mutex::default(),
            directory,
        }))
    }

    /// Where its files lie; none of an identity that was made for this process alone.
    pub fn directory(&self) -> Option<&Directory> {
        self.0.directory.as_ref()
    }

    /// The identity of the moment.
    pub fn current(&self) -> Arc<Identity> {
        self.0.current.load_full()
    }

    /// Puts `identity` in place and tells the subscribers. Handshakes that begin from now on use it.
    pub fn replace(&self, identity: Identity) {
        self.0.current.store(Arc::new(identity));
        self.update_status(|status| status.changes += 1);
        self.0.generation.send_modify(|generation| *generation += 1);
    }

    /// Changes whenever the identity does: a counter.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// How its upkeep fares.
    pub fn status(&self) -> Arc<IdentityStatus> {
        self.0.status.load_full()
    }

    /// The last one that was refused of those who dialled and claimed to be of `cluster`.
    pub fn refused(&self, cluster: &ClusterName) -> Option<Refusal> {
        self.refusals().get(cluster).cloned()
    }

    /// Notes a refusal. Only of trusted clusters: anybody can claim to be of any other.
    pub(crate) fn note_refused(&self, cluster: ClusterName, why: RefusedHandshake, at: SystemTime) {
        let current = self.current();
        let mut refused = self.refusals();
        refused.retain(|cluster, _| current.bundle(cluster).is_some());
        if current.bundle(&cluster).is_some() {
            refused.insert(cluster, Refusal { at, why });
        }
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<ClusterName, Refusal>> {
        self.0.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn update_status(&self, update: impl Fn(&mut IdentityStatus)) {
        self.0.status.rcu(|status| {
            let mut status = IdentityStatus::clone(status);
            update(&mut status);
            status
        });
    }
}

impl fmt::Debug for IdentityStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentityStore").field(&self.current()).finish()
    }
}

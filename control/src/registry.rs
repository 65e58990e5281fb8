//! Registries: watched sources of what this cluster should export, import and be linked with.

pub mod file;

pub use file::FileRegistry;

use isthmus_control_api::{Affinity, ClusterName, Export, Link, Listen, Relaying, ServicePort};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::SystemTime,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What this cluster should export, import and be linked with: one whole state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// What it serves.
    pub exports: BTreeMap<ServicePort, DesiredExport>,
    /// What local clients can use, and where.
    pub imports: BTreeMap<Listen, DesiredImport>,
    /// The clusters it is linked with.
    pub links: BTreeMap<ClusterName, DesiredLink>,
    /// What it carries for others.
    pub relay: Relaying,
}

/// A cluster to be linked with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredLink {
    /// How to reach it.
    pub link: Link,
    /// What it serves, where it speaks no exchange to say so itself: then none is tried. Empty: it says so itself.
    pub services: BTreeSet<ServicePort>,
}

/// A service port to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredExport {
    /// Its name and endpoints.
    pub export: Export,
    /// When this cluster began to export the service.
    pub since: SystemTime,
}

/// A service for local clients: without the clusters that serve it, which peers tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredImport {
    /// What the listener leads to.
    pub service: ServicePort,
    /// Which clusters to prefer.
    pub affinity: Affinity,
}

/// How a registry fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryStatus {
    /// What it reads, for people.
    pub source: String,
    /// Changes taken.
    pub reloads: u64,
    /// Changes refused.
    pub refused: u64,
    /// When the last change was taken or refused.
    pub last_change: Option<SystemTime>,
    /// Why the last change was refused; `None` once a good one was taken.
    pub last_error: Option<String>,
    /// What changed in the source but takes effect at the next start only.
    pub needs_restart: Vec<&'static str>,
}

/// A watched source of desired state.
///
/// From the first [`Desired`] on each is whole: a registry that is still loading is not made yet, and one that loses its source
/// keeps its last state and says so in its status.
pub trait Registry: Send + 'static {
    /// The desired state, and each that follows.
    fn desired(&self) -> watch::Receiver<Arc<Desired>>;

    /// How it fares.
    fn status(&self) -> watch::Receiver<Arc<RegistryStatus>>;

    /// Watches the source until `shutdown`.
    fn run(self: Box<Self>, shutdown: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

//! Registries: watched sources of what this cluster should export, import and be linked with.

pub mod file;

pub use file::FileRegistry;

use crate::{exchange::Services, peers::PeerViews};
use isthmus_control_api::{
    AccessPolicy, Affinity, Cidr, ClusterName, Export, Import, Link, Listen, Namespaces, PolicyName, Relaying,
    ServiceName, ServicePolicy, ServicePort, Table, Weights, Workload,
};
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
    pub exports: BTreeMap<ServicePort, Arc<Export>>,
    /// What peers are told of that.
    pub services: Arc<Services>,
    /// The namespaces that it has; `None`: it imports from whichever.
    pub namespaces: Option<Arc<BTreeSet<Arc<str>>>>,
    /// What local clients can use, and where.
    pub imports: BTreeMap<Listen, Arc<DesiredImport>>,
    /// The clusters it is linked with.
    pub links: BTreeMap<ClusterName, DesiredLink>,
    /// What it carries for others.
    pub relay: Relaying,
    /// Whose the addresses of its clients are.
    pub sources: BTreeMap<Cidr, Arc<Workload>>,
    /// Whether there is more to come of those: what the table has of others stays until then.
    pub awaits_sources: bool,
    /// Who may use what it serves.
    pub policies: BTreeMap<PolicyName, Arc<AccessPolicy>>,
}

impl Desired {
    /// What `table` was made from, as far as a table says.
    pub(crate) fn restored(table: &Table) -> Self {
        let imports = table.imports.iter().map(|(listen, import)| {
            let Import { service, affinity, weights, sticky, policy, clusters: _ } = (**import).clone();
            (listen.clone(), Arc::new(DesiredImport { service, affinity, weights, sticky, policy, member: None }))
        });
        let links = table.links.iter();
        Self {
            exports: table.exports.clone(),
            imports: imports.collect(),
            links: links
                .map(|(cluster, link)| (cluster.clone(), DesiredLink { link: link.clone(), ..DesiredLink::default() }))
                .collect(),
            relay: table.relay.clone(),
            sources: table.sources.clone(),
            awaits_sources: false,
            policies: table.policies.clone(),
            ..Self::default()
        }
    }
}

/// A cluster to be linked with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredLink {
    /// How to reach it.
    pub link: Link,
    /// What it serves, where it speaks no exchange to say so itself: then none is tried. Empty: it says so itself.
    pub services: Arc<BTreeSet<ServicePort>>,
    /// Namespaces whose services are taken from it.
    pub imports: Namespaces,
}

/// A service for local clients: without the clusters that serve it, which peers tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredImport {
    /// What the listener leads to.
    pub service: ServicePort,
    /// Which clusters to prefer.
    pub affinity: Affinity,
    /// The clusters' shares, where they are to be others than by ready endpoints.
    pub weights: Option<Weights>,
    /// Whether a client stays with its cluster and its endpoint.
    pub sticky: bool,
    /// How its streams are served at the client's side.
    pub policy: Arc<ServicePolicy>,
    /// The one endpoint that it is, of a peer's headless service; `None`: all that are ready for the service port.
    pub member: Option<DesiredMember>,
}

/// One endpoint of a headless service of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredMember {
    /// The peer.
    pub cluster: ClusterName,
    /// The service.
    pub service: ServiceName,
    /// The endpoint's key.
    pub key: Arc<str>,
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
    /// What a registry that writes has counted; `None` of one that only reads.
    pub counts: Option<RegistryCounts>,
    /// What else there is to say of the source, for people.
    pub detail: Option<serde_json::Value>,
}

/// What a registry that writes has counted since its start, and how much there is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryCounts {
    /// Plans made.
    pub plans: u64,
    /// Microseconds that they took together.
    pub plan_micros: u64,
    /// Writes that were taken.
    pub written: u64,
    /// Writes that failed.
    pub failed: u64,
    /// Now: kinds that cannot be watched.
    pub unwatched: u64,
    /// Now: services of the clusterset that are planned for.
    pub services: u64,
    /// Now: those of them that lack a gateway port or an address, as the range or a cluster's quota is used up.
    pub lacking: u64,
}

/// A watched source of desired state.
///
/// Each [`Desired`] is whole, but for the first of a registry that has not loaded yet, which is nothing. One that loses its source keeps
/// its last state and says so in its status.
pub trait Registry: Send + 'static {
    /// The desired state, and each that follows.
    fn desired(&self) -> watch::Receiver<Arc<Desired>>;

    /// Whether the first desired state is one. Otherwise it stands for nothing until it changes: what ran before the last stop goes on.
    fn is_loaded(&self) -> bool {
        true
    }

    /// How it fares.
    fn status(&self) -> watch::Receiver<Arc<RegistryStatus>>;

    /// Watches the source until `shutdown`. `peers` are the linked clusters, for a registry that makes imports of what they export.
    fn run(
        self: Box<Self>,
        peers: watch::Receiver<Arc<PeerViews>>,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

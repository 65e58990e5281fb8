//! What control tells of itself.

use crate::registry::{RegistryCounts, RegistryStatus};
use isthmus_control_api::{Affinity, ClusterName, ServiceName, ServicePort, Table};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How control fares. Times are milliseconds since 1970, so that whoever reads it can tell ages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlStatus {
    /// The configuration file.
    pub config: String,
    /// Changes of it taken.
    pub reloads: u64,
    /// Changes of it refused.
    pub refused_reloads: u64,
    /// When one was last taken or refused.
    pub last_reload_ms: Option<u64>,
    /// Why the last one was refused: a line a mistake. The last good state is in use then.
    pub last_reload_error: Option<String>,
    /// Keys that were changed and take effect at the next start only.
    pub needs_restart: Vec<&'static str>,
    /// What the registry has counted, if it writes.
    #[serde(skip)]
    pub registry_counts: Option<RegistryCounts>,
    /// What else the registry has to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<serde_json::Value>,
    /// Whether it is known what this cluster wants: by its registry, or from before the last stop.
    pub loaded: bool,
    /// The table's version.
    pub table_version: u64,
    /// When it was published.
    pub table_since_ms: u64,
    /// Services that peers are not told of, since there is no room for them.
    pub untold: Arc<BTreeSet<ServiceName>>,
    /// The linked clusters.
    pub peers: BTreeMap<ClusterName, PeerStatus>,
    /// What local clients can use.
    pub imports: Vec<ImportStatus>,
    /// What this cluster serves.
    pub exports: Vec<ExportStatus>,
}

/// How the exchange with a linked cluster fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Whether a tunnel to it is live.
    pub up: bool,
    /// Whether anything is known of what it exports: it has said so since the start, or it did before.
    pub known: bool,
    /// Whether its exports have reached us.
    pub received: SyncState,
    /// Whether our exports have reached it.
    pub sent: SyncState,
    /// When it last said what it exports, or that nothing changed.
    pub last_received_ms: Option<u64>,
    /// When it last confirmed what we export.
    pub last_sent_ms: Option<u64>,
    /// Services that it exports, as last heard.
    pub imported: usize,
    /// Services that we export to it.
    pub exported: usize,
    /// What failed last, in either direction, if nothing has worked there since.
    pub error: Option<String>,
}

/// How far one direction of the exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncState {
    /// There is no tunnel.
    Down,
    /// The peer takes no part: the configuration states what it serves.
    Stated,
    /// Not all has arrived.
    Syncing,
    /// All has.
    Synced,
}

/// An import and who serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportStatus {
    /// The service and its port.
    #[serde(flatten)]
    pub service: ServicePort,
    /// Where local clients connect to.
    pub listen: SocketAddr,
    /// Which clusters to prefer.
    pub affinity: Affinity,
    /// The clusters that serve it now, with how many ready endpoints.
    pub clusters: BTreeMap<ClusterName, u32>,
}

/// An export and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportStatus {
    /// The service and its port.
    #[serde(flatten)]
    pub service: ServicePort,
    /// How many endpoints it has.
    pub endpoints: usize,
}

impl ControlStatus {
    /// How old the table is at `now`.
    pub fn table_age(&self, now: SystemTime) -> Duration {
        Duration::from_millis(millis(now).saturating_sub(self.table_since_ms))
    }
}

impl SyncState {
    pub(super) fn of(up: bool, synced: bool) -> Self {
        match (up, synced) {
            (false, _) => Self::Down,
            (true, false) => Self::Syncing,
            (true, true) => Self::Synced,
        }
    }
}

pub(super) fn report(
    registry: &RegistryStatus,
    table: &Table,
    table_since: SystemTime,
    peers: BTreeMap<ClusterName, PeerStatus>,
) -> ControlStatus {
    let imports = table.imports.iter().map(|(listen, import)| ImportStatus {
        service: import.service.clone(),
        listen: listen.address,
        affinity: import.affinity,
        clusters: import.clusters.clone(),
    });
    let exports = table.exports.iter();
    ControlStatus {
        config: registry.source.clone(),
        reloads: registry.reloads,
        refused_reloads: registry.refused,
        registry_counts: registry.counts,
        last_reload_ms: registry.last_change.map(millis),
        last_reload_error: registry.last_error.clone(),
        needs_restart: registry.needs_restart.clone(),
        registry: registry.detail.clone(),
        loaded: true,
        table_version: table.version,
        table_since_ms: millis(table_since),
        untold: Arc::default(),
        peers,
        imports: imports.collect(),
        exports: exports
            .map(|(service, export)| ExportStatus { service: service.clone(), endpoints: export.endpoints.len() })
            .collect(),
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

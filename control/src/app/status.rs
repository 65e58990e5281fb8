//! What control tells of itself.

use crate::registry::{RegistryCounts, RegistryStatus};
use isthmus_control_api::{Affinity, ClusterName, ServiceName, ServicePort, Table};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
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
    /// What local clients can use, and what this cluster serves.
    #[serde(flatten)]
    pub services: ServicesStatus,
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

/// The imports and exports of a table. Shared with it, and gone through when somebody asks: tables follow each other by the hundred a
/// second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicesStatus(pub Arc<Table>);

/// An import and who serves it.
#[derive(Serialize)]
struct ImportStatus<'a> {
    /// The service and its port.
    #[serde(flatten)]
    service: &'a ServicePort,
    /// Where local clients connect to.
    listen: SocketAddr,
    /// Which clusters to prefer.
    affinity: Affinity,
    /// The clusters that serve it now, with how many ready endpoints.
    clusters: &'a BTreeMap<ClusterName, u32>,
}

/// An export and its size.
#[derive(Serialize)]
struct ExportStatus<'a> {
    /// The service and its port.
    #[serde(flatten)]
    service: &'a ServicePort,
    /// How many endpoints it has.
    endpoints: usize,
}

impl Serialize for ServicesStatus {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let imports = self.0.imports.iter().map(|(listen, import)| ImportStatus {
            service: &import.service,
            listen: listen.address,
            affinity: import.affinity,
            clusters: &import.clusters,
        });
        let exports = self.0.exports.iter();
        let exports = exports.map(|(service, export)| ExportStatus { service, endpoints: export.endpoints.len() });
        let mut both = to.serialize_map(Some(2))?;
        both.serialize_entry("imports", &imports.collect::<Vec<_>>())?;
        both.serialize_entry("exports", &exports.collect::<Vec<_>>())?;
        both.end()
    }
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
    table: &Arc<Table>,
    table_since: SystemTime,
    peers: BTreeMap<ClusterName, PeerStatus>,
) -> ControlStatus {
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
        services: ServicesStatus(table.clone()),
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

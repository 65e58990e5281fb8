//! What the parts of a gateway know, each on its own.

use super::IdentityReport;
use crate::{
    balance,
    tunnel::{Transport, TunnelStatus, link::LinkState},
};
use isthmus_control_api::{ClusterName, ServicePort, Table};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::oneshot;

/// Asks a core what it knows. A core answers at once, from its own task.
#[derive(Debug)]
pub struct CoreQuery(pub oneshot::Sender<CoreReport>);

/// What one core knows.
#[derive(Debug, Clone, Default)]
pub struct CoreReport {
    /// Its tunnels, whoever dialled them.
    pub tunnels: Vec<TunnelReport>,
    /// What carries new streams, for each cluster that has a live tunnel.
    pub choices: Vec<ChoiceReport>,
    /// The tunnels that it keeps dialled, there or not.
    pub dials: Vec<DialReport>,
    /// Its listeners.
    pub listeners: Vec<ListenerReport>,
    /// The endpoints that it balances over.
    pub endpoints: Vec<EndpointReport>,
}

/// One tunnel.
#[derive(Debug, Clone)]
pub struct TunnelReport {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// What the tunnel says of itself.
    pub status: TunnelStatus,
    /// When the peer's certificate expires.
    pub cert_expiry: Option<SystemTime>,
    /// The cluster that relays it, if any does.
    pub via: Option<ClusterName>,
}

/// What carries the new streams of a link.
#[derive(Debug, Clone)]
pub struct ChoiceReport {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// The transport.
    pub transport: Transport,
    /// Why this one.
    pub reason: String,
    /// The cluster that relays them, if any does.
    pub via: Option<ClusterName>,
}

/// One tunnel that a core keeps dialled.
#[derive(Debug, Clone)]
pub struct DialReport {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// How dialling fares.
    pub state: LinkState,
}

/// One listener of an import.
#[derive(Debug, Clone)]
pub struct ListenerReport {
    /// Where it listens.
    pub address: SocketAddr,
    /// Why it does not.
    pub error: Option<String>,
}

/// One endpoint, as one core knows it.
#[derive(Debug, Clone)]
pub struct EndpointReport {
    /// What it serves.
    pub service: ServicePort,
    /// What the core's balancer says.
    pub status: balance::EndpointStatus,
}

/// What is known outside the cores; the glue of gateway and control fills it.
#[derive(Debug, Clone, Default)]
pub struct ExtraStatus {
    /// This cluster.
    pub cluster: String,
    /// Its clusterset.
    pub clusterset: String,
    /// The endpoint table in use.
    pub table: Arc<Table>,
    /// How long ago it was applied.
    pub table_age: Option<Duration>,
    /// What control knows of the links.
    pub links: BTreeMap<ClusterName, LinkExtra>,
    /// This gateway's identity.
    pub identity: IdentityReport,
    /// What control has to add, for people.
    pub control: serde_json::Value,
}

/// What control knows of a link.
#[derive(Debug, Clone, Default)]
pub struct LinkExtra {
    /// How long ago the last word of the peer's exports came.
    pub sync_age: Option<Duration>,
    /// What is wrong, in one line.
    pub message: Option<String>,
}

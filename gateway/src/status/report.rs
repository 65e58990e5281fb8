//! What the parts of a gateway know, each on its own.

use super::{IdentityReport, LinkWord, trace::CoreTrace};
use crate::{
    balance,
    tunnel::{Transport, TunnelStatus, link::LinkState},
};
pub use crate::{
    checks::CheckReport,
    hop::{LocalHopStatus, Unread},
    listener::shared::SharedListenerStatus,
    peer::breaks::Broken,
};
use isthmus_control_api::{ClusterName, GatewayId, Listen, ServiceName, ServicePort, Table};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::oneshot;

/// Asks a core what it knows; of a service, if one is named, what it would do with its streams. A core answers at once, from its own
/// task.
#[derive(Debug)]
pub struct CoreQuery(pub oneshot::Sender<CoreReport>, pub Option<ServiceName>);

/// What one core knows.
#[derive(Debug, Clone, Default)]
pub struct CoreReport {
    /// What there is to say of the local hop: core 0 says it.
    pub local_hop: Option<LocalHopStatus>,
    /// What there is to say of the shared listener: core 0 says it.
    pub shared_listener: Option<SharedListenerStatus>,
    /// Who leaves unread what the local hop brings him.
    pub unread: Vec<Unread>,
    /// Its tunnels, whoever dialled them.
    pub tunnels: Vec<TunnelReport>,
    /// What carries new streams, for each cluster that has a live tunnel.
    pub choices: Vec<ChoiceReport>,
    /// The tunnels that it keeps dialled, there or not.
    pub dials: Vec<DialReport>,
    /// What is wrong with the names of links, by cluster.
    pub lookups: Vec<(ClusterName, String)>,
    /// What the paths lose.
    pub losses: Vec<LossReport>,
    /// Tunnels that broke of late.
    pub breaks: Vec<BreakReport>,
    /// Its listeners.
    pub listeners: Vec<ListenerReport>,
    /// The endpoints that it balances over.
    pub endpoints: Vec<EndpointReport>,
    /// What it knows of endpoints by checks: core 0 for all.
    pub checks: Vec<CheckReport>,
    /// What it would do with the streams of the service that was asked for.
    pub trace: Option<CoreTrace>,
}

/// One tunnel.
#[derive(Debug, Clone)]
pub struct TunnelReport {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// What the tunnel says of itself.
    pub status: TunnelStatus,
    /// Where it was dialled; `None` where the peer has dialled.
    pub address: Option<SocketAddr>,
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
    /// What is dialled; `None` through a relay.
    pub address: Option<SocketAddr>,
    /// Whether it is one more to the same address, in case that there are several gateways behind it.
    pub spare: bool,
    /// The gateway that its last tunnel led to, where there is another tunnel to that: this one is not needed.
    pub same: Option<GatewayId>,
    /// How many tunnels the peer takes of this gateway, if it does not take this one.
    pub declined: Option<u32>,
    /// Whether only small packets get through.
    pub small: bool,
    /// How dialling fares.
    pub state: LinkState,
}

/// What the path to a cluster loses over one transport, 0 to 1, as far as it was measured.
#[derive(Debug, Clone)]
pub struct LossReport {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// Of what this gateway sends.
    pub out: Option<f64>,
    /// Of what the peer sends.
    pub back: Option<f64>,
}

/// Tunnels of a link that broke of late.
#[derive(Debug, Clone)]
pub struct BreakReport {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// How many, when and why.
    pub broken: Broken,
}

/// One listener of an import.
#[derive(Debug, Clone)]
pub struct ListenerReport {
    /// Where it listens.
    pub listen: Listen,
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
    /// Which of its gateways this is.
    pub gateway: GatewayId,
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
    /// Who claimed of late to be of the cluster and was refused, in one line.
    pub refused: Option<String>,
    /// What is wrong, in one line.
    pub message: Option<String>,
    /// Its state where there are no cores that could know it: at a control whose gateways are elsewhere.
    pub state: Option<LinkWord>,
}

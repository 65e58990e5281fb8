//! What `/status` says: the types, and how the cores' reports become one of them.
//!
//! ```text
//! admin ──CoreQuery──▶ each core ──CoreReport──▶ merge(ExtraStatus, reports) ──▶ Status ──▶ JSON
//! ```
//!
//! Every core is asked when somebody asks the gateway, so nothing is kept up to date in between.

mod gateways;
pub mod measure;
pub mod merge;
mod message;
pub mod probe;
pub mod report;
pub mod timestamp;
pub mod trace;

pub use merge::merge;
pub use message::untrusted;
pub use report::{
    BreakReport, CheckReport, ChoiceReport, CoreQuery, CoreReport, DialReport, EndpointReport, ExtraStatus, LinkExtra,
    ListenerReport, LocalHopStatus, LossReport, SharedListenerStatus, TunnelReport, Unread,
};
pub use timestamp::Timestamp;

use isthmus_control_api::Protocol;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The whole answer. Its JSON form is an interface: fields are added, never changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This cluster.
    pub cluster: String,
    /// Its clusterset.
    pub clusterset: String,
    /// Which of the cluster's gateways this one is, in 16 hexadecimal digits: another one after each start.
    #[serde(default)]
    pub gateway: String,
    /// The version of isthmus.
    pub version: String,
    /// Whether `/readyz` says yes.
    pub ready: bool,
    /// Why it does not.
    pub not_ready: Option<String>,
    /// The endpoint table in use.
    pub table: TableStatus,
    /// Every link, by cluster.
    pub links: Vec<LinkStatus>,
    /// Every import and export.
    pub services: Vec<ServiceStatus>,
    /// This gateway's identity.
    pub identity: IdentityReport,
    /// The local hop in the kernel; nothing where core 0 did not answer.
    #[serde(default)]
    pub local_hop: Option<LocalHopStatus>,
    /// The shared listener; nothing where core 0 did not answer.
    #[serde(default)]
    pub shared_listener: Option<SharedListenerStatus>,
    /// Cores that did not answer in time: what they know is missing above.
    pub silent_cores: Vec<usize>,
    /// What control has to add.
    pub control: serde_json::Value,
}

/// The endpoint table in use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Its version; 0 before the first.
    pub version: u64,
    /// How long ago it was applied.
    pub age_seconds: Option<f64>,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The linked cluster.
    pub cluster: String,
    /// Whether streams get there.
    pub state: LinkWord,
    /// The transports of its live tunnels, joined by `+`; of all of them, if none is live.
    pub transport: Option<String>,
    /// What carries new streams: one of these transports, or several joined by `+` where cores differ.
    #[serde(default)]
    pub chosen: Option<String>,
    /// Why, in one line.
    #[serde(default)]
    pub chosen_because: Option<String>,
    /// The cluster that relays new streams; `None` where they go directly.
    #[serde(default)]
    pub via: Option<String>,
    /// Who dialled these: `dialled`, `accepted` or both, joined by `+`.
    pub direction: Option<String>,
    /// The shortest smoothed round trip of these, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Live streams that the peer opened.
    pub streams_in: usize,
    /// Live streams that this gateway opened.
    pub streams_out: usize,
    /// Tunnels that have not ended.
    pub tunnels: usize,
    /// How long ago the last word of the peer's exports came.
    pub sync_age_seconds: Option<f64>,
    /// When the first of the peer's certificates in use expires.
    pub cert_expiry: Option<Timestamp>,
    /// The peer's gateways.
    #[serde(default)]
    pub gateways: GatewaysStatus,
    /// What the path loses of what this gateway sends, in percent, as far as it was measured within a minute.
    #[serde(default)]
    pub loss_out_percent: Option<f64>,
    /// The same of what the peer sends.
    #[serde(default)]
    pub loss_in_percent: Option<f64>,
    /// By how many seconds the peer's clock is ahead of this gateway's; less than none: behind.
    #[serde(default)]
    pub clock_ahead_seconds: Option<f64>,
    /// Whether traffic suffers although the link is up, or would if one more thing failed: the message says why.
    #[serde(default)]
    pub degraded: bool,
    /// What is wrong, in one line.
    pub message: Option<String>,
}

/// The peer's gateways that this one knows of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GatewaysStatus {
    /// Those that a live tunnel leads to.
    pub reached: usize,
    /// These, and the addresses that no live tunnel leads to and that are not known to be one of these.
    pub known: usize,
    /// What is dialled, and what came of it.
    pub addresses: Vec<AddressStatus>,
}

/// An address of a peer's gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// `ip:port`.
    pub address: String,
    /// The gateways that live tunnels to it lead to, each in 16 hexadecimal digits; zeros: one that does not say which it is.
    pub gateways: Vec<String>,
    /// Why none does, in one line.
    pub message: Option<String>,
}

/// A link's state in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkWord {
    /// At least one tunnel takes streams.
    Up,
    /// There are tunnels, but the peer does not answer.
    Unresponsive,
    /// There are tunnels, but they take no new streams.
    Draining,
    /// The first attempt to dial is under way.
    Dialling,
    /// Attempts to dial have failed, or the tunnels ended.
    Down,
    /// No tunnel; the peer dials us.
    Waiting,
}

impl LinkWord {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unresponsive => "unresponsive",
            Self::Draining => "draining",
            Self::Dialling => "dialling",
            Self::Down => "down",
            Self::Waiting => "waiting",
        }
    }
}

/// One import or export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// `namespace/name`.
    pub service: String,
    /// The service's port.
    pub port: u16,
    /// Of which protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Which of both it is.
    pub kind: ServiceKind,
    /// Import: where local clients connect.
    pub listen: Option<String>,
    /// Import: ready endpoints by cluster, this one's among them if it exports the service.
    pub clusters: BTreeMap<String, u32>,
    /// Import: the shares of clusters that it has, if it has shares: those above zero.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, u32>,
    /// Export: its endpoints.
    pub endpoints: Vec<EndpointStatus>,
    /// What is wrong, in one line.
    pub message: Option<String>,
}

impl ServiceStatus {
    /// `namespace/name:port`, with `/udp` behind a port of UDP.
    pub fn name(&self) -> String {
        let suffix = if self.protocol.is_tcp() { "" } else { "/udp" };
        format!("{}:{}{suffix}", self.service, self.port)
    }
}

/// Import or export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// Local clients use it.
    Import,
    /// This cluster serves it.
    Export,
}

/// One endpoint of an export, over all cores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Where it listens.
    pub address: String,
    /// The worst that a core thinks of it: `healthy`, `probing`, `failing`, `ejected`, `down` by its checks; `unused` before the first stream.
    pub health: String,
    /// Streams that it has.
    pub inflight: u32,
    /// The average time to connect, of the core where it is longest.
    pub ewma_ms: Option<f64>,
    /// The average time from the client's first byte to the endpoint's, of the core where it is longest.
    #[serde(default)]
    pub answer_ms: Option<f64>,
    /// Failures to connect in a row, of the core where they are most.
    pub failures: u32,
    /// Streams in a row that it reset before its first byte, of the core where they are most.
    #[serde(default)]
    pub resets: u32,
    /// Why it is not healthy, in words.
    #[serde(default)]
    pub message: Option<String>,
    /// What its checks say, if it is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckStatus>,
}

/// What the checks of an endpoint say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// `unknown`, `up` or `down`.
    pub state: String,
    /// Seconds since the last answer came or was given up.
    pub age_seconds: Option<f64>,
    /// How long it took.
    pub took_ms: Option<f64>,
    /// What was wrong with it.
    pub error: Option<String>,
}

/// This gateway's identity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IdentityReport {
    /// Its SPIFFE id.
    pub id: Option<String>,
    /// When its SVID expires.
    pub not_after: Option<Timestamp>,
    /// When this process renews it, if it does.
    pub renews_at: Option<Timestamp>,
    /// Why the last renewal or reload failed; none once things are in order again.
    pub last_error: Option<String>,
    /// What is wrong with the SVID's validity, in one line.
    #[serde(default)]
    pub message: Option<String>,
    /// The clusters that it has a bundle of.
    #[serde(default)]
    pub trusts: Vec<String>,
    /// The directory that it is read from.
    #[serde(default)]
    pub directory: Option<String>,
    /// The directory of the bundles, each `<cluster>.pem`.
    #[serde(default)]
    pub bundles: Option<String>,
}

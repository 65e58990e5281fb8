//! Tables from a cluster's control to its gateways, where these are processes of their own; and the other way what gateways know of
//! their links, and the bytes of the exchange with peers.
//!
//! ```text
//! control: Handles::table ──▶ History ● ──▶ a session a gateway: Feed ● ══ gRPC over mutual TLS ══▶ Replica ● ──▶ table (gateway)
//!          LinkEvent, Peers ◀── Gateways ◀──────────────────────────── what is reached, streams ◀── tunnels (gateway)
//! ```
//!
//! Start at [`Server`] for control, at [`Client`] for a gateway. docs/push.md is the protocol, docs/push.proto its messages. Which
//! table is right is control's business, and what is done with it the gateway's.

#![forbid(unsafe_code)]

mod change;
mod client;
mod codec;
mod convert;
mod digest;
mod feed;
mod history;
mod meter;
mod pipe;
mod replica;
mod server;
mod transport;
mod wire;

pub use client::{Attachment, Client, ClientConfig, Fits, Incoming, Open, Tunnels};
pub use digest::Digest;
pub use feed::{Position, Rejected};
pub use meter::{Meter, PushKind, Refused};
pub use replica::{Refusal, Replica};
pub use server::{AwayStatus, GatewayStatus, Server, ServerConfig, ServerStatus};
pub use wire::LinkReport;

use isthmus_control_api::{ClusterName, GatewayId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The version of the protocol that this code speaks.
pub const PROTOCOL: u32 = 1;
/// No message of control is longer.
pub const MAX_MESSAGE: usize = 4 << 20;
/// No message of a gateway is longer. Control has many of them.
pub const MAX_SAID: usize = 256 << 10;
/// Gateways that may be attached to one control.
pub const MAX_GATEWAYS: usize = 256;
/// How often either side asks whether the other is there, and how long that may take to answer.
pub const KEEPALIVE: Duration = Duration::from_secs(5);
/// For a connection, its handshake, and the first word after it.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// By linked cluster, the gateways that live tunnels lead to.
pub type Reached = BTreeMap<ClusterName, BTreeSet<GatewayId>>;

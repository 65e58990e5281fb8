//! What control and gateway share: the names of things, the endpoint table, and how places are shared out. No I/O.
//!
//! ```text
//! registry ──▶ control ──▶ Arc<Table> ──▶ gateway
//! ```
//!
//! Start at [`Table`]. How tables are made is control's business, how they are used the gateway's.

#![forbid(unsafe_code)]

pub mod cidr;
pub mod names;
pub mod policy;
pub mod sources;
pub mod table;

pub use cidr::Cidr;
pub use names::{ClusterName, ClustersetName, GatewayId, InvalidName, Listen, Protocol, ServiceName, ServicePort};
pub use policy::{
    Algorithm, ProxyProtocol, ServicePolicy,
    health::{HealthCheck, Probe},
    limits::{Limits, Retries, ServiceLimits, Timeouts},
};
pub use table::{
    Affinity, Endpoint, Export, Import, Link, Namespaces, PeerAddress, Relaying, Table, TransportChoice, Weights, pairs,
};

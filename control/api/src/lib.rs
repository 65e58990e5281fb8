//! What control and gateway share: the names of things, the endpoint table, and how places are shared out. No I/O.
//!
//! ```text
//! registry ──▶ control ──▶ Arc<Table> ──▶ gateway
//! ```
//!
//! Start at [`Table`]. How tables are made is control's business, how they are used the gateway's.

#![forbid(unsafe_code)]

pub mod access;
pub mod cidr;
pub mod names;
pub mod policy;
pub mod prefixes;
pub mod server_name;
pub mod sources;
pub mod table;
pub mod workload;

pub use access::{AccessPolicy, PolicyName};
pub use cidr::Cidr;
pub use names::{ClusterName, ClustersetName, GatewayId, InvalidName, Listen, Protocol, ServiceName, ServicePort};
pub use policy::{
    ProxyProtocol, ServicePolicy,
    balance::{Algorithm, Failover, Near, Outliers},
    health::{HealthCheck, Probe},
    limits::{Limits, Retries, ServiceLimits, Timeouts},
    source::TransparentSource,
};
pub use prefixes::Prefixes;
pub use server_name::ServerName;
pub use table::{
    Affinity, Endpoint, Export, Import, Link, Namespaces, PeerAddress, Relaying, Table, TransportChoice, Weights, pairs,
};
pub use workload::{PodName, ServiceAccount, Workload};

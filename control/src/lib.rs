//! Control plane: what this cluster exports and imports, what its peers export, and the endpoint table that follows.
//!
//! ```text
//! registry (a file) ──▶ ┐
//!                       ├─ merge ──▶ Arc<Table> ──▶ gateway
//! exchange with peers ▶ ┘       └──▶ store (the last good one, on disk)
//! ```
//!
//! Start at [`Control`]; [`Config`] is what it is made from. The gateway carries the exchange's streams and uses the table: neither
//! knows the other, [`Peers`] and [`LinkEvent`] are all that passes between them.

#![forbid(unsafe_code)]

pub mod app;
pub mod config;
pub mod exchange;
pub mod keeper;
pub mod merge;
pub mod peers;
pub mod registry;
pub mod store;

pub use app::{Control, ControlStatus, Handles, LinkEvent, Peers};
pub use config::{AccessLog, Config, ConfigErrors, ControlAt, LinkFiles, MOST_LINKS, System, Traces};
pub use merge::shared;
pub use registry::{FileRegistry, Registry};

/// The most service ports that one cluster can export, in its own configuration and towards a peer.
pub const MAX_SERVICE_PORTS: usize = 10_000;

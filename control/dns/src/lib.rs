//! DNS for `clusterset.local`: answers about what is imported, from a snapshot.
//!
//! ```text
//! what is imported ──▶ Zone (watch) ──┐
//!                                     ├─ respond ──▶ answer
//! query (UDP, TCP) ───────────────────┘
//! ```
//!
//! The names are those of the Multi-Cluster Services DNS specification (KEP-1645, "DNS"). [`respond`] is pure: bytes in, bytes out.
//! [`Server`] is the sockets around it.

#![forbid(unsafe_code)]

mod answer;
mod message;
mod server;
mod zone;

pub use message::{Transport, respond};
pub use server::{BindError, Counts, MOST_CONNECTIONS, Server};
pub use zone::{Addresses, Endpoint, InvalidDomain, Port, Service, Zone};

//! Control plane.

pub mod config;

/// The most service ports that one cluster can export, in its own configuration and towards a peer.
pub const MAX_SERVICE_PORTS: usize = 10_000;

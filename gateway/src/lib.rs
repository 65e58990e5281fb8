//! The data plane: takes bytes from local clients, carries them through tunnels, hands them to local endpoints.

pub mod admin;
pub mod balance;
pub mod close;
pub mod metrics;
pub mod record;
pub mod socket;
pub mod status;
pub mod tunnel;

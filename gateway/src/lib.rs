//! The data plane: takes bytes from local clients, carries them through tunnels, hands them to local endpoints.
//!
//! ```text
//! listener ─▶ stream (egress) ─▶ balance::locality ─▶ peer ─▶ tunnel ══▶ tunnel ─▶ stream (ingress) ─▶ balance ─▶ upstream
//! ```
//!
//! UDP takes the same way, a flow being a stream: [`flow`].
//!
//! Start at [`Gateway`]. Where tables come from is not its business: it is given them ([`isthmus_control_api::Table`]).

mod access;
pub mod admin;
mod app;
pub mod balance;
mod board;
mod busy;
pub mod checks;
pub mod client_hello;
pub mod close;
pub mod console;
mod core;
mod exchange;
pub mod flow;
mod hop;
pub mod limit;
mod listener;
mod measure;
pub mod memory;
mod meter;
pub mod metrics;
mod peer;
pub mod policy;
mod probe;
pub mod proxy_protocol;
mod ready;
mod relay;
mod reserved;
pub mod socket;
mod source;
pub mod status;
mod stream;
mod traces;
pub mod tunnel;
mod upstream;

pub use app::{Config, Gateway, Handle, Limits, POOL, StartError};
pub use board::{Live, Tunnels};
pub use exchange::Incoming as IncomingExchange;
pub use hop::{LocalHopStatus, Unread};
pub use listener::shared::SharedListenerStatus;
pub use peer::join::{IncomingJoin, JOIN};
pub use reserved::NAMESPACE as RESERVED_NAMESPACE;
pub use stream::local::pipe::MOST as SPLICE_PIPES;
pub use stream::record::AccessLog;
pub use traces::Traces;
pub use tunnel::driver::MuxConfig;

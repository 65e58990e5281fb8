//! Our multiplexer: many streams over one TLS connection, with credit per stream and none per connection.
//!
//! The wire format is specified in docs/wire.md. Everything here is pure: [`frame`] is the codec, [`connection`] the state machine,
//! [`window`] the credit, [`budget`] what bounds the sum of all credit, [`liveness`] decides when to ask whether the peer is alive.
//! No sockets, no clock, no tokio; the driver beside this module has those.

pub mod budget;
pub mod connection;
pub mod frame;
pub mod hello;
pub mod liveness;
pub mod path;
pub mod window;

#[cfg(test)]
mod tests;

pub use budget::Budget;
pub use connection::{Event, Mux, OpenError, Role};
pub use frame::ProtocolError;
pub use hello::{Introduction, Settings};

//! TLS 1.3 of the tunnels: rustls shakes hands and derives the keys, our own record layer uses them in place.
//!
//! Why: rustls' record layer copies every byte twice on the way out and twice on the way in, which is half of a tunnel's byte cost
//! (docs/decisions/0003). What is ours is small: [`record`] seals and opens records, [`keys`] follows key updates, [`layout`] says how
//! records lie in a buffer. Handshakes, certificates, key schedule and AEADs are not ours.

pub mod handshake;
pub mod keys;
pub mod layout;
pub mod record;
pub mod stream;

pub use handshake::{HandshakeError, Handshaken, Wire};
pub use keys::{Opened, TlsError, TrafficKeys};
pub use layout::RecordBuffer;

#[cfg(test)]
pub(crate) mod tests;

//! Behaviour of the crate as a whole: real handshakes in memory, and identities made for them.

mod forge;
mod handshake;
mod pair;

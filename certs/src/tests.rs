//! Behaviour of the crate as a whole: real handshakes in memory, and identities made for them.

pub(crate) mod directory;
mod forge;
mod handshake;
mod introduce;
mod issue;
mod own;
mod pair;
mod revocation;
mod upkeep;

//! Identities: SPIFFE ids, SVIDs, trust bundles, issuing, rotation, rustls configurations and verifiers.

pub mod spiffe;

pub use spiffe::{InvalidSpiffeId, SpiffeId};

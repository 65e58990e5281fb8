//! Identities: SPIFFE ids, SVIDs, trust bundles, issuing, rotation, rustls configurations and verifiers.
//!
//! ```text
//! directory ──▶ Identity ──▶ IdentityStore ──▶ rustls configurations, read at each handshake
//!     ▲                          ▲
//!     └── Authority (renews) ────┴── IdentityWatch (reloads)
//! ```
//!
//! Each cluster is a trust domain with a CA of its own. A peer is who its X.509-SVID says, if its chain leads to the bundle of the
//! trust domain that its id claims ([`verify`]). Start at [`IdentityStore`] to use identities, at [`Directory`] to make them.
//! Sockets, and what to do with a refused peer, are left to the gateway.

#![forbid(unsafe_code)]

pub mod anchors;
pub mod directory;
pub mod domain;
pub mod identity;
pub mod introduce;
pub mod issue;
mod pem;
pub mod portable;
pub mod refusal;
pub mod renew;
pub mod revocation;
pub mod spiffe;
pub mod store;
pub mod svid;
pub mod tls;
pub mod verify;
pub mod watch;
pub mod x509;

pub use anchors::TrustAnchors;
pub use directory::{Directory, DirectoryError};
pub use domain::{Role, TrustDomain};
pub use identity::Identity;
pub use introduce::Fingerprint;
pub use issue::Authority;
pub use refusal::{HandshakeRefusal, RefusedHandshake};
pub use renew::overdue;
pub use revocation::{Revocations, Revoked};
pub use spiffe::{InvalidSpiffeId, SpiffeId};
pub use store::{IdentityStatus, IdentityStore, Refusal};
pub use svid::Svid;
pub use verify::{AllowedClusters, peer_identity};
pub use watch::IdentityWatch;
pub use x509::{BadCertificate, Validity};

#[cfg(test)]
mod tests;

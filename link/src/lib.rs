//! Linking two clusters that know nothing of each other: invitations, the tokens that carry them, and the conversation in which both
//! sides prove that they know the same secret and hand over their CA certificates.
//!
//! ```text
//! isthmus invite ─▶ Invites (files) ─▶ Token ── by people ──▶ isthmus join
//!                       │                                          │
//!                  serve(connection) ◀── TLS, ALPN isthmus-join/1 ── join(token)
//!                       └─ both: prove, check, hand over bundles ──┘
//! ```
//!
//! What is granted (a bundle and a link are written) and how a connection came about are the caller's. Start at [`serve`] and [`join`];
//! docs/decisions/0013-linking.md says why it is as it is.

#![forbid(unsafe_code)]

mod inviter;
pub mod invites;
mod joiner;
pub mod proof;
pub mod refusal;
mod secret;
pub mod token;
pub mod wire;

pub use inviter::{Grant, Host, Outcome, serve};
pub use invites::{Invite, Invites, InvitesError};
pub use joiner::{JoinError, Me, Offered, Unreached, join, probe};
pub use refusal::{Refusal, Refused};
pub use secret::{BadInviteId, InviteId, Secret};
pub use token::{BadToken, Token};

/// The name of the conversation's protocol (ALPN).
pub const ALPN: &[u8] = b"isthmus-join/1";

/// The most endpoints that a token or an offer has.
pub const MOST_ENDPOINTS: usize = 16;

//! Kubernetes for the control plane: what the API server says, and what is written to it.
//!
//! ```text
//! API server ──watch──▶ World ─┐
//!                              ├─ mcs::plan ● ──▶ Plan ──apply──▶ API server
//! peers' summaries ──▶ PeerViews┘                   └──▶ what the gateway is told
//! ```
//!
//! [`api`] has the resource types, [`compat`] reads manifests of other systems, [`mcs`] decides.

#![forbid(unsafe_code)]

pub mod api;
pub mod apply;
pub mod compat;
pub mod connect;
pub mod debounce;
pub mod error;
pub mod index;
pub mod install;
pub mod lead;
pub mod mcs;
pub mod names;
pub mod optional;
mod pods;
pub mod registry;
pub mod secrets;
pub mod watch;

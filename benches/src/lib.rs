//! The load harness: isthmus side by side with its peers, in one run on one machine.
//!
//! ```text
//!  wrk, bulk clients ──TCP──▶ egress proxy ══ mutual TLS 1.3 ══▶ ingress proxy ──TCP──▶ nginx, bulk sink and source
//! ```
//!
//! Everything is started here: a [`setup::Setup`] is a pair of proxies, a [`case::Case`] a load, and [`schedule::run`]
//! interleaves them round by round, so that a machine that drifts drifts for all of them. A [`ground::Ground`] says
//! where the two halves of each pair are: on loopback, or in two namespaces with the emulated WAN between them, of
//! which there is a run for each [`leg::Leg`]. [`failover::run`] breaks paths instead, and [`slow::run`] leads to eight
//! endpoints of which one is slow.
//! [`report`] turns the [`samples::Samples`] into the tables, `RESULTS.md`, `results.json` and `results.svg`, and of the
//! WAN `WAN.md` and `wan.json`.
//!
//! It depends on none of the isthmus crates but the emulated WAN: it drives programs, ours like everybody else's.

pub mod args;
pub mod bulk;
pub mod case;
pub mod certs;
pub mod env;
pub mod error;
pub mod failover;
pub mod first;
pub mod ground;
pub mod http;
pub mod leg;
pub mod machine;
pub mod many_ports;
pub mod measure;
pub mod metric;
pub mod netns;
pub mod origin;
pub mod ports;
pub mod prober;
pub mod process;
pub mod procfs;
pub mod report;
pub mod samples;
pub mod schedule;
pub mod setup;
pub mod slow;
pub mod stats;
pub mod storm;
pub mod target;
pub mod wrk;

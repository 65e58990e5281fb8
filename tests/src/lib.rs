//! End-to-end topologies on real kernels: whole clusters in network namespaces, real gateways, real programs.
//!
//! ```text
//!  west: pods ── edge (gateway) ──┐                ┌── edge (gateway) ── pods :east
//!  10.0.0.0/24           192.0.2.2│── wan ns ──────│198.51.100.2          10.0.0.0/24
//!                                 └ routes neither ┘
//! ```
//!
//! Start at [`Topology`], which makes the namespaces, with an emulated WAN between them where a test asks for one, and [`Gateway`],
//! which runs `isthmus run` in one. [`Endpoint`] and [`Nginx`] serve, [`client`] and [`load`] use. Everything is removed when its
//! owner is dropped, also while a test panics. Waiting is [`eventually`]: a condition with a bound. Without root or a program these
//! tests fail; they never skip.

pub mod admin;
pub mod apart;
pub mod check;
pub mod client;
pub mod clock;
pub mod collector;
pub mod config;
pub mod datagrams;
pub mod descriptors;
pub mod endpoint;
pub mod envoy;
pub mod gateway;
pub mod grpc_health;
pub mod guide;
pub mod haproxy;
pub mod identity;
pub mod kube;
pub mod linking;
pub mod load;
pub mod maps;
pub mod names;
pub mod nat;
pub mod netns;
pub mod nginx;
pub mod pair;
pub mod pattern;
pub mod process;
pub mod several;
pub mod stranger;
pub mod topology;
pub mod trio;
pub mod wait;

pub use client::{End, Received};
pub use clock::Clock;
pub use collector::Collector;
pub use config::{Config, Import, Link, Transport};
pub use datagrams::UdpEcho;
pub use endpoint::Endpoint;
pub use envoy::Envoy;
pub use gateway::{Gateway, Part, Surroundings};
pub use grpc_health::GrpcHealth;
pub use guide::Guide;
pub use haproxy::Haproxy;
pub use kube::KubeCluster;
pub use load::Load;
pub use nat::Nat;
pub use netns::Netns;
pub use nginx::Nginx;
pub use pair::Pair;
pub use pattern::{Digest, Pattern};
pub use process::Process;
pub use stranger::Papers;
pub use topology::{Cluster, NatKind, Topology};
pub use trio::Trio;
pub use wait::eventually;

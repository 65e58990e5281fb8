//! Kubernetes, end to end: real API servers, two clusters of them. As root; nothing here is ever skipped.

#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

mod bad_days;
mod chart;
mod cluster_ip;
mod clusters;
mod compat;
mod contexts;
mod data_path;
mod identity;
mod install;
mod links;
mod mcs_api;
mod mesh;
mod names;
mod policies;
mod replicas;
mod services;
mod tenants;

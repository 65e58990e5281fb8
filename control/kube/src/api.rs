//! Resource types that Kubernetes itself does not have.

pub mod about;
pub mod link;
pub mod mcs;
pub mod policy;

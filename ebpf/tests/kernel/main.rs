//! The programs of the local hop and of the shared listener in this kernel: what they do to connections that take part, and that they do
//! nothing to others. As root; nothing here is ever skipped.

#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

mod capabilities;
mod connection;
mod hazards;
mod namespaces;
mod selftest;
mod shared_listener;
mod strangers;
mod unloading;
mod withdrawing;

use isthmus_ebpf::{Programs, cgroup_root};

/// The programs, as a gateway loads them: for the whole machine. Several can be loaded at once.
fn programs() -> Programs {
    Programs::load(&cgroup_root().unwrap()).unwrap()
}

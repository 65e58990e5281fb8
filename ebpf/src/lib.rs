//! What the gateway has in the kernel: the local hop, and the shared listener.
//!
//! **The local hop**: what a process of this node and the gateway say to each other goes past most of TCP.
//!
//! ```text
//!            connect()                                    accept()
//! client ─────────────▶ door of the gateway    gateway ─────────────▶ endpoint
//!    │   write()             ▲ its queue           │  write()             ▲ its queue
//!    └── local_hop_msg ──────┘                     └── local_hop_msg ─────┘
//! ```
//!
//! [`Programs::load`] puts the programs of `programs/` into the kernel. They touch connections of two kinds only: those that come to
//! a listener given to [`Programs::open_door`], and those that a socket given to [`Programs::mark`] makes. [`selftest::run`] says
//! whether this kernel does it right; nothing may be opened or marked before it has. When a [`Programs`] is dropped, or its
//! process ends however it may, the programs are gone; connections that they have redirected until then go on as they are.
//!
//! **The shared listener**: connections to thousands of ports come to a few sockets, [`SharedListener`].
//!
//! Where there was no clang when this was built, or on another system, both say so when they are to be loaded.

#[cfg(programs)]
mod capabilities;
#[cfg(programs)]
mod command;
#[cfg(programs)]
mod map;
mod mountinfo;
#[cfg(programs)]
mod object;
#[cfg_attr(not(programs), path = "absent.rs")]
mod programs;
#[cfg(programs)]
mod release;
pub mod selftest;
#[cfg_attr(not(programs), path = "absent/shared_listener.rs")]
mod shared_listener;

pub use mountinfo::cgroup_root;
pub use programs::Programs;
pub use shared_listener::SharedListener;

use std::{io, path::PathBuf};

#[allow(missing_docs, dead_code, reason = "made from programs/shared.h, which says what there is to say")]
mod shared {
    include!(concat!(env!("OUT_DIR"), "/shared.rs"));
}

/// How much may be redirected to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// So many bytes. Whoever writes more has the rest go by TCP behind redirected ones, which many readers do not look for.
    Bytes(u32),
    /// As much as TCP takes: it is by TCP.
    ByTcp,
}

/// Whether a connection was taken out of the local hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawal {
    /// It was not: what is sent to either end is redirected.
    Stays,
    /// Something that was redirected is unread. What is sent to the gateway goes by TCP from now on.
    NotYet,
    /// It is plain TCP.
    Done,
    /// This end never was in it or is out of it, or both are the gateway's.
    Never,
}

/// Why programs are not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not in this binary.
    #[error("this isthmus was built without clang, or not for Linux")]
    Absent,
    /// The kernel does not describe its own types.
    #[error("/sys/kernel/btf/vmlinux: {0}: the kernel needs CONFIG_DEBUG_INFO_BTF")]
    NoTypes(io::Error),
    /// The kernel lacks what such programs need.
    #[error("found Linux {0}, expected {1}.{2} or later")]
    Old(String, u32, u32),
    /// The network namespace of this thread cannot be opened.
    #[error("{0}: {1}")]
    Namespace(&'static str, io::Error),
    /// There is no directory to attach to.
    #[error("no cgroup2 file system is mounted")]
    NoCgroup,
    /// That directory cannot be opened.
    #[error("{0}: {1}")]
    Cgroup(PathBuf, io::Error),
    /// This process may not.
    #[error("not permitted: {} missing", .0.join(", "))]
    Lacks(Vec<&'static str>),
    /// The kernel does not let us, capabilities or not.
    #[error(
        "not permitted, though this process has the capabilities: is it in a user namespace, or, before Linux 5.11, short of memory that it may \
         lock (RLIMIT_MEMLOCK)?"
    )]
    NotPermitted,
    /// The kernel has taken the programs, and they do not do what they should.
    #[error("self-test: {0}")]
    Fault(String),
    /// The kernel does not take the programs.
    #[error("this kernel does not take the programs: {0}")]
    Refused(String),
}

/// What has been counted since the programs were loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ends of connections that take part or did.
    pub joined: u64,
    /// Ends that could not, for what they are.
    pub refused: u64,
    /// Ends that could not, because a map was full.
    pub full: u64,
    /// Messages redirected.
    pub redirected: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages by TCP, because the other end does not take part.
    pub alone: u64,
    /// Messages by TCP, because the other end had not read yet what came by TCP before.
    pub behind: u64,
    /// Messages by TCP, because whoever reads them may wait in the read.
    pub waits: u64,
    /// Ends that went back to TCP for good, because the other end had too much unread.
    pub unread: u64,
    /// Ends that went back to TCP for good, because of kTLS.
    pub encrypted: u64,
    /// Ends that were taken out.
    pub withdrawn: u64,
}

/// What is known of one socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noted {
    /// Whether it takes part.
    pub joined: bool,
    /// Bytes redirected into it.
    pub delivered: u64,
}

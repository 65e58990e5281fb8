//! The emulated WAN on a real kernel: that packets fare as it says, and how exact it is itself.

#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

mod attachments;
mod figures;
mod impairments;
mod pings;

use isthmus_tests::Topology;

/// Two clusters without identities, for which no binary is needed.
fn west_and_east(wan: &str) -> Topology {
    Topology::over(&["west", "east"], wan.parse().unwrap_or_else(|e| panic!("{e}")), 1)
}

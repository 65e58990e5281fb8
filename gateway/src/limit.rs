//! How many streams of a service there may be, how often they are tried again, and how long they may take (docs/limits.md).
//!
//! ```text
//! stream ─▶ Gate::enter ─▶ Admission (lives as long as the stream) ─▶ may_retry, rates
//! ```
//!
//! A [`gate::Gate`] is one for the process and service, at the client's or the endpoints' side: atomics that a stream touches when it
//! begins, is taken, and ends. What is counted by service and peer, and by
//! source, lies in tables of a fixed size ([`table`] ●).

pub mod bucket;
pub mod budget;
pub(crate) mod expiry;
pub(crate) mod gate;
pub(crate) mod held;
pub(crate) mod pace;
pub mod table;
pub mod usage;

pub(crate) use gate::{Admission, Comer, Gates};
pub(crate) use held::link;

//! One proxied stream, from accept to close.
//!
//! ```text
//! egress:  client ─▶ which service ─▶ which cluster ─▶ open ─▶ copy ─▶ close
//! ingress: open ─▶ which endpoint ─▶ connect ─▶ copy ─▶ close
//! ```

mod announced;
pub(crate) mod copy;
pub(crate) mod early;
mod egress;
pub(crate) mod guard;
mod ingress;
pub(crate) mod local;
mod named;
mod paced;
pub(crate) mod record;

pub(crate) use egress::{Accepted, Asking, Client, Established, better_core, doubted, start, start_exchange};
pub(crate) use ingress::{Incoming, Observed};

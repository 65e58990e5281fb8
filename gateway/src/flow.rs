//! UDP: flows of datagrams, each of them a stream of the tunnel that it takes.
//!
//! ```text
//! client ─▶ listener ─▶ table ● ─▶ queue ● ─▶ egress ══ beside the stream, or framed ● on it ══▶ ingress ─▶ endpoint
//! ```
//!
//! A flow is what one client sends to one listener, and what comes back. It is opened as a stream: so it is balanced, refused, tried
//! elsewhere, counted and drained as streams are, and it lives as long as its stream. Datagrams go beside the stream where the
//! transport has datagrams and the path takes their size, and framed on it otherwise (docs/wire.md, "UDP flows").

pub(crate) mod copy;
pub(crate) mod egress;
pub mod frame;
pub(crate) mod idle;
pub(crate) mod ingress;
pub(crate) mod listener;
pub(crate) mod queue;
mod reach;
pub(crate) mod table;

use std::io;

/// Why a flow's copying ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The peer has ended the stream.
    Finished,
    /// The stream failed.
    Stream(crate::tunnel::StreamError),
    /// The endpoint's socket failed: mostly its host said that nobody is there.
    Endpoint(io::Error),
    /// This side has ended the flow.
    Closed(crate::close::Closed),
    /// A rule of an access policy denies it now.
    Denied(std::sync::Arc<str>),
}

impl From<crate::tunnel::StreamError> for Ended {
    fn from(error: crate::tunnel::StreamError) -> Self {
        Self::Stream(error)
    }
}

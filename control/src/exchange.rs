//! Export summaries between linked clusters: what each exports and how many endpoints are ready, never the endpoints' addresses.
//!
//! ```text
//! own exports ──▶ Sender ──frames──▶ (a stream of the tunnel) ──▶ Receiver ──▶ the peer's view of them
//!                        ◀──answers──
//! ```
//!
//! Each side opens one stream and sends its own exports on it; the other answers. [`Sender`] and [`Receiver`] are state machines
//! without I/O, the driver moves their frames. docs/exchange.md is the specification, docs/exchange.proto its messages.

mod convert;
pub(crate) mod driver;
mod fields;
pub(crate) mod frame;
mod message;
mod receiver;
#[cfg(test)]
pub(crate) mod samples;
mod sender;
pub mod summary;
mod wire;

pub use message::{DecodeError, Delta, Hello, Message, decode};
pub use receiver::{Reaction, Receiver};
pub use sender::Sender;
pub use summary::{Services, Summaries, Summary};

use isthmus_control_api::ClusterName;
use std::{io, time::Duration};

/// The version of the protocol that this code speaks.
pub const PROTOCOL: u32 = 2;
/// No frame is longer: the largest snapshot that is within its bounds ([`summary::bounds`]) fits.
pub const MAX_FRAME: usize = 4 << 20;
/// Changes within this time go out together.
pub const COALESCE: Duration = Duration::from_millis(50);
/// How often a sender with nothing to say says so.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long either side waits for the other before the stream is given up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Why a stream of the exchange ended.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The stream failed or ended: the tunnel, mostly.
    #[error("the stream ended: {0}")]
    Stream(#[from] io::Error),
    /// The peer sent what is no message.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The peer sent a message that does not belong there.
    #[error("out of place: {0}")]
    OutOfPlace(&'static str),
    /// The peer speaks another version of the protocol.
    #[error("it speaks version {0} of the exchange, this side version {PROTOCOL}")]
    Protocol(u32),
    /// The peer says that it is a cluster that its certificate does not name.
    #[error("it calls itself {0}")]
    WrongCluster(ClusterName),
    /// The peer refused even a snapshot.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The peer did not answer, or said nothing, for [`PATIENCE`].
    #[error("nothing heard for {} s", PATIENCE.as_secs())]
    Silent,
}

#[cfg(test)]
mod tests;

//! Carrying tunnels between two linked clusters that cannot dial each other.
//!
//! ```text
//! west ══ tunnel ══▶ hub: stream "to east" ─▶ allowed? ─▶ pair of sockets ─▶ stream "from west" ══ tunnel ══▶ east
//!      └────────────────────── TLS between west and east, inside the streams ──────────────────────┘
//! ```
//!
//! What is relayed are the bytes of an ordinary tunnel, whose ends prove to each other who they are (`peer/relayed.rs`). Here they
//! are ciphertext. Nothing that came through a relay is relayed again: ways lead over direct tunnels only.

mod hub;
mod pace;
pub(crate) mod pairs;
mod rate;

pub(crate) use hub::{Leg, serve, start};

#[cfg(test)]
mod tests;

use crate::{
    core::Core,
    reserved::Reserved,
    tunnel::{OpenRequest, Refusal, RefusalReason, Source, Tunnel, TunnelStream},
};
use isthmus_control_api::ClusterName;
use std::{future::poll_fn, rc::Rc, time::Duration};

/// How long the other side may take to answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(8);

/// Which tunnels to ask over. None is a relayed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Any.
    Any,
    /// One over QUIC that this core has dialled.
    DialledQuic,
}

/// Asks a gateway of `cluster` for something reserved, over a direct tunnel, and waits until it agrees.
///
/// # Errors
/// There is no direct tunnel, or it does not agree, or does not answer in time.
pub(crate) async fn ask(
    core: &Core,
    cluster: &ClusterName,
    what: &Reserved,
    over: Over,
) -> Result<(Box<dyn TunnelStream>, Rc<dyn Tunnel>), Refusal> {
    let (mut stream, tunnel) = core.peers.open_direct(cluster, &request(core, what), over)?;
    match tokio::time::timeout(OPEN_TIMEOUT, poll_fn(|cx| stream.poll_opened(cx))).await {
        Ok(answer) => answer.map(|()| (stream, tunnel)),
        Err(_) => {
            let message = format!("{cluster} did not answer within {} s", OPEN_TIMEOUT.as_secs());
            Err(Refusal { reason: RefusalReason::Timeout, message, retry: true })
        }
    }
}

/// A request for something reserved, on behalf of this gateway.
pub(crate) fn request(core: &Core, what: &Reserved) -> OpenRequest {
    let source = Source { id: core.common.identity.current().id().clone(), pod: None, address: None };
    OpenRequest { service: what.service(), source, sticky: false, elsewhere: false, traceparent: None }
}

//! A client whose proxy says who it is, in front of its bytes.

use crate::{
    close::Closed,
    core::Core,
    proxy_protocol::{self, LONGEST, Read},
    socket::Socket,
};
use isthmus_control_api::Import;
use std::{future::poll_fn, net::SocketAddr, time::Duration};

/// How long a header may take, all of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who a client is, and what of its bytes was read with that.
pub(super) struct Announced {
    pub(super) client: Option<SocketAddr>,
    pub(super) bytes: Vec<u8>,
}

/// Finds out who has connected from `from`: a proxy of the import's, which has to say so, or a client.
///
/// # Errors
/// What came was no header, or none came in time; or the connection has ended.
pub(super) async fn who(
    core: &Core,
    import: &Import,
    socket: &Socket,
    from: Option<SocketAddr>,
) -> Result<Announced, Closed> {
    let proxies = &import.policy.accept_proxy_protocol;
    let is_proxy = |from: SocketAddr| proxies.iter().any(|network| network.contains(from.ip()));
    if !from.is_some_and(is_proxy) {
        return Ok(Announced { client: from, bytes: Vec::new() });
    }
    let mut bytes = Vec::new();
    let reading = tokio::time::timeout(PATIENCE, header(core, socket, &mut bytes)).await;
    let (length, client) = reading.unwrap_or(Err(Closed::BadProxyHeader)).inspect_err(|closed| {
        tracing::debug!(service = %import.service, %closed, read = bytes.len(), "a proxy told of no client");
    })?;
    bytes.drain(..length);
    Ok(Announced { client: client.or(from), bytes })
}

/// Reads a header into `bytes`, and what has come behind it; how long it is, and the client.
async fn header(core: &Core, socket: &Socket, bytes: &mut Vec<u8>) -> Result<(usize, Option<SocketAddr>), Closed> {
    loop {
        let read = poll_fn(|cx| {
            let mut scratch = core.scratch.borrow_mut();
            let read = socket.poll_recv(cx, &mut scratch[..LONGEST]);
            read.map_ok(|n| {
                bytes.extend_from_slice(&scratch[..n]);
                n
            })
        });
        match read.await {
            // Whoever only looks whether somebody listens says nothing.
            Ok(0) if bytes.is_empty() => return Err(Closed::Fin),
            Ok(0) => return Err(Closed::BadProxyHeader),
            Ok(_) => {}
            Err(_) => return Err(Closed::ResetLocal),
        }
        match proxy_protocol::read(bytes) {
            Ok(Read::More) => {}
            Ok(Read::Whole { length, client }) => return Ok((length, client)),
            Err(error) => {
                tracing::debug!(%error, "from a proxy");
                return Err(Closed::BadProxyHeader);
            }
        }
    }
}

//! The tunnel port: takes peers' connections and spreads them over the cores.

use crate::{
    core::{Common, Mail},
    metrics::reasons::Bound,
};
use std::{io, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// Serves the tunnel port until the gateway drains; without one it waits for that.
///
/// One acceptor places connections, rather than a listener on every core: peers dial few and long-lived tunnels, and the kernel's
/// hash would often put all of a peer's on one core.
pub(crate) async fn serve(common: Arc<Common>, listener: Option<TcpListener>) {
    let Some(listener) = listener else { return common.draining.cancelled().await };
    let mut next = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = common.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, from) = match accepted.and_then(|(socket, from)| Ok((socket.into_std()?, from))) {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the tunnel port");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = common.handshakes.clone().try_acquire_owned() else {
            common.metrics.control().refused(Bound::Handshakes);
            continue;
        };
        let core = common.board.idlest(next);
        if common.mailboxes[core].try_send(Mail::Tunnel(socket, from, permit)).is_err() {
            common.metrics.control().refused(Bound::Handshakes);
            continue;
        }
        next += 1;
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

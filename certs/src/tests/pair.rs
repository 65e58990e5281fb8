//! Two ends of a TLS connection in memory.

use crate::{HandshakeRefusal, RefusedHandshake};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, pki_types::ServerName};
use std::sync::Arc;

/// How a handshake ended at both ends.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) client: Result<(), RefusedHandshake>,
    pub(super) server: Result<(), RefusedHandshake>,
}

impl Outcome {
    pub(super) fn assert_ok(&self) {
        assert!(self.client.is_ok() && self.server.is_ok(), "{self:?}");
    }

    /// The client refused the server; the server learns it by an alert.
    pub(super) fn assert_client_refuses(&self, reason: HandshakeRefusal) -> &str {
        assert_eq!(self.server.as_ref().unwrap_err().reason, HandshakeRefusal::ByPeer, "{self:?}");
        let refused = self.client.as_ref().unwrap_err();
        assert_eq!(refused.reason, reason, "{self:?}");
        &refused.detail
    }

    /// The server refused the client; the client learns it by an alert.
    pub(super) fn assert_server_refuses(&self, reason: HandshakeRefusal) -> &str {
        assert_eq!(self.client.as_ref().unwrap_err().reason, HandshakeRefusal::ByPeer, "{self:?}");
        let refused = self.server.as_ref().unwrap_err();
        assert_eq!(refused.reason, reason, "{self:?}");
        &refused.detail
    }
}

/// The two connections.
pub(super) struct Pair {
    pub(super) client: ClientConnection,
    pub(super) server: ServerConnection,
}

/// Shakes hands until both are done or one has failed, alerts delivered.
pub(super) fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> (Outcome, Pair) {
    let name = ServerName::try_from("peer.demo").unwrap();
    let mut pair = Pair {
        client: ClientConnection::new(client.clone(), name).unwrap(),
        server: ServerConnection::new(server.clone()).unwrap(),
    };
    let mut outcome = Outcome { client: Ok(()), server: Ok(()) };
    // A full TLS 1.3 handshake with a retry takes fewer flights than this, and so does any alert.
    for _ in 0..8 {
        let mut wire = Vec::new();
        while pair.client.wants_write() {
            pair.client.write_tls(&mut wire).unwrap();
        }
        take(&wire, &mut outcome.server, |bytes| {
            pair.server.read_tls(bytes).unwrap();
            pair.server.process_new_packets().map(drop)
        });
        let mut wire = Vec::new();
        while pair.server.wants_write() {
            pair.server.write_tls(&mut wire).unwrap();
        }
        take(&wire, &mut outcome.client, |bytes| {
            pair.client.read_tls(bytes).unwrap();
            pair.client.process_new_packets().map(drop)
        });
    }
    let done = !pair.client.is_handshaking() && !pair.server.is_handshaking();
    assert!(done || outcome.client.is_err() || outcome.server.is_err(), "stuck: {outcome:?}");
    (outcome, pair)
}

fn take(
    mut wire: &[u8],
    result: &mut Result<(), RefusedHandshake>,
    mut process: impl FnMut(&mut &[u8]) -> Result<(), rustls::Error>,
) {
    while !wire.is_empty() && result.is_ok() {
        *result = process(&mut wire).map_err(|e| RefusedHandshake::from(&e));
    }
}

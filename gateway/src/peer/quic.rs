//! QUIC's way to a live tunnel: each core's endpoints, dialling and accepting.

use super::setup::{self, Running, SetupError};
use crate::{
    core::{Common, Core},
    metrics::reasons::Bound,
    socket::udp,
    tunnel::{
        Direction, PeerIdentity,
        driver::MuxConfig,
        quic::{
            endpoint,
            steer::{self, CoreIds},
        },
    },
};
use isthmus_certs::{HandshakeRefusal, tls};
use isthmus_control_api::{ClusterName, TransportChoice};
use quinn::{
    ClientConfig, ConnectionError, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig,
    TransportErrorCode,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};
use rustls::pki_types::CertificateDer;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::SystemTime,
};
use tokio::sync::OwnedSemaphorePermit;

/// What all cores' endpoints have in common.
pub(crate) struct QuicCommon {
    transport: Arc<TransportConfig>,
    server: ServerConfig,
    /// A socket for each core, on the tunnel port; none where UDP cannot be had. They stay open to the end.
    sockets: Vec<UdpSocket>,
}

impl QuicCommon {
    /// Opens the tunnel port. Without it peers reach us over TCP, so that is no reason not to start.
    pub(crate) fn new(
        listen: Option<SocketAddr>,
        cores: usize,
        config: &MuxConfig,
        server: Arc<rustls::ServerConfig>,
    ) -> Result<Self, rustls::Error> {
        let transport = endpoint::transport_config(config);
        let crypto = QuicServerConfig::try_from(server).map_err(no_suite)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(transport.clone());
        let bound = listen.map(|address| (address, udp::bind_cores(address, cores)));
        let sockets = match bound {
            Some((address, Ok(sockets))) => {
                if !sockets.iter().all(udp::has_room) {
                    tracing::info!(
                        %address,
                        "small UDP buffers: fat paths will lose datagrams; raise net.core.rmem_max and net.core.wmem_max to 4194304"
                    );
                }
                sockets
            }
            Some((address, Err(error))) => {
                tracing::warn!(%address, %error, "cannot listen for QUIC: peers reach this gateway over TCP only");
                Vec::new()
            }
            None => Vec::new(),
        };
        Ok(Self { transport, server, sockets })
    }

    fn listen(&self, core: usize) -> io::Result<Option<Endpoint>> {
        let Some(socket) = self.sockets.get(core) else { return Ok(None) };
        let mut config = EndpointConfig::default();
        let cores = self.sockets.len();
        config.cid_generator(move || Box::new(CoreIds::new(core, cores)));
        Endpoint::new(config, Some(self.server.clone()), socket.try_clone()?, Arc::new(TokioRuntime)).map(Some)
    }
}

fn no_suite(_: NoInitialCipherSuite) -> rustls::Error {
    rustls::Error::General("QUIC needs TLS_AES_128_GCM_SHA256".into())
}

/// The endpoints that a core dials from, by whether they are of IPv6: made when first needed, each on a port of its own.
#[derive(Default)]
pub(crate) struct Diallers(RefCell<BTreeMap<bool, Endpoint>>);

impl Diallers {
    fn endpoint(&self, peer: SocketAddr) -> io::Result<Endpoint> {
        let mut endpoints = self.0.borrow_mut();
        if let Some(endpoint) = endpoints.get(&peer.is_ipv6()) {
            return Ok(endpoint.clone());
        }
        let socket = udp::bind_any(peer)?;
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))?;
        endpoints.insert(peer.is_ipv6(), endpoint.clone());
        Ok(endpoint)
    }
}

/// Takes the connections that the kernel gives this core, until the gateway drains.
pub(crate) fn serve(core: &Rc<Core>) {
    match core.common.quic.listen(core.id) {
        Ok(None) => {}
        Ok(Some(endpoint)) => {
            let core_ = core.clone();
            core.tasks.spawn_local(async move { accept_all(&core_, &endpoint).await });
        }
        Err(error) => tracing::warn!(core = core.id, %error, "cannot serve QUIC on a core"),
    }
}

async fn accept_all(core: &Rc<Core>, endpoint: &Endpoint) {
    loop {
        let incoming = tokio::select! {
            biased;
            () = core.common.draining.cancelled() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        if let Some((incoming, permit)) = admit(&core.common, incoming) {
            accept(core, incoming, permit);
        }
    }
    endpoint.set_server_config(None);
}

/// Lets a handshake begin, within the bound that TCP's count towards, too. When half of it is in use, who comes has to show first
/// that its address is its own.
fn admit(common: &Common, incoming: Incoming) -> Option<(Incoming, OwnedSemaphorePermit)> {
    let Ok(permit) = common.handshakes.clone().try_acquire_owned() else {
        common.metrics.control().refused(Bound::Handshakes);
        incoming.refuse();
        return None;
    };
    let busy = common.handshakes.available_permits() < common.config.limits.handshakes.div_ceil(2);
    if busy && !incoming.remote_address_validated() && incoming.may_retry() {
        // It cannot fail: it may be retried.
        let _ = incoming.retry();
        return None;
    }
    Some((incoming, permit))
}

fn accept(core: &Rc<Core>, incoming: Incoming, permit: OwnedSemaphorePermit) {
    let core_ = core.clone();
    let from = incoming.remote_address();
    core.tasks.spawn_local(async move {
        let core = core_;
        let tunnel = setup::within(&core, async { start(&core, incoming.await?, Direction::Accepted) }).await;
        drop(permit);
        setup::live_accepted(&core, tunnel, from).await;
    });
}

/// Dials a peer: a tunnel that takes streams.
pub(super) async fn dial(
    core: &Rc<Core>,
    cluster: &ClusterName,
    address: SocketAddr,
) -> Result<(Running, Rc<PeerIdentity>), SetupError> {
    setup::within(core, async {
        let endpoint = core.diallers.endpoint(address).map_err(SetupError::Connect)?;
        let crypto = core.common.tls.client(cluster, TransportChoice::Quic)?;
        let crypto = QuicClientConfig::try_from(crypto).map_err(no_suite)?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        let id = core.id;
        config.transport_config(core.common.quic.transport.clone());
        config.initial_dst_cid_provider(Arc::new(move || steer::first_id(id)));
        let name = tls::server_name(&core.common.identity, cluster)?;
        let dialling = endpoint.connect_with(config, address, &name.to_str());
        let connection = dialling.map_err(|error| SetupError::Connect(io::Error::other(error)))?.await?;
        let running = start(core, connection, Direction::Dialled)?;
        core.counters.handshake(Direction::Dialled);
        Ok(running)
    })
    .await
}

fn start(
    core: &Rc<Core>,
    connection: quinn::Connection,
    direction: Direction,
) -> Result<(Running, Rc<PeerIdentity>), SetupError> {
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let chain = chain.map(|chain| *chain).unwrap_or_default();
    setup::start_quic(core, connection, chain, direction, SystemTime::now())
}

/// Which refusal of a handshake an error is; `None` where it never came to one.
pub(super) fn refusal(error: &ConnectionError) -> Option<HandshakeRefusal> {
    match error {
        ConnectionError::TransportError(error) => Some(said(error.code, &error.reason)),
        // The peer's words are its own: which of its rules we broke is in its log.
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => None,
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::crypto(NO_PROTOCOL) => {
            Some(HandshakeRefusal::Alpn)
        }
        ConnectionError::ConnectionClosed(_) | ConnectionError::ApplicationClosed(_) => Some(HandshakeRefusal::ByPeer),
        ConnectionError::TimedOut => Some(HandshakeRefusal::Timeout),
        ConnectionError::VersionMismatch => Some(HandshakeRefusal::TlsVersion),
        _ => Some(HandshakeRefusal::Other),
    }
}

/// TLS's alert `no_application_protocol`.
const NO_PROTOCOL: u8 = 120;
/// TLS's alert `certificate_required`.
const NO_CERTIFICATE: u8 = 116;

/// What our own side had against a peer. quinn keeps the text of rustls' error only, and our verifier's refusal is in that.
fn said(code: TransportErrorCode, reason: &str) -> HandshakeRefusal {
    let ours = |word: &&HandshakeRefusal| reason.contains(&format!("reason: {word:?},"));
    if code == TransportErrorCode::crypto(NO_PROTOCOL) {
        HandshakeRefusal::Alpn
    } else if code == TransportErrorCode::crypto(NO_CERTIFICATE) || reason.contains("sent no certificates") {
        HandshakeRefusal::NoCertificate
    } else if let Some(word) = HandshakeRefusal::ALL.iter().find(ours) {
        *word
    } else if (0x100..0x200).contains(&u64::from(code)) {
        HandshakeRefusal::Other
    } else {
        HandshakeRefusal::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_verifier_said_is_found_in_quinns_error() {
        for refusal in [HandshakeRefusal::NotLinked, HandshakeRefusal::WrongTrustDomain, HandshakeRefusal::Expired] {
            let refused = isthmus_certs::RefusedHandshake { reason: refusal, detail: "found a, expected b".into() };
            let text = rustls::Error::from(refused).to_string();
            assert_eq!(said(TransportErrorCode::crypto(46), &text), refusal, "{text}");
        }
        assert_eq!(said(TransportErrorCode::PROTOCOL_VIOLATION, ""), HandshakeRefusal::Malformed);
        assert_eq!(said(TransportErrorCode::crypto(NO_PROTOCOL), ""), HandshakeRefusal::Alpn);
    }
}

//! QUIC's way to a live tunnel: each core's endpoints, dialling and accepting.

use super::{
    connect::Dial,
    punch::Turns,
    setup::{self, Running, SetupError},
};
use crate::{
    app::Config,
    core::Core,
    metrics::reasons::Bound,
    socket::udp,
    tunnel::{
        Direction, PeerIdentity,
        quic::{
            endpoint,
            steer::{self, CoreIds},
        },
    },
};
use dialler::Diallers;
use isthmus_certs::tls;
use isthmus_control_api::{ClusterName, TransportChoice};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};
use rustls::pki_types::CertificateDer;
use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, UdpSocket},
    rc::Rc,
    sync::{Arc, OnceLock},
    time::SystemTime,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

mod dialler;
mod expect;
mod refusal;

pub(super) use expect::expect;
pub(super) use refusal::refusal;

/// What all cores' endpoints have in common.
pub(crate) struct QuicCommon {
    transport: Arc<TransportConfig>,
    server: ServerConfig,
    listen: Option<SocketAddr>,
    cores: usize,
    /// Handshakes that a core may have under way. Whoever dials chooses the core: one alone must not get to do all of them.
    handshakes: usize,
    /// A socket for each core, on the tunnel port; none as long as UDP cannot be had. They stay open to the end.
    sockets: OnceLock<Vec<UdpSocket>>,
}

impl QuicCommon {
    /// Opens the tunnel port. Without it peers reach us over TCP, so that is no reason not to start.
    pub(crate) fn new(config: &Config, server: Arc<rustls::ServerConfig>) -> Result<Self, rustls::Error> {
        let transport = endpoint::transport_config();
        let crypto = QuicServerConfig::try_from(server).map_err(no_suite)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        let handshakes = config.limits.handshakes.div_ceil(config.cores.max(1));
        endpoint::bound_handshakes(&mut server, handshakes);
        server.transport_config(transport.clone());
        let (listen, cores) = (config.tunnel_listen, config.cores);
        let common = Self { transport, server, listen, cores, handshakes, sockets: OnceLock::new() };
        if let Some((address, error)) = common.bind() {
            tracing::warn!(
                %address, %error,
                "cannot listen for QUIC: peers reach this gateway over TCP only; it is tried again"
            );
        }
        Ok(common)
    }

    /// Opens the tunnel port, if that is wanted and not done. One thread at a time may.
    fn bind(&self) -> Option<(SocketAddr, io::Error)> {
        let address = self.listen.filter(|_| self.sockets.get().is_none())?;
        let sockets = match udp::bind_cores(address, self.cores) {
            Ok(sockets) => sockets,
            Err(error) => return Some((address, error)),
        };
        if !sockets.iter().all(udp::has_room) {
            tracing::info!(
                %address,
                "small UDP buffers: fat paths will lose datagrams; raise net.core.rmem_max and net.core.wmem_max to 4194304"
            );
        }
        // Nobody else has set it.
        let _ = self.sockets.set(sockets);
        None
    }

    fn listen(&self, core: usize) -> io::Result<Option<Endpoint>> {
        let Some(socket) = self.sockets.get().and_then(|sockets| sockets.get(core)) else { return Ok(None) };
        let mut config = EndpointConfig::default();
        let cores = self.cores;
        config.cid_generator(move || Box::new(CoreIds::new(core, cores)));
        Endpoint::new(config, Some(self.server.clone()), socket.try_clone()?, Arc::new(TokioRuntime)).map(Some)
    }
}

fn no_suite(_: NoInitialCipherSuite) -> rustls::Error {
    rustls::Error::General("QUIC needs TLS_AES_128_GCM_SHA256".into())
}

/// One core's endpoints.
pub(crate) struct Endpoints {
    diallers: Diallers,
    /// When clusters may have us try for a direct path.
    pub(super) punching: Rc<Turns>,
    /// What takes connections.
    serving: RefCell<Option<Endpoint>>,
    /// Handshakes of those who dial this core; see [`QuicCommon`].
    handshakes: Arc<Semaphore>,
}

impl Endpoints {
    /// None yet.
    pub(crate) fn new(common: &QuicCommon) -> Self {
        let handshakes = Arc::new(Semaphore::new(common.handshakes));
        let (diallers, punching) = (Diallers::default(), Rc::default());
        Self { diallers, punching, serving: RefCell::default(), handshakes }
    }
}

/// Sees to it that this core takes the connections that the kernel gives it, until the gateway drains. At the start, and then every
/// second: the port may have been taken, by a gateway that drained for example, or an endpoint may have failed.
pub(crate) fn serve(core: &Rc<Core>) {
    if core.quic.serving.borrow().is_some() {
        return;
    }
    if core.id == 0
        && let Some((address, error)) = core.common.quic.bind()
    {
        tracing::debug!(%address, %error, "still cannot listen for QUIC");
    }
    match core.common.quic.listen(core.id) {
        Ok(None) => {}
        Ok(Some(endpoint)) => {
            core.quic.serving.replace(Some(endpoint.clone()));
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
        let Some(incoming) = incoming else {
            tracing::warn!(core = core.id, "the socket that serves QUIC on a core has failed: it is tried again");
            core.quic.serving.take();
            return;
        };
        if let Some((incoming, permits)) = admit(core, incoming) {
            accept(core, incoming, permits);
        }
    }
    endpoint.set_server_config(None);
}

/// The right to have a handshake under way: of the core's, and of all.
type Permits = [OwnedSemaphorePermit; 2];

/// Lets a handshake begin, within the core's bound and the one that TCP's count towards, too. When half of either is in use, who
/// comes has to show first that its address is its own.
fn admit(core: &Core, incoming: Incoming) -> Option<(Incoming, Permits)> {
    let bounds = [
        (&core.quic.handshakes, core.common.quic.handshakes),
        (&core.common.handshakes, core.common.config.limits.handshakes),
    ];
    let permit = |bound: &Arc<Semaphore>| bound.clone().try_acquire_owned().ok();
    let [Some(ours), Some(all)] = bounds.map(|(bound, _)| permit(bound)) else {
        core.counters.refused(Bound::Handshakes);
        incoming.refuse();
        return None;
    };
    let busy = bounds.iter().any(|(bound, limit)| bound.available_permits() < limit.div_ceil(2));
    if busy && !incoming.remote_address_validated() && incoming.may_retry() {
        // It cannot fail: it may be retried.
        let _ = incoming.retry();
        return None;
    }
    Some((incoming, [ours, all]))
}

fn accept(core: &Rc<Core>, incoming: Incoming, permits: Permits) {
    let core_ = core.clone();
    let from = incoming.remote_address();
    core.tasks.spawn_local(async move {
        let core = core_;
        let tunnel = setup::within(&core, async { start(&core, incoming.await?, Direction::Accepted) }).await;
        drop(permits);
        setup::live_accepted(&core, tunnel, from).await;
    });
}

/// Dials a peer: a tunnel that takes streams.
pub(super) async fn dial(
    core: &Rc<Core>,
    cluster: &ClusterName,
    dial: &Dial,
) -> Result<(Running, Rc<PeerIdentity>), SetupError> {
    setup::within(core, async {
        let crypto = core.common.tls.client(cluster, TransportChoice::Quic)?;
        let crypto = QuicClientConfig::try_from(crypto).map_err(no_suite)?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        let id = core.id;
        config.transport_config(core.common.quic.transport.clone());
        config.initial_dst_cid_provider(Arc::new(move || steer::first_id(id)));
        let name = tls::server_name(&core.common.identity, cluster)?;
        let diallers = &core.quic.diallers;
        let dialling = match dial.anew {
            true => dialler::connect_anew(&config, dial.address, &name.to_str()),
            false => diallers.connect(&config, dial.address, &name.to_str()),
        };
        let connection = dialling.map_err(SetupError::Connect)?.await?;
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

#[cfg(test)]
mod tests;

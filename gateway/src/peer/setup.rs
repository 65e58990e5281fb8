//! From a TCP connection to a live tunnel: the handshake, who the peer is, which protocol, and the tunnel's life.

use super::{
    Known,
    bound::Place,
    join::{self, First, IncomingJoin},
    relayed::{self, Leave, Via},
};
use crate::{
    core::{Core, said::Line},
    metrics::reasons::Bound,
    stream::{Incoming, Observed},
    tunnel::{
        Direction, Ingress, PeerIdentity, Tunnel, TunnelHealth,
        driver::{MuxTunnel, TunnelEnd},
        h2,
        quic::QuicTunnel,
        tls::{Handshaken, handshake, stream::TlsStream},
    },
};
use isthmus_certs::{HandshakeRefusal, verify};
use isthmus_control_api::ClusterName;
use rustls::pki_types::CertificateDer;
use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Instant, SystemTime},
};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::OwnedSemaphorePermit,
};

mod config;
mod error;

pub(crate) use config::TlsConfigs;
pub(crate) use error::SetupError;

/// Our own protocol's name (ALPN).
pub(crate) const ISTHMUS: &[u8] = b"isthmus/1";
/// HTTP/2's name (ALPN, RFC 9113 section 3.1).
pub(crate) const H2: &[u8] = b"h2";

/// Shakes hands with a peer that has dialled, and runs the tunnel.
pub(crate) fn accept(core: &Rc<Core>, socket: std::net::TcpStream, from: SocketAddr, permit: OwnedSemaphorePermit) {
    let core_ = core.clone();
    core.tasks.spawn_local(async move {
        let core = core_;
        match within(&core, accepted(&core, socket)).await {
            Ok(Accepted::Join(socket, received)) => {
                let join = IncomingJoin { socket, received, from, permit };
                if core.common.joins.0.try_send(join).is_err() {
                    core.counters.refused(Bound::Joins);
                }
            }
            Ok(Accepted::Tunnel(tunnel, peer)) => {
                drop(permit);
                live_accepted(&core, Ok((tunnel, peer)), from).await;
            }
            Err(error) => {
                drop(permit);
                live_accepted(&core, Err(error), from).await;
            }
        }
    });
}

/// Runs a tunnel that a peer has dialled, or says why there is none.
pub(super) async fn live_accepted(
    core: &Rc<Core>,
    tunnel: Result<(Running, Rc<PeerIdentity>), SetupError>,
    from: impl std::fmt::Display,
) {
    match tunnel {
        Ok((mut tunnel, peer)) => {
            core.counters.handshake(Direction::Accepted);
            let accepted = &core.common.accepted;
            tunnel.place = accepted.enter(&peer.cluster);
            if tunnel.place.is_none() {
                too_many(core, &peer.cluster, from);
                return;
            }
            tunnel.live(core, &peer).await;
        }
        Err(error) => {
            let reason = count(core, &error);
            tracing::warn!(%from, reason = reason.as_str(), %error, "refused a peer");
        }
    }
}

/// A peer has dialled more tunnels than it may have.
fn too_many(core: &Core, cluster: &ClusterName, from: impl std::fmt::Display) {
    core.counters.refused(Bound::TunnelsPerPeer);
    if core.may_say(Line::TooManyTunnels(cluster.clone()), Instant::now()) {
        let limit = core.common.accepted.limit();
        tracing::warn!(%from, %cluster, limit, "a peer has dialled too many tunnels");
    }
}

/// Somebody who has dialled was refused: why, for the log.
pub(super) fn count(core: &Core, error: &SetupError) -> HandshakeRefusal {
    let reason = error.refusal().unwrap_or(HandshakeRefusal::Other);
    core.counters.handshake_refused(reason);
    reason
}

/// Whom a connection to the tunnel port is of.
enum Accepted {
    /// A peer.
    Tunnel(Running, Rc<PeerIdentity>),
    /// Somebody who wants to join, and what came already.
    Join(std::net::TcpStream, Vec<u8>),
}

async fn accepted(core: &Rc<Core>, socket: std::net::TcpStream) -> Result<Accepted, SetupError> {
    let mut socket = TcpStream::from_std(socket)?;
    crate::socket::tune_tunnel(&socket, None)?;
    let received = match join::first(&mut socket).await? {
        First::Join(received) => return Ok(Accepted::Join(socket.into_std()?, received)),
        First::Other(received) => received,
    };
    let handshaken = handshake::accept_begun(core.common.tls.server(), socket, received).await?;
    let (tunnel, peer) = start(core, handshaken, Direction::Accepted).await?;
    Ok(Accepted::Tunnel(tunnel, peer))
}

pub(super) async fn within<T>(
    core: &Core,
    setup: impl Future<Output = Result<T, SetupError>>,
) -> Result<T, SetupError> {
    let limit = core.common.config.handshake_timeout;
    tokio::time::timeout(limit, setup).await.unwrap_or(Err(SetupError::Timeout(limit)))
}

/// A tunnel with its driver, of whichever transport.
pub(super) struct Running {
    pub(super) tunnel: Rc<dyn Tunnel>,
    /// Where it was dialled; `None` where the peer has dialled.
    pub(super) address: Option<SocketAddr>,
    /// Whether it was dialled over QUIC from the port that this core dials from, so that its peer sees where that is.
    pub(super) common_port: bool,
    trust: Trust,
    /// Where its bytes go, if a relay carries them.
    via: Option<Via>,
    /// Its place among those that peers have dialled, if it is one.
    pub(super) place: Option<Place>,
    driver: std::pin::Pin<Box<dyn Future<Output = TunnelEnd>>>,
}

pub(super) async fn start(
    core: &Rc<Core>,
    handshaken: Handshaken,
    direction: Direction,
) -> Result<(Running, Rc<PeerIdentity>), SetupError> {
    let peer = identify(&handshaken.certificates)?;
    let ingress: Rc<dyn Ingress> = Rc::new(Incoming { core: Rc::downgrade(core), relay: None, observed: None });
    let trust = Trust { chain: handshaken.certificates.clone(), since: SystemTime::now() };
    let running = match &handshaken.alpn[..] {
        ISTHMUS => {
            let config = &core.common.config.mux;
            let (tunnel, driver) = MuxTunnel::start(handshaken, direction, peer.clone(), ingress, config)?;
            Running {
                tunnel: Rc::new(tunnel),
                address: None,
                common_port: false,
                trust,
                via: None,
                place: None,
                driver: Box::pin(driver.run()),
            }
        }
        H2 => {
            let (io, config) = (TlsStream::new(handshaken), &core.common.config.mux);
            let (tunnel, driver) = match direction {
                Direction::Dialled => h2::connect(io, peer.clone(), config).await?,
                Direction::Accepted => h2::accept(io, peer.clone(), ingress, config).await?,
            };
            Running {
                tunnel,
                address: None,
                common_port: false,
                trust,
                via: None,
                place: None,
                driver: Box::pin(driver.run()),
            }
        }
        _ => return Err(SetupError::Protocol),
    };
    Ok((running, peer))
}

/// Who the peer is, as its certificates say, which the handshake has verified.
fn identify(chain: &[CertificateDer<'static>]) -> Result<Rc<PeerIdentity>, SetupError> {
    let (cluster, id) = isthmus_certs::peer_identity(Some(chain)).map_err(|e| SetupError::Identity(e.to_string()))?;
    Ok(Rc::new(PeerIdentity { cluster, id, gateway: Default::default() }))
}

/// The same inside a relay's stream, where only our own protocol is spoken.
pub(super) fn start_relayed(
    core: &Rc<Core>,
    handshaken: Handshaken<UnixStream>,
    direction: Direction,
    via: Via,
) -> Result<(Running, Rc<PeerIdentity>), SetupError> {
    if handshaken.alpn != ISTHMUS {
        return Err(SetupError::Protocol);
    }
    let peer = identify(&handshaken.certificates)?;
    let ingress: Rc<dyn Ingress> =
        Rc::new(Incoming { core: Rc::downgrade(core), relay: Some(via.relay.clone()), observed: None });
    let trust = Trust { chain: handshaken.certificates.clone(), since: SystemTime::now() };
    let config = &core.common.config.mux;
    let (tunnel, driver) = MuxTunnel::start(handshaken, direction, peer.clone(), ingress, config)?;
    let (tunnel, driver) = (Rc::new(tunnel), Box::pin(driver.run()));
    Ok((Running { tunnel, address: None, common_port: false, trust, via: Some(via), place: None, driver }, peer))
}

/// The same over QUIC.
pub(super) fn start_quic(
    core: &Rc<Core>,
    connection: quinn::Connection,
    chain: Vec<CertificateDer<'static>>,
    direction: Direction,
    since: SystemTime,
) -> Result<(Running, Rc<PeerIdentity>), SetupError> {
    let peer = identify(&chain)?;
    let path = connection.clone();
    let observed: Observed = Box::new(move || path.remote_address());
    let ingress: Rc<dyn Ingress> =
        Rc::new(Incoming { core: Rc::downgrade(core), relay: None, observed: Some(observed) });
    let config = &core.common.config.mux;
    let (tunnel, driver) = QuicTunnel::start(connection, direction, peer.clone(), ingress, config);
    let (tunnel, driver) = (Rc::new(tunnel), Box::pin(driver.run()));
    Ok((
        Running {
            tunnel,
            address: None,
            common_port: false,
            trust: Trust { chain, since },
            via: None,
            place: None,
            driver,
        },
        peer,
    ))
}

/// Why the peer is trusted, to be asked again when bundles change.
struct Trust {
    /// Its certificates, leaf first.
    chain: Vec<CertificateDer<'static>>,
    /// When they were verified: a tunnel outlives its SVID, but not its trust.
    since: SystemTime,
}

impl Trust {
    fn expiry(&self) -> Option<SystemTime> {
        self.chain.first().and_then(isthmus_certs::x509::not_after)
    }

    fn check(&self, core: &Core, peer: &PeerIdentity) -> Result<(), isthmus_certs::RefusedHandshake> {
        // Whoever dialled: the tunnel belongs to this cluster. Links that are gone are closed elsewhere.
        let expected = verify::Expected::Server(peer.cluster.clone());
        let identity = core.common.identity.current();
        verify::check(&identity, &expected, &self.chain, self.since).map(drop)
    }
}

impl Running {
    /// Runs the tunnel to its end, known to the core's streams as long as it lives; why it ended.
    pub(super) async fn live(self, core: &Rc<Core>, peer: &PeerIdentity) -> String {
        let Self { tunnel, address, common_port, trust, via, mut place, mut driver } = self;
        let (mut health, mut identity) = (tunnel.watch(), core.common.identity.subscribe());
        let relay = via.as_ref().map(|via| via.relay.clone());
        let known = Known { tunnel: tunnel.clone(), address, common_port, expiry: trust.expiry(), via: relay };
        core.peers.add(&peer.cluster, known);
        core.peers.publish(&peer.cluster, core.id, &core.common.board);
        // Some are live as they come: HTTP/2 has no HELLO.
        core.changed.notify_waiters();
        // What changed while the tunnel was being set up was told to those that were there then.
        if !core.table.borrow().links.contains_key(&peer.cluster) || trust.check(core, peer).is_err() {
            tunnel.close();
        } else if core.common.draining.is_cancelled() {
            tunnel.drain();
        }
        let mut hello = std::pin::pin!(tokio::time::sleep(core.common.config.handshake_timeout));
        let mut leaving = std::pin::pin!(relayed::leaving(core, &peer.cluster, via.as_ref()));
        let (mut left, mut settled) = (false, false);
        let end = loop {
            if let Some(place) = place.as_ref().filter(|_| !settled && tunnel.health() == TunnelHealth::Live) {
                settled = true;
                place.settle(tunnel.gateway());
            }
            tokio::select! {
                biased;
                end = &mut driver => break end,
                leave = &mut leaving, if !left => {
                    left = true;
                    match leave {
                        Leave::Drain => tunnel.drain(),
                        Leave::Close => tunnel.close(),
                    }
                }
                Ok(()) = health.changed() => {
                    let state = *health.borrow_and_update();
                    core.peers.publish(&peer.cluster, core.id, &core.common.board);
                    core.changed.notify_waiters();
                    tracing::info!(cluster = %peer.cluster, state = state.as_str(), "tunnel");
                }
                share = told(&mut place) => {
                    too_many(core, &peer.cluster, tunnel.gateway());
                    tunnel.decline(u32::try_from(share).unwrap_or(u32::MAX));
                }
                () = &mut hello, if tunnel.health() == TunnelHealth::Starting => tunnel.close(),
                Ok(()) = identity.changed() => {
                    if let Err(refused) = trust.check(core, peer) {
                        tracing::warn!(cluster = %peer.cluster, %refused, "the peer is not trusted any more");
                        tunnel.close();
                    }
                }
            }
        };
        core.peers.remove(&peer.cluster, &tunnel);
        core.peers.publish(&peer.cluster, core.id, &core.common.board);
        core.changed.notify_waiters();
        let why = end.to_string();
        if end.is_break() {
            core.peers.broke(&peer.cluster, &why, Instant::now());
        }
        tracing::info!(cluster = %peer.cluster, end = why, "tunnel ended");
        why
    }
}

/// Waits until the tunnel is told to give its place to another gateway's, once: how many its own may have.
async fn told(place: &mut Option<Place>) -> usize {
    match place {
        Some(place) => place.told().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

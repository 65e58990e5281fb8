//! From a TCP connection to a live tunnel: the handshake, who the peer is, which protocol, and the tunnel's life.

use super::{
    join::{self, First, IncomingJoin},
    relayed::Via,
};
use crate::{
    core::{Core, said::Line},
    metrics::reasons::Bound,
    stream::{Incoming, Observed},
    tunnel::{
        Direction, Ingress, PeerIdentity,
        driver::MuxTunnel,
        h2,
        quic::QuicTunnel,
        tls::{Handshaken, handshake, stream::TlsStream},
    },
};
use isthmus_certs::HandshakeRefusal;
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
mod running;

pub(crate) use config::TlsConfigs;
pub(crate) use error::SetupError;
pub(super) use running::Running;
use running::Trust;

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

#[cfg(test)]
mod tests;

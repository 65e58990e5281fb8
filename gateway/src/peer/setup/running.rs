//! A tunnel's life, from the end of its handshake on.

use super::too_many;
use crate::{
    core::Core,
    peer::{
        Known,
        bound::Place,
        relayed::{self, Leave, Via},
    },
    tunnel::{PeerIdentity, Tunnel, TunnelHealth, driver::TunnelEnd},
};
use isthmus_certs::verify;
use rustls::pki_types::CertificateDer;
use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Instant, SystemTime},
};

/// A tunnel with its driver, of whichever transport.
pub(in crate::peer) struct Running {
    pub(in crate::peer) tunnel: Rc<dyn Tunnel>,
    /// Where it was dialled; `None` where the peer has dialled.
    pub(in crate::peer) address: Option<SocketAddr>,
    /// Whether it was dialled over QUIC from the port that this core dials from, so that its peer sees where that is.
    pub(in crate::peer) common_port: bool,
    pub(super) trust: Trust,
    /// Where its bytes go, if a relay carries them.
    pub(super) via: Option<Via>,
    /// Its place among those that peers have dialled, if it is one.
    pub(in crate::peer) place: Option<Place>,
    pub(super) driver: std::pin::Pin<Box<dyn Future<Output = TunnelEnd>>>,
}

/// Why the peer is trusted, to be asked again when bundles change.
pub(super) struct Trust {
    /// Its certificates, leaf first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// When they were verified: a tunnel outlives its SVID, but not its trust.
    pub(super) since: SystemTime,
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
    pub(in crate::peer) async fn live(self, core: &Rc<Core>, peer: &PeerIdentity) -> String {
        let Self { tunnel, address, common_port, trust, via, mut place, mut driver } = self;
        let (mut health, mut identity) = (tunnel.watch(), core.common.identity.subscribe());
        let relay = via.as_ref().map(|via| via.relay.clone());
        let expiry = trust.expiry();
        let known = Known { tunnel: tunnel.clone(), address, common_port, expiry, via: relay, left: false };
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

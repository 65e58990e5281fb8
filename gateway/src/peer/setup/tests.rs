//! What changes while a tunnel is being set up.

use super::*;
use crate::{
    core::tests::East,
    tunnel::{
        Tunnel as _, TunnelHealth,
        driver::TunnelEnd,
        driver::tests::pair::{self, End, on_a_core, until},
        tls::tests::{connection, identity},
    },
};
use isthmus_control_api::{GatewayId, Table};
use std::time::Duration;

/// A tunnel that is set up at east and not known to its core yet, and west's end of the connection.
async fn set_up(east: &East) -> (Running, Rc<PeerIdentity>, Handshaken) {
    let (dialler, acceptor) = connection().await;
    let accepted = accepted(&east.core, acceptor.into_std().unwrap());
    let (accepted, dialled) = tokio::join!(accepted, east.handshake(dialler));
    let Accepted::Tunnel(running, peer) = accepted.unwrap() else { panic!("nobody wants to join") };
    (running, peer, dialled)
}

fn west(dialled: Handshaken) -> End {
    pair::start(dialled, Direction::Dialled, "east")
}

const CLOSED: &str = "closed by this gateway";

#[test]
fn a_tunnel_whose_link_is_removed_meanwhile_is_closed() {
    on_a_core(async {
        let east = East::new();
        let (running, peer, dialled) = set_up(&east).await;
        let west = west(dialled);
        east.apply(Table::default());
        assert_eq!(running.live(&east.core, &peer).await, CLOSED);
        assert!(matches!(west.end.await.unwrap(), TunnelEnd::PeerClosed));
        assert!(east.core.peers.report().is_empty());
    });
}

#[test]
fn a_tunnel_whose_peer_loses_its_trust_meanwhile_is_closed() {
    on_a_core(async {
        let east = East::new();
        let (running, peer, dialled) = set_up(&east).await;
        let west = west(dialled);
        east.core.common.identity.replace(identity(&east.east, &[]));
        assert_eq!(running.live(&east.core, &peer).await, CLOSED);
        assert!(matches!(west.end.await.unwrap(), TunnelEnd::PeerClosed));
    });
}

#[test]
fn a_tunnel_that_comes_up_while_the_gateway_drains_is_drained() {
    on_a_core(async {
        let east = East::new();
        let (running, peer, dialled) = set_up(&east).await;
        let west = west(dialled);
        east.core.common.draining.cancel();
        east.core.peers.drain();
        // Whoever is done first closes.
        let end = running.live(&east.core, &peer).await;
        assert!(["drained", "closed by the peer"].contains(&&*end), "{end}");
        let end = west.end.await.unwrap();
        assert!(matches!(end, TunnelEnd::Drained | TunnelEnd::PeerClosed), "{end}");
    });
}

#[test]
fn an_open_tunnel_ends_with_its_link_and_with_its_peers_bundle() {
    on_a_core(async {
        for by_link in [true, false] {
            let east = East::new();
            let west = east.peer(pair::SETTINGS).await;
            if by_link {
                east.apply(Table::default());
            } else {
                east.core.common.identity.replace(identity(&east.east, &[]));
            }
            assert!(matches!(west.end.await.unwrap(), TunnelEnd::PeerClosed));
        }
    });
}

#[test]
fn a_peer_that_shakes_hands_and_says_no_hello_is_left_at_the_time_limit() {
    on_a_core(async {
        let east = East::with(|config| config.handshake_timeout = Duration::from_millis(50));
        let (running, peer, _silent) = set_up(&east).await;
        assert_eq!(running.live(&east.core, &peer).await, CLOSED);
        assert!(east.core.peers.report().is_empty());
    });
}

#[test]
fn a_gateway_that_has_its_share_of_the_peers_tunnels_is_told_so_and_another_one_gets_one() {
    on_a_core(async {
        for own in [GatewayId::UNKNOWN, GatewayId(1)] {
            let east = East::new();
            let accepted = &east.core.common.accepted;
            let cluster = "west".parse().unwrap();
            let places: Vec<_> = (0..accepted.limit()).map(|_| accepted.enter(&cluster).unwrap()).collect();
            places.iter().for_each(|place| place.settle(own));
            // Its gateway is unknown, too, which is one like any other.
            let west = west(east.dialled().await);
            if own.is_known() {
                west.tunnel_is(TunnelHealth::Live).await;
                until(|| east.core.peers.is_live(&cluster)).await;
                assert_eq!(west.tunnel.declined(), None);
            } else {
                west.tunnel_is(TunnelHealth::Closed).await;
                assert_eq!(west.tunnel.declined(), u32::try_from(accepted.limit()).ok());
                assert!(east.counted("isthmus_refusals_total{bound=\"tunnels_per_peer\"} 1"));
            }
        }
    });
}

#[test]
fn a_tunnel_beyond_the_peers_bound_is_closed() {
    on_a_core(async {
        let east = East::new();
        let accepted = &east.core.common.accepted;
        let cluster = "west".parse().unwrap();
        let places: Vec<_> = (0..accepted.most()).map(|_| accepted.enter(&cluster).unwrap()).collect();
        let refused = west(east.dialled().await);
        assert!(matches!(refused.end.await.unwrap(), TunnelEnd::PeerClosed | TunnelEnd::Io(_)));
        assert!(east.counted("isthmus_refusals_total{bound=\"tunnels_per_peer\"} 1"));
        drop(places);
        east.peer(pair::SETTINGS).await;
    });
}

//! Which port a relay is dialled from, and what becomes of a tunnel that the peer declines.

use super::*;
use crate::{
    core::tests::East,
    tunnel::{
        Direction,
        driver::tests::pair::{self, on_a_core, spawn, until},
        tls::{handshake, tests::identity},
    },
};
use isthmus_certs::{AllowedClusters, IdentityStore, tls};

#[test]
fn a_relay_that_cannot_be_dialled_is_dialled_from_either_port_in_turn() {
    let mut anew = false;
    let ports = [true, true, true, false, true].map(|failed| {
        anew = is_anew_in_turn(failed, anew);
        anew
    });
    assert_eq!(ports, [true, false, true, false, true]);
}

#[test]
fn a_slot_whose_tunnel_is_declined_does_without_for_minutes() {
    on_a_core(async {
        let east = East::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Place { address: listener.local_addr().unwrap(), spare: false };
        let state = Rc::new(RefCell::new(State::new(Instant::now())));
        let slot = Slot {
            core: east.core.clone(),
            cluster: "west".parse().unwrap(),
            key: Key { place, transport: TransportChoice::Tls },
            scouts: false,
            state: state.clone(),
            failed: Rc::default(),
        };
        let keeping = spawn(slot.keep());
        let identity = IdentityStore::new(identity(&east.west, &[&east.east]));
        let server = tls::server_config(&identity, AllowedClusters::every_trusted(), &[b"isthmus/1"]).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let west = pair::start(handshake::accept(server, socket).await.unwrap(), Direction::Accepted, "east");
        until(|| matches!(state.borrow().link.state(), link::LinkState::Up { .. })).await;
        let declined = Instant::now();
        west.tunnel.decline(85);
        until(|| state.borrow().declined == Some(85)).await;
        assert!(state.borrow().link.dial_at().is_some_and(|at| at >= declined + DECLINED));
        assert_eq!(state.borrow().link.state().last_error(), None, "nothing is wrong");
        assert!(east.counted("isthmus_tunnel_dial_failures_total{reason=\"declined\"} 1"));
        keeping.abort();
    });
}

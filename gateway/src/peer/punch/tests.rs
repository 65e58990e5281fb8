//! East's core, which west would have try for direct paths.

use super::*;
use crate::{
    core::tests::East,
    peer::relayed::tests::{is_pending, tapped},
    tunnel::{
        OpenRequest,
        driver::tests::pair::{self, SETTINGS, on_a_core, opened, until},
    },
};
use std::pin::pin;

fn west() -> ClusterName {
    "west".parse().unwrap()
}

#[test]
fn a_peer_with_direct_tunnels_has_us_try_for_no_more() {
    on_a_core(async {
        let (hub, west_end, _) = tapped().await;
        let _direct = [hub.east.peer(SETTINGS).await, hub.east.peer(SETTINGS).await];
        until(|| hub.east.core.peers.count_direct(&west()) == MOST).await;
        let request = OpenRequest { service: Reserved::Punch.service(), ..pair::request("west") };
        let refusal = opened(&mut west_end.tunnel.open(&request).unwrap()).await.unwrap_err();
        let message = "east has 2 direct tunnels with west here, and tries for no more".to_owned();
        assert_eq!((refusal.reason, refusal.message), (RefusalReason::Limit, message));
    });
}

#[test]
fn a_peer_at_its_bound_of_tunnels_is_not_dialled() {
    on_a_core(async {
        let east = East::new();
        let accepted = &east.core.common.accepted;
        let _places: Vec<_> = (0..accepted.most()).map(|_| accepted.enter(&west()).unwrap()).collect();
        let refused = dial(&east.core, &west(), "127.0.0.1:9".parse().unwrap()).await;
        assert!(matches!(refused, Err(Failed::Full(limit)) if limit == accepted.limit()), "{refused:?}");
        assert!(east.counted("isthmus_refusals_total{bound=\"tunnels_per_peer\"} 1"));
    });
}

#[test]
fn a_direct_tunnel_that_was_there_is_not_the_one_that_is_waited_for() {
    on_a_core(async {
        let east = East::new();
        let _old = east.peer(SETTINGS).await;
        let (core, west) = (east.core.clone(), west());
        let mut waiting = pin!(wait(&core, &west, "127.0.0.1:9".parse().unwrap()));
        assert!(is_pending(waiting.as_mut()).await);
        let _new = east.peer(SETTINGS).await;
        assert!(waiting.await.is_ok());
    });
}

//! The tunnels that a core has dialled to where it wants none any more: each goes on until others can take its place.

use super::{Peers, Way, choose::Carrier};
use crate::tunnel::{Tunnel, TunnelHealth};
use isthmus_control_api::ClusterName;
use std::{net::SocketAddr, rc::Rc};

/// Tunnels that a core has dialled to one cluster and that drain, if its slots may not
/// leave more behind; of more the oldest are closed. Each holds memory and a connection for
/// as long as its last stream lives, and a name that has other addresses every minute leaves one behind each time.
pub(super) const DRAINING: usize = 16;

/// Those of one link.
#[derive(Default)]
pub(super) struct Leaving(Vec<Rc<dyn Tunnel>>);

impl Leaving {
    /// These are of slots that are not there any more.
    pub(super) fn add(&mut self, tunnels: impl IntoIterator<Item = Rc<dyn Tunnel>>) {
        self.0.extend(tunnels);
    }

    /// Says goodbye on them once there is another one; also on those of no slot: one that was left for a new one and came back to
    /// life, and one whose slot went before the peer's HELLO came.
    pub(super) fn leave(
        &mut self,
        peers: &Peers,
        cluster: &ClusterName,
        is_wanted: impl Fn(SocketAddr, Carrier) -> bool,
    ) {
        for tunnel in peers.dialled_in_vain(cluster, is_wanted) {
            if !self.0.iter().any(|known| Rc::ptr_eq(known, &tunnel)) {
                self.0.push(tunnel);
            }
        }
        peers.mark_left(cluster, &self.0);
        if !self.0.is_empty() && peers.has_others(cluster, &self.0) {
            self.0.drain(..).for_each(|tunnel| tunnel.drain());
        }
    }
}

impl Peers {
    /// A slot that dials to where one of these leads has not dialled in vain: they wait for what it brings.
    fn mark_left(&self, cluster: &ClusterName, left: &[Rc<dyn Tunnel>]) {
        for known in self.tunnels.borrow_mut().get_mut(cluster).into_iter().flatten() {
            known.left |= left.iter().any(|tunnel| Rc::ptr_eq(tunnel, &known.tunnel));
        }
    }

    /// Closes the oldest of the tunnels that this core has dialled and that drain, if they are more than `most`: how many.
    pub(super) fn bound_draining(&self, cluster: &ClusterName, most: usize) -> usize {
        let tunnels = self.tunnels.borrow();
        // They stand in the order in which they came.
        let dialled = tunnels.get(cluster).into_iter().flatten().filter(|known| known.address.is_some());
        let draining: Vec<_> = dialled.filter(|known| known.tunnel.health() == TunnelHealth::Draining).collect();
        let beyond = draining.len().saturating_sub(most);
        draining[..beyond].iter().for_each(|known| known.tunnel.close());
        beyond
    }

    /// The direct tunnels that this core has dialled to where it wants none, and that nobody has said goodbye on.
    fn dialled_in_vain(
        &self,
        cluster: &ClusterName,
        is_wanted: impl Fn(SocketAddr, Carrier) -> bool,
    ) -> Vec<Rc<dyn Tunnel>> {
        let tunnels = self.tunnels.borrow();
        let dialled = tunnels.get(cluster).into_iter().flatten().filter(|known| known.way() == Way::Direct);
        let unwanted = dialled.filter(|known| {
            // Those that met the peer's half way have no address, and are not the slots'.
            known.address.is_some_and(|address| !is_wanted(address, Carrier::of(known.tunnel.transport())))
                && !matches!(known.tunnel.health(), TunnelHealth::Draining | TunnelHealth::Closed)
        });
        unwanted.map(|known| known.tunnel.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::tests::East,
        tunnel::driver::tests::pair::{self, until},
    };

    const OLD: &str = "192.0.2.1:15008";
    const NEW: &str = "192.0.2.2:15008";

    fn west() -> ClusterName {
        "west".parse().unwrap()
    }

    /// As if the core had dialled its last tunnel there; of no slot.
    fn dialled(east: &East, address: &str) -> Rc<dyn Tunnel> {
        let mut tunnels = east.core.peers.tunnels.borrow_mut();
        let known = tunnels.get_mut(&west()).unwrap().last_mut().unwrap();
        known.address = Some(address.parse().unwrap());
        known.tunnel.clone()
    }

    fn leave(east: &East, leaving: &mut Leaving, wanted: &[&str]) {
        let wanted: Vec<SocketAddr> = wanted.iter().map(|address| address.parse().unwrap()).collect();
        leaving
            .leave(&east.core.peers, &west(), |address, carrier| carrier == Carrier::Tcp && wanted.contains(&address));
    }

    async fn tunnel(east: &East, number: usize) -> pair::End {
        let end = east.peer(pair::SETTINGS).await;
        until(|| east.core.peers.live(&west()).len() == number).await;
        end
    }

    #[tokio::test(flavor = "local")]
    async fn a_tunnel_of_no_slot_is_left_when_its_address_goes_and_not_before() {
        let (east, mut leaving) = (East::new(), Leaving::default());
        let _first = tunnel(&east, 1).await;
        let old = dialled(&east, OLD);
        leave(&east, &mut leaving, &[NEW]);
        assert_eq!(old.health(), TunnelHealth::Live, "there is no other");
        let _second = tunnel(&east, 2).await;
        let new = dialled(&east, NEW);
        leave(&east, &mut Leaving::default(), &[OLD, NEW]);
        assert_eq!(old.health(), TunnelHealth::Live, "both are wanted");
        leave(&east, &mut leaving, &[NEW]);
        assert_eq!((old.health(), new.health()), (TunnelHealth::Draining, TunnelHealth::Live));
    }

    /// As when a link is told to use another transport: the slot that dials anew finds the same gateway at the same address.
    #[tokio::test(flavor = "local")]
    async fn a_tunnel_whose_slot_has_gone_makes_room_although_its_address_is_wanted() {
        let (east, mut leaving) = (East::new(), Leaving::default());
        let _first = tunnel(&east, 1).await;
        let old = dialled(&east, OLD);
        let is_left = || east.core.peers.tunnels.borrow()[&west()].iter().map(|known| known.left).collect::<Vec<_>>();
        leave(&east, &mut leaving, &[OLD]);
        assert_eq!(is_left(), [false], "it has a slot");
        leaving.add([old.clone()]);
        leave(&east, &mut leaving, &[OLD]);
        assert_eq!((old.health(), is_left()), (TunnelHealth::Live, vec![true]), "there is no other");
        let _second = tunnel(&east, 2).await;
        let new = dialled(&east, OLD);
        leave(&east, &mut leaving, &[OLD]);
        assert_eq!((old.health(), new.health()), (TunnelHealth::Draining, TunnelHealth::Live));
        assert_eq!(is_left(), [true, false]);
    }

    #[tokio::test(flavor = "local")]
    async fn of_too_many_tunnels_that_drain_the_oldest_is_closed() {
        let east = East::new();
        let (mut ends, mut left) = (Vec::new(), Vec::new());
        for _ in 0..=DRAINING {
            ends.push(tunnel(&east, 1).await);
            let old = dialled(&east, OLD);
            // It drains for as long as this stream lives.
            let Ok(stream) = old.open(&pair::request("east")) else { panic!("it is live") };
            old.drain();
            left.push((old, stream));
            until(|| !east.core.peers.is_live(&west())).await;
        }
        assert_eq!(east.core.peers.bound_draining(&west(), DRAINING), 1);
        until(|| left[0].0.health() == TunnelHealth::Closed).await;
        assert!(left[1..].iter().all(|(tunnel, _)| tunnel.health() == TunnelHealth::Draining));
        until(|| east.core.peers.bound_draining(&west(), DRAINING) == 0).await;
    }

    #[tokio::test(flavor = "local")]
    async fn a_tunnel_that_the_peer_dialled_is_never_left() {
        let east = East::new();
        let _ends = [tunnel(&east, 1).await, tunnel(&east, 2).await];
        leave(&east, &mut Leaving::default(), &[]);
        assert_eq!(east.core.peers.live(&west()).len(), 2);
    }
}

//! The tunnels that a core has dialled to where it wants none any more: each goes on until others can take its place.

use super::{Peers, Way, choose::Carrier};
use crate::tunnel::{Tunnel, TunnelHealth};
use isthmus_control_api::ClusterName;
use std::{net::SocketAddr, rc::Rc};

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
        if !self.0.is_empty() && peers.has_others(cluster, &self.0) {
            self.0.drain(..).for_each(|tunnel| tunnel.drain());
        }
    }
}

impl Peers {
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

    #[tokio::test(flavor = "local")]
    async fn a_tunnel_that_the_peer_dialled_is_never_left() {
        let east = East::new();
        let _ends = [tunnel(&east, 1).await, tunnel(&east, 2).await];
        leave(&east, &mut Leaving::default(), &[]);
        assert_eq!(east.core.peers.live(&west()).len(), 2);
    }
}

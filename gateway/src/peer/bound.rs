//! How many tunnels a peer may have dialled, on all cores together: each holds memory that no budget counts.
//!
//! A cluster's gateways share its bound. Which one has dialled a tunnel is known from its HELLO, so a few more are let in until then;
//! where there are too many, one of the gateway's with the most gives way to one of a gateway that has less than its share. So each
//! has at least one, and a gateway that wanted more is told how many it may have.

use isthmus_control_api::{ClusterName, GatewayId};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// Cores that a peer's gateways may have together, if this one has fewer. What a peer says of itself does not count here.
const CORES: usize = 32;
/// `auto` dials two tunnels from each core, each may be followed by another while it drains, and there may be several gateways.
const EACH: usize = 8;
/// Of so many tunnels one more is let in that has to be looked at, or has been told to go.
const MORE: usize = 8;

/// The tunnels that peers have dialled and that have not ended.
pub(crate) struct AcceptedTunnels {
    limit: usize,
    /// Taken when a tunnel comes, says HELLO or ends, never on a stream's path.
    peers: Mutex<BTreeMap<ClusterName, Peer>>,
}

/// Those of one cluster, in the order in which they came.
#[derive(Default)]
struct Peer {
    next: u64,
    tunnels: BTreeMap<u64, Accepted>,
}

struct Accepted {
    /// Whose it is, once that is known.
    gateway: Option<GatewayId>,
    /// To tell it to go; `None` once that was done.
    stays: Option<oneshot::Sender<usize>>,
}

/// The place of one of them.
pub(crate) struct Place {
    tunnels: Arc<AcceptedTunnels>,
    cluster: ClusterName,
    number: u64,
    /// `None` once it was told to go.
    told: Option<oneshot::Receiver<usize>>,
}

impl AcceptedTunnels {
    /// None yet, at a gateway of `cores` cores.
    pub(crate) fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self { limit: EACH * cores.max(CORES), peers: Mutex::default() })
    }

    /// How many a peer may have.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How many a peer has at the very most: also such as have not said HELLO, or drain because they were told to go.
    pub(crate) fn most(&self) -> usize {
        self.limit + self.limit / MORE
    }

    /// One more, if it can be let in.
    pub(crate) fn enter(self: &Arc<Self>, cluster: &ClusterName) -> Option<Place> {
        let mut peers = self.peers();
        let peer = peers.entry(cluster.clone()).or_default();
        if peer.tunnels.len() >= self.most() {
            return None;
        }
        let (stays, told) = oneshot::channel();
        let number = peer.next;
        peer.next += 1;
        peer.tunnels.insert(number, Accepted { gateway: None, stays: Some(stays) });
        Some(Place { tunnels: self.clone(), cluster: cluster.clone(), number, told: Some(told) })
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<ClusterName, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The tunnel is of `gateway`. If there are too many, one is told to go: this one, or one of a gateway that has more than its
    /// share.
    pub(crate) fn settle(&self, gateway: GatewayId) {
        let limit = self.tunnels.limit;
        let mut peers = self.tunnels.peers();
        let Some(peer) = peers.get_mut(&self.cluster) else { return };
        if let Some(own) = peer.tunnels.get_mut(&self.number) {
            own.gateway = Some(gateway);
        }
        let mut counts = BTreeMap::<GatewayId, usize>::new();
        for gateway in peer.staying().filter_map(|(_, tunnel)| tunnel.gateway) {
            *counts.entry(gateway).or_default() += 1;
        }
        if counts.values().sum::<usize>() <= limit {
            return;
        }
        let share = (limit / counts.len()).max(1);
        // Of alike ones this one, which nobody has begun to use.
        let most = counts.iter().max_by_key(|&(&of, &count)| (count, of == gateway)).map(|(&of, _)| of);
        let youngest = peer.staying().filter(|(_, tunnel)| tunnel.gateway == most).map(|(number, _)| number).last();
        if let Some(leaving) = youngest.and_then(|number| peer.tunnels.get_mut(&number)) {
            // It may have ended already.
            let _ = leaving.stays.take().map(|stays| stays.send(share));
        }
    }

    /// Waits until the tunnel is to go: how many its gateway may have.
    pub(crate) async fn told(&mut self) -> usize {
        if let Some(told) = &mut self.told {
            let share = told.await;
            self.told = None;
            if let Ok(share) = share {
                return share;
            }
        }
        std::future::pending().await
    }
}

impl Peer {
    fn staying(&self) -> impl Iterator<Item = (u64, &Accepted)> {
        self.tunnels.iter().filter(|(_, tunnel)| tunnel.stays.is_some()).map(|(&number, tunnel)| (number, tunnel))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.tunnels.peers();
        if let Some(peer) = peers.get_mut(&self.cluster) {
            peer.tunnels.remove(&self.number);
            if peer.tunnels.is_empty() {
                peers.remove(&self.cluster);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn west() -> ClusterName {
        "west".parse().unwrap()
    }

    /// Lets one in for a gateway, and takes out those that were told to go, as their tunnels do when they have drained.
    fn dial(tunnels: &Arc<AcceptedTunnels>, gateway: u64, places: &mut Vec<(u64, Place)>) {
        let place = tunnels.enter(&west()).unwrap();
        place.settle(GatewayId(gateway));
        places.push((gateway, place));
        places.retain_mut(|(_, place)| was_told(place).is_none());
    }

    fn was_told(place: &mut Place) -> Option<usize> {
        place.told.as_mut().and_then(|told| told.try_recv().ok())
    }

    fn of(places: &[(u64, Place)], gateway: u64) -> usize {
        places.iter().filter(|(of, _)| *of == gateway).count()
    }

    #[test]
    fn a_peer_at_its_bound_keeps_nobody_else_out() {
        let tunnels = AcceptedTunnels::new(2);
        let north = "north".parse().unwrap();
        let mut places: Vec<_> = (0..tunnels.most()).map(|_| tunnels.enter(&west()).unwrap()).collect();
        assert!(tunnels.enter(&west()).is_none());
        assert!(tunnels.enter(&north).is_some());
        places.pop();
        assert!(tunnels.enter(&west()).is_some());
        drop(places);
        assert!(tunnels.peers().is_empty());
    }

    #[test]
    fn a_third_gateway_of_many_cores_gets_its_share() {
        let (tunnels, mut places) = (AcceptedTunnels::new(2), Vec::new());
        for gateway in [1, 2, 3] {
            (0..128).for_each(|_| dial(&tunnels, gateway, &mut places));
        }
        let shares = [1, 2, 3].map(|gateway| of(&places, gateway));
        assert!(places.len() == tunnels.limit() && shares.iter().all(|&share| share >= 85), "{shares:?}");
    }

    #[test]
    fn whoever_has_the_most_is_told_how_many_it_may_have() {
        let tunnels = AcceptedTunnels::new(2);
        let mut places: Vec<_> = (0..tunnels.limit()).map(|_| tunnels.enter(&west()).unwrap()).collect();
        places.iter().for_each(|place| place.settle(GatewayId(1)));
        let other = tunnels.enter(&west()).unwrap();
        other.settle(GatewayId(2));
        let mut youngest = places.pop().unwrap();
        assert_eq!(was_told(&mut youngest), Some(tunnels.limit() / 2));
        assert!(places.iter_mut().all(|place| was_told(place).is_none()));
    }

    proptest! {
        #[test]
        fn every_gateway_has_a_tunnel_and_all_together_no_more_than_the_bound(
            dials in prop::collection::vec(0u64..20, 1..1500),
        ) {
            let (tunnels, mut places) = (AcceptedTunnels::new(2), Vec::new());
            for &gateway in &dials {
                dial(&tunnels, gateway, &mut places);
                prop_assert!(places.len() <= tunnels.limit());
            }
            for gateway in dials {
                prop_assert!(of(&places, gateway) >= 1);
            }
        }
    }
}

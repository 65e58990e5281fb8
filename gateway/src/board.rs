//! The board: which core has live tunnels to which gateways of which cluster. Cores write it when tunnels come and go; streams read it
//! only when their own core has none.

use isthmus_control_api::{ClusterName, GatewayId};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::watch;

/// One core's live tunnels to a cluster, by the gateway that they lead to.
pub type Live = BTreeMap<GatewayId, usize>;

/// Live tunnels by cluster and core.
pub type Tunnels = BTreeMap<ClusterName, Vec<Live>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Board {
    tunnels: watch::Sender<Tunnels>,
    cores: usize,
}

impl Board {
    /// An empty board for `cores` cores.
    pub(crate) fn new(cores: usize) -> Self {
        Self { tunnels: watch::Sender::default(), cores }
    }

    /// Notes which live tunnels to `cluster` the core has.
    pub(crate) fn set(&self, cluster: &ClusterName, core: usize, live: Live) {
        self.tunnels.send_if_modified(|tunnels| {
            let cores = tunnels.entry(cluster.clone()).or_insert_with(|| vec![Live::new(); self.cores]);
            let changed = cores[core] != live;
            cores[core] = live;
            if cores.iter().all(BTreeMap::is_empty) {
                tunnels.remove(cluster);
            }
            changed
        });
    }

    /// A core that has a live tunnel to `cluster`; among several, one that `random` picks.
    pub(crate) fn core_for(&self, cluster: &ClusterName, random: u64) -> Option<usize> {
        self.pick(cluster, random, |live| !live.is_empty())
    }

    /// The same, for one of the cluster's gateways.
    pub(crate) fn core_to(&self, cluster: &ClusterName, gateway: GatewayId, random: u64) -> Option<usize> {
        self.pick(cluster, random, |live| live.contains_key(&gateway))
    }

    /// The gateways of `cluster` that any core has a live tunnel to.
    pub(crate) fn gateways(&self, cluster: &ClusterName) -> BTreeSet<GatewayId> {
        self.tunnels.borrow().get(cluster).into_iter().flatten().flat_map(Live::keys).copied().collect()
    }

    fn pick(&self, cluster: &ClusterName, random: u64, fits: impl Fn(&Live) -> bool) -> Option<usize> {
        let tunnels = self.tunnels.borrow();
        let fitting = || tunnels.get(cluster).into_iter().flatten().enumerate().filter(|(_, live)| fits(live));
        let index = usize::try_from(random % fitting().count().max(1) as u64).unwrap_or(0);
        fitting().nth(index).map(|(core, _)| core)
    }

    /// Whether a core has a live tunnel to `cluster`.
    pub(crate) fn has(&self, core: usize, cluster: &ClusterName) -> bool {
        self.tunnels.borrow().get(cluster).and_then(|cores| cores.get(core)).is_some_and(|live| !live.is_empty())
    }

    /// The core with the fewest live tunnels; among several, the first at or after `start`, which goes round.
    pub(crate) fn idlest(&self, start: usize) -> usize {
        let tunnels = self.tunnels.borrow();
        let load = |core: usize| tunnels.values().map(|cores| cores[core].values().sum::<usize>()).sum::<usize>();
        (start..start + self.cores).map(|core| core % self.cores).min_by_key(|&core| load(core)).unwrap_or(0)
    }

    /// Tells every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Tunnels> {
        self.tunnels.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: GatewayId = GatewayId(1);
    const B: GatewayId = GatewayId(2);

    #[test]
    fn a_cluster_is_live_while_any_core_has_a_tunnel() {
        let (board, east): (_, ClusterName) = (Board::new(3), "east".parse().unwrap());
        assert_eq!(board.core_for(&east, 7), None);
        board.set(&east, 1, [(A, 2)].into());
        board.set(&east, 2, [(B, 1)].into());
        assert!([1, 2].contains(&board.core_for(&east, 7).unwrap()));
        assert_eq!((board.core_to(&east, A, 7), board.core_to(&east, B, 7)), (Some(1), Some(2)));
        assert_eq!(board.idlest(1), 0);
        board.set(&east, 1, Live::new());
        assert_eq!((board.core_for(&east, 8), board.core_to(&east, A, 8)), (Some(2), None));
        assert_eq!([0, 1, 2, 3].map(|core| board.has(core, &east)), [false, false, true, false]);
        board.set(&east, 2, Live::new());
        assert!(board.subscribe().borrow().is_empty());
    }
}

//! The board: which core has live tunnels to which cluster. Cores write it when tunnels come and go; streams read it only when their
//! own core has none.

use isthmus_control_api::ClusterName;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// Live tunnels by cluster and core.
pub type Tunnels = BTreeMap<ClusterName, Vec<usize>>;

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

    /// Notes how many live tunnels to `cluster` the core has.
    pub(crate) fn set(&self, cluster: &ClusterName, core: usize, live: usize) {
        self.tunnels.send_if_modified(|tunnels| {
            let counts = tunnels.entry(cluster.clone()).or_insert_with(|| vec![0; self.cores]);
            let changed = std::mem::replace(&mut counts[core], live) != live;
            if counts.iter().all(|&count| count == 0) {
                tunnels.remove(cluster);
            }
            changed
        });
    }

    /// A core that has a live tunnel to `cluster`; among several, one that `random` picks.
    pub(crate) fn core_for(&self, cluster: &ClusterName, random: u64) -> Option<usize> {
        let tunnels = self.tunnels.borrow();
        let live = || tunnels.get(cluster).into_iter().flatten().enumerate().filter(|(_, count)| **count > 0);
        let index = usize::try_from(random % live().count().max(1) as u64).unwrap_or(0);
        live().nth(index).map(|(core, _)| core)
    }

    /// Whether a core has a live tunnel to `cluster`.
    pub(crate) fn has(&self, core: usize, cluster: &ClusterName) -> bool {
        self.tunnels.borrow().get(cluster).and_then(|counts| counts.get(core)).is_some_and(|&count| count > 0)
    }

    /// The core with the fewest live tunnels; among several, the first at or after `start`, which goes round.
    pub(crate) fn idlest(&self, start: usize) -> usize {
        let tunnels = self.tunnels.borrow();
        let load = |core: usize| tunnels.values().map(|counts| counts[core]).sum::<usize>();
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

    #[test]
    fn a_cluster_is_live_while_any_core_has_a_tunnel() {
        let (board, east): (_, ClusterName) = (Board::new(3), "east".parse().unwrap());
        assert_eq!(board.core_for(&east, 7), None);
        board.set(&east, 1, 2);
        board.set(&east, 2, 1);
        assert!([1, 2].contains(&board.core_for(&east, 7).unwrap()));
        board.set(&east, 1, 0);
        assert_eq!(board.core_for(&east, 8), Some(2));
        assert_eq!([0, 1, 2, 3].map(|core| board.has(core, &east)), [false, false, true, false]);
        board.set(&east, 2, 0);
        assert!(board.subscribe().borrow().is_empty());
    }
}

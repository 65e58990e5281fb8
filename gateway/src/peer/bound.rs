//! How many tunnels a peer may have dialled, on all cores together: each holds memory that no budget counts.

use isthmus_control_api::ClusterName;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Cores that a peer's gateways may have together, if this one has fewer. What a peer says of itself does not count here.
const CORES: usize = 32;
/// `auto` dials two tunnels from each core, each may be followed by another while it drains, and there may be several gateways.
const EACH: usize = 8;

/// The tunnels that peers have dialled and that have not ended.
pub(crate) struct AcceptedTunnels {
    limit: usize,
    /// Taken when a tunnel comes or ends, never on a stream's path.
    counts: Mutex<BTreeMap<ClusterName, usize>>,
}

/// One of them.
pub(crate) struct Place {
    tunnels: Arc<AcceptedTunnels>,
    cluster: ClusterName,
}

impl AcceptedTunnels {
    /// None yet, at a gateway of `cores` cores.
    pub(crate) fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self { limit: EACH * cores.max(CORES), counts: Mutex::default() })
    }

    /// How many a peer may have.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// One more, if the peer may have it.
    pub(crate) fn enter(self: &Arc<Self>, cluster: &ClusterName) -> Option<Place> {
        let mut counts = self.counts();
        let count = counts.entry(cluster.clone()).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Place { tunnels: self.clone(), cluster: cluster.clone() })
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<ClusterName, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.tunnels.counts();
        if let Some(count) = counts.get_mut(&self.cluster) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.cluster);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_at_its_bound_keeps_nobody_else_out() {
        let tunnels = AcceptedTunnels::new(2);
        let (west, north) = ("west".parse().unwrap(), "north".parse().unwrap());
        let mut places: Vec<_> = (0..tunnels.limit()).map(|_| tunnels.enter(&west).unwrap()).collect();
        assert!(tunnels.enter(&west).is_none());
        assert!(tunnels.enter(&north).is_some());
        places.pop();
        assert!(tunnels.enter(&west).is_some());
        drop(places);
        assert!(tunnels.counts().is_empty());
    }
}

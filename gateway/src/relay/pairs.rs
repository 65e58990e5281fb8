//! The pairs of clusters that this gateway relays between: how many tunnels each has, and how much they have moved.

use super::rate::Rate;
use crate::metrics::counter::Counter;
use isthmus_control_api::{ClusterName, Relaying};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Pairs that are counted. Beyond, those without a tunnel are forgotten, and begin at zero if they come back.
const MOST: usize = 1000;

/// All pairs, on all cores together.
#[derive(Debug)]
pub(crate) struct Pairs {
    born: Instant,
    /// By the two in order, whoever of them dials. Taken when a relayed tunnel comes or ends, and by a scrape; never for its bytes.
    pairs: Mutex<BTreeMap<(ClusterName, ClusterName), Arc<Pair>>>,
}

/// Two clusters, and what was counted between them whoever of them dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// The one whose name comes first: unless the other one misbehaves, it is who dials.
    pub from: ClusterName,
    /// The other one.
    pub to: ClusterName,
    /// Tunnels now.
    pub tunnels: usize,
    /// Bytes so far, both ways together.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Pair {
    tunnels: AtomicUsize,
    bytes: Counter,
    rate: Rate,
}

/// One relayed tunnel's place among those of its pair, until it is dropped.
#[derive(Debug)]
pub(crate) struct Passage {
    pub(crate) from: ClusterName,
    pub(crate) to: ClusterName,
    pair: Arc<Pair>,
    per_second: Option<u64>,
    born: Instant,
}

impl Pairs {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { born: Instant::now(), pairs: Mutex::default() }
    }

    /// One tunnel more from `from` to `to`, if `relaying` has room for it between them.
    pub(crate) fn enter(&self, from: &ClusterName, to: &ClusterName, relaying: &Relaying) -> Option<Passage> {
        let pair = self.pair(from, to)?;
        let one_more = |tunnels: usize| (tunnels < relaying.tunnels).then_some(tunnels + 1);
        pair.tunnels.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        let (from, to, per_second) = (from.clone(), to.clone(), relaying.bytes_per_second);
        Some(Passage { from, to, pair, per_second, born: self.born })
    }

    /// What each pair has.
    pub(crate) fn report(&self) -> Vec<Relayed> {
        let relayed = |((from, to), pair): (&(ClusterName, ClusterName), &Arc<Pair>)| Relayed {
            from: from.clone(),
            to: to.clone(),
            tunnels: pair.tunnels.load(Relaxed),
            bytes: pair.bytes.get(),
        };
        self.lock().iter().map(relayed).collect()
    }

    fn pair(&self, from: &ClusterName, to: &ClusterName) -> Option<Arc<Pair>> {
        let (mut pairs, key) = (self.lock(), (from.min(to).clone(), from.max(to).clone()));
        if pairs.len() >= MOST && !pairs.contains_key(&key) {
            // Nobody enters meanwhile: who holds a pair got it from here, and counts in it or holds it still.
            pairs.retain(|_, pair| pair.tunnels.load(Relaxed) > 0 || Arc::strong_count(pair) > 1);
            if pairs.len() >= MOST {
                return None;
            }
        }
        Some(pairs.entry(key).or_default().clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ClusterName, ClusterName), Arc<Pair>>> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passage {
    /// How long to wait before more is sent.
    pub(super) fn wait(&self) -> Duration {
        if self.per_second.is_some() { self.pair.rate.wait(self.born.elapsed()) } else { Duration::ZERO }
    }

    /// So many bytes were sent, either way.
    pub(super) fn sent(&self, bytes: usize) {
        self.pair.bytes.add(bytes as u64);
        if let Some(per_second) = self.per_second {
            self.pair.rate.sent(bytes, per_second, self.born.elapsed());
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.pair.tunnels.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    #[test]
    fn a_pair_at_its_bound_keeps_no_other_out() {
        let pairs = Pairs::new();
        let relaying = Relaying { tunnels: 2, ..Relaying::default() };
        let [west, east, north] = ["west", "east", "north"].map(name);
        let first = pairs.enter(&west, &east, &relaying).unwrap();
        let _second = pairs.enter(&west, &east, &relaying).unwrap();
        assert!(pairs.enter(&west, &east, &relaying).is_none());
        let _other = pairs.enter(&north, &east, &relaying).unwrap();
        first.sent(7);
        drop(first);
        assert!(pairs.enter(&west, &east, &relaying).is_some());
        let of = |to: &str| pairs.report().into_iter().find(|pair| pair.to.as_str() == to).unwrap();
        assert_eq!((of("west").tunnels, of("west").bytes, of("north").tunnels), (1, 7, 1));
    }

    #[test]
    fn both_ways_between_two_count_together() {
        let pairs = Pairs::new();
        let relaying = Relaying { tunnels: 2, bytes_per_second: Some(1000), ..Relaying::default() };
        let [west, east] = ["west", "east"].map(name);
        let there = pairs.enter(&west, &east, &relaying).unwrap();
        let back = pairs.enter(&east, &west, &relaying).unwrap();
        assert_eq!((&there.from, &back.from), (&west, &east));
        assert!(pairs.enter(&east, &west, &relaying).is_none());
        there.sent(1_000_000);
        assert!(!back.wait().is_zero(), "they share the rate");
        let report: Vec<_> = pairs.report().into_iter().map(|pair| (pair.from, pair.to, pair.tunnels)).collect();
        assert_eq!(report, [(east, west, 2)]);
    }

    #[test]
    fn pairs_are_forgotten_when_there_are_too_many_but_not_those_in_use() {
        let pairs = Pairs::new();
        let relaying = Relaying { tunnels: 1, ..Relaying::default() };
        let held = pairs.enter(&name("west"), &name("east"), &relaying).unwrap();
        for n in 0..2 * MOST {
            assert!(pairs.enter(&name(&format!("c{n}")), &name("east"), &relaying).is_some());
        }
        assert!(pairs.report().len() <= MOST);
        assert!(pairs.enter(&held.from, &held.to, &relaying).is_none());
    }
}

//! ● Which cluster serves an import's next stream: this one or a linked one.
//!
//! The preferred side takes all while it has a ready endpoint that was not tried; then the other. Among the rest the choice is
//! in proportion to ready endpoints, so that every endpoint gets its share wherever it runs: at random, or the same for a client each
//! time. An import can have shares of its own instead.

use super::client::{Draw, Seat};
use isthmus_control_api::{Affinity, ClusterName, Weights};
use std::collections::BTreeMap;

/// Stands for this cluster, where others have a name: no name that a cluster can have.
const HERE: &str = "";
/// How many clusters one stream may try.
pub const MAX_TRIED: usize = 4;

/// Where a stream goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice<'a> {
    /// To an endpoint of this cluster.
    Local,
    /// Through a tunnel to a linked cluster.
    Cluster(&'a ClusterName),
}

/// What there is to choose from.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    /// The import's preference.
    pub affinity: Affinity,
    /// How many ready endpoints this cluster has itself.
    pub local: u32,
    /// How many ready endpoints each linked cluster says it has.
    pub clusters: &'a BTreeMap<ClusterName, u32>,
    /// Shares instead of those that follow from ready endpoints.
    pub weights: Option<&'a Weights>,
}

/// Where one stream has been tried already.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    local: bool,
    clusters: [Option<ClusterName>; MAX_TRIED],
}

impl Tried {
    /// Notes an attempt.
    pub fn insert(&mut self, choice: &Choice<'_>) {
        match choice {
            Choice::Local => self.local = true,
            Choice::Cluster(name) => {
                if let Some(free) = self.clusters.iter_mut().find(|tried| tried.is_none()) {
                    *free = Some((*name).clone());
                }
            }
        }
    }

    /// Whether the stream has had all its attempts at other clusters.
    fn is_full(&self) -> bool {
        self.clusters.iter().all(Option::is_some)
    }

    fn contains(&self, name: &ClusterName) -> bool {
        self.clusters.iter().flatten().any(|tried| tried == name)
    }
}

/// Chooses among what is ready, reachable (`is_live` says which links are) and not in `tried`; `None` if nothing is left.
pub fn choose<'a>(
    candidates: &Candidates<'a>,
    is_live: impl Fn(&ClusterName) -> bool,
    tried: &Tried,
    draw: Draw,
) -> Option<Choice<'a>> {
    let fits = |name: &ClusterName| !tried.is_full() && !tried.contains(name) && is_live(name);
    let local = if tried.local { 0 } else { candidates.local };
    let by_ready = |affinity| by_share(candidates.clusters, fits, local, |_, ready| ready, affinity, draw);
    let Some(weights) = candidates.weights else { return by_ready(candidates.affinity) };
    let weight = |name: &ClusterName, _| weights.clusters.get(name).copied().unwrap_or_default();
    let own = if local > 0 { weights.local } else { 0 };
    let weighed = by_share(candidates.clusters, fits, own, weight, Affinity::None, draw);
    weighed.or_else(|| weights.others.then(|| by_ready(Affinity::None)).flatten())
}

/// Chooses this cluster, whose share is `local`, or one of `clusters` that are ready and `fits`, each with a share of its own.
fn by_share<'a>(
    clusters: &'a BTreeMap<ClusterName, u32>,
    fits: impl Fn(&ClusterName) -> bool,
    local: u32,
    share: impl Fn(&ClusterName, u32) -> u32,
    affinity: Affinity,
    draw: Draw,
) -> Option<Choice<'a>> {
    let shares = || {
        let ready = clusters.iter().filter(|&(name, &ready)| ready > 0 && fits(name));
        ready.map(|(name, &ready)| (name, u64::from(share(name, ready)))).filter(|(_, share)| *share > 0)
    };
    // Each is asked once only: a link may come or go between two questions, a core's own view of it cannot.
    let remote: u64 = shares().map(|(_, share)| share).sum();
    let local = u64::from(local);
    let local = match affinity {
        Affinity::Local if local > 0 => return Some(Choice::Local),
        Affinity::Remote if remote > 0 => 0,
        Affinity::Local | Affinity::Remote | Affinity::None => local,
    };
    let total = local + remote;
    if total == 0 {
        return None;
    }
    let random = match draw {
        Draw::Random(random) => random,
        Draw::For(client) => {
            let here = (local > 0).then(|| (Choice::Local, client.distance(Seat::of_name(HERE), local)));
            let there = shares()
                .map(|(name, share)| (Choice::Cluster(name), client.distance(Seat::of_name(name.as_str()), share)));
            return here.into_iter().chain(there).min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(choice, _)| choice);
        }
    };
    // The high half of the product: below `total`.
    let mut at = ((u128::from(random) * u128::from(total)) >> 64) as u64;
    for (name, share) in shares() {
        match at.checked_sub(share) {
            Some(rest) => at = rest,
            None => return Some(Choice::Cluster(name)),
        }
    }
    Some(Choice::Local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clusters(ready: &[u32]) -> BTreeMap<ClusterName, u32> {
        ready.iter().enumerate().map(|(i, &n)| (format!("c{i}").parse().unwrap(), n)).collect()
    }

    fn affinities() -> impl Strategy<Value = Affinity> {
        prop_oneof![Just(Affinity::Local), Just(Affinity::Remote), Just(Affinity::None)]
    }

    proptest! {
        /// A stream that is tried until nothing is left meets every candidate once, the preferred side first.
        #[test]
        fn every_candidate_is_tried_once_in_the_order_of_affinity(
            affinity in affinities(),
            local in 0_u32..3,
            ready in proptest::collection::vec(0_u32..4, 0..MAX_TRIED),
            live: [bool; MAX_TRIED],
            randoms: [u64; 8],
        ) {
            let clusters = clusters(&ready);
            let candidates = Candidates { affinity, local, clusters: &clusters, weights: None };
            let index = |name: &ClusterName| name.as_str()[1..].parse::<usize>().unwrap();
            let mut tried = Tried::default();
            let mut order = vec![];
            for random in randoms {
                let Some(choice) = choose(&candidates, |name| live[index(name)], &tried, Draw::Random(random)) else { break };
                tried.insert(&choice);
                order.push(match choice { Choice::Local => None, Choice::Cluster(name) => Some(index(name)) });
            }
            let mut expected: Vec<_> = (0..ready.len()).filter(|&i| ready[i] > 0 && live[i]).map(Some).collect();
            let remote = expected.len();
            expected.extend((local > 0).then_some(None));
            let mut met = order.clone();
            met.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(met, expected);
            if let Some(place) = order.iter().position(Option::is_none) {
                match affinity {
                    Affinity::Local => prop_assert_eq!(place, 0),
                    Affinity::Remote => prop_assert_eq!(place, remote),
                    Affinity::None => {}
                }
            }
        }
    }

    /// How 600 streams are shared out: to each cluster, and to this one last.
    fn shares<const N: usize>(candidates: &Candidates<'_>) -> [i32; N] {
        let mut counts = [0; N];
        for step in 0..600_u64 {
            let random = step * (u64::MAX / 600);
            match choose(candidates, |_| true, &Tried::default(), Draw::Random(random)) {
                Some(Choice::Cluster(name)) => counts[name.as_str()[1..].parse::<usize>().unwrap()] += 1,
                Some(Choice::Local) => counts[N - 1] += 1,
                None => {}
            }
        }
        counts
    }

    fn assert_about<const N: usize>(counts: [i32; N], expected: [i32; N]) {
        let about = |(count, expected): (i32, i32)| (count - expected).abs() <= 2;
        assert!(counts.into_iter().zip(expected).all(about), "{counts:?}");
    }

    #[test]
    fn shares_follow_ready_endpoints() {
        let clusters = clusters(&[1, 2]);
        let candidates = Candidates { affinity: Affinity::None, local: 3, clusters: &clusters, weights: None };
        assert_about(shares(&candidates), [100, 200, 300]);
    }

    #[test]
    fn shares_can_be_given_and_count_for_what_is_ready() {
        let weights = |local, others| Weights { local, clusters: [("c0".parse().unwrap(), 20)].into(), others };
        let all = clusters(&[1, 9]);
        let of = |local, clusters, weights| Candidates { affinity: Affinity::Local, local, clusters, weights };
        let (share, none, never) = (weights(80, true), weights(0, true), weights(0, false));
        assert_about(shares(&of(1, &all, Some(&share))), [120, 0, 480]);
        assert_about(shares(&of(0, &all, Some(&share))), [600, 0, 0]);
        // Nothing that has a share is ready.
        let other = clusters(&[0, 1]);
        assert_about(shares(&of(2, &other, Some(&none))), [0, 200, 400]);
        assert_about(shares(&of(2, &other, Some(&never))), [0, 0, 0]);
    }

    #[test]
    fn after_the_last_attempt_only_local_is_left() {
        let clusters = clusters(&[1; 9]);
        let candidates = Candidates { affinity: Affinity::Remote, local: 1, clusters: &clusters, weights: None };
        let mut tried = Tried::default();
        for _ in 0..MAX_TRIED {
            let choice = choose(&candidates, |_| true, &tried, Draw::Random(7)).unwrap();
            assert!(matches!(choice, Choice::Cluster(_)));
            tried.insert(&choice);
        }
        assert_eq!(choose(&candidates, |_| true, &tried, Draw::Random(7)), Some(Choice::Local));
    }

    /// A client has its cluster, in proportion as at random, and leaves it only when that is gone.
    #[test]
    fn a_client_stays_with_its_cluster() {
        use crate::balance::client::Client;
        let all = clusters(&[3, 1]);
        let candidates = Candidates { affinity: Affinity::None, local: 1, clusters: &all, weights: None };
        let of = |n: u32, is_live: &dyn Fn(&ClusterName) -> bool| {
            let draw = Draw::For(Client::at(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()));
            choose(&candidates, is_live, &Tried::default(), draw).unwrap()
        };
        let mut counts = BTreeMap::new();
        for n in 0..5000 {
            let first = of(n, &|_| true);
            let c0 = matches!(&first, Choice::Cluster(name) if name.as_str() == "c0");
            let then = of(n, &|name| name.as_str() != "c0");
            assert_eq!(first == then, !c0, "only those of the cluster that is gone are moved");
            *counts.entry(format!("{first:?}")).or_insert(0_u32) += 1;
        }
        let counts: Vec<_> = counts.into_values().collect();
        assert!(
            [3000, 1000, 1000].iter().zip(&counts).all(|(expected, count)| count.abs_diff(*expected) < 150),
            "{counts:?}"
        );
    }
}

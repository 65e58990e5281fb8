//! ● Which cluster serves an import's next stream: this one or a linked one.
//!
//! The preferred side takes all while it has a ready endpoint that was not tried; then the other, the nearest clusters of it first.
//! Without a preference the choice is in proportion to ready endpoints, so that every endpoint gets its share wherever it runs: in
//! turn, or the same for a client each time. An import can have shares of its own instead. Who is well decides before all this:
//! [`super::sides`].

use super::{
    client::{Draw, Seat},
    rotation::Rotation,
};
use isthmus_control_api::{Affinity, ClusterName, Weights};
use std::{collections::BTreeMap, time::Duration};

/// Stands for this cluster, where others have a name: no name that a cluster can have.
const HERE: &str = "";
/// How many clusters one stream may try.
pub const MAX_TRIED: usize = 4;
/// A cluster whose round trip is no more than twice the shortest one, and this, is as near.
const AS_NEAR: Duration = Duration::from_millis(5);

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

impl Choice<'_> {
    /// What it is told from others by.
    pub fn seat(&self) -> Seat {
        match self {
            Self::Local => Seat::of_name(HERE),
            Self::Cluster(name) => Seat::of_name(name.as_str()),
        }
    }
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

    /// Whether nothing has been tried yet.
    pub fn is_empty(&self) -> bool {
        !self.local && self.clusters.iter().all(Option::is_none)
    }

    /// Whether the stream has had all its attempts at other clusters.
    fn is_full(&self) -> bool {
        self.clusters.iter().all(Option::is_some)
    }

    /// Whether that has been tried; `None` is here.
    pub fn has(&self, cluster: Option<&ClusterName>) -> bool {
        cluster.map_or(self.local, |name| self.contains(name))
    }

    fn contains(&self, name: &ClusterName) -> bool {
        self.clusters.iter().flatten().any(|tried| tried == name)
    }
}

/// Who may be chosen, and how far away it is.
pub trait Links {
    /// The round trip to a linked cluster that may have the stream: zero where it was not measured, `None` where it may not.
    fn reaches(&self, cluster: &ClusterName) -> Option<Duration>;
}

impl<F: Fn(&ClusterName) -> Option<Duration>> Links for F {
    fn reaches(&self, cluster: &ClusterName) -> Option<Duration> {
        self(cluster)
    }
}

/// Chooses among what is ready, may have the stream, and is not in `tried`; `None` if nothing is left. `rotation` keeps first
/// attempts to their shares; further ones are made at random.
pub fn choose<'a>(
    candidates: &Candidates<'a>,
    links: &impl Links,
    tried: &Tried,
    draw: Draw,
    rotation: &mut Rotation,
) -> Option<Choice<'a>> {
    let reaches = |name: &ClusterName| {
        if tried.is_full() || tried.contains(name) { None } else { links.reaches(name) }
    };
    let local = if tried.local { 0 } else { candidates.local };
    let mut chooser = Chooser { clusters: candidates.clusters, reaches, draw, is_first: tried.is_empty(), rotation };
    let Some(weights) = candidates.weights else {
        return chooser.by_share(local, |_, ready| ready, candidates.affinity);
    };
    let weight = |name: &ClusterName, _| weights.clusters.get(name).copied().unwrap_or_default();
    let own = if local > 0 { weights.local } else { 0 };
    let weighed = chooser.by_share(own, weight, Affinity::None);
    weighed.or_else(|| weights.others.then(|| chooser.by_share(local, |_, ready| ready, Affinity::None)).flatten())
}

/// Whether anything is left to choose: what [`choose`] would say then does not matter.
pub fn has_another(candidates: &Candidates<'_>, links: &impl Links, tried: &Tried) -> bool {
    let serves = |share: u32| candidates.weights.is_none_or(|weights| weights.others || share > 0);
    let share = |name: &ClusterName| candidates.weights.and_then(|weights| weights.clusters.get(name).copied());
    let local = candidates.weights.map_or(0, |weights| weights.local);
    if !tried.local && candidates.local > 0 && serves(local) {
        return true;
    }
    let mut ready = candidates.clusters.iter().filter(|&(name, &ready)| ready > 0 && serves(share(name).unwrap_or(0)));
    !tried.is_full() && ready.any(|(name, _)| !tried.contains(name) && links.reaches(name).is_some())
}

/// Up to where a round trip is as short as the shortest one.
pub fn as_near(nearest: Duration) -> Duration {
    nearest * 2 + AS_NEAR
}

struct Chooser<'a, 'r, F> {
    clusters: &'a BTreeMap<ClusterName, u32>,
    reaches: F,
    draw: Draw,
    is_first: bool,
    rotation: &'r mut Rotation,
}

impl<'a, F: Fn(&ClusterName) -> Option<Duration>> Chooser<'a, '_, F> {
    /// Chooses this cluster, whose share is `local`, or one of those that are ready, each with a share of its own.
    fn by_share(
        &mut self,
        local: u32,
        share: impl Fn(&ClusterName, u32) -> u32,
        affinity: Affinity,
    ) -> Option<Choice<'a>> {
        if affinity == Affinity::Local && local > 0 {
            return Some(Choice::Local);
        }
        let near = if affinity == Affinity::None { None } else { self.nearest() };
        let shares = || {
            let ready = self.clusters.iter().filter(|&(_, &ready)| ready > 0);
            let reached = ready.filter(|(name, _)| {
                (self.reaches)(name).is_some_and(|trip| near.is_none_or(|near| trip <= as_near(near)))
            });
            reached.map(|(name, &ready)| (Choice::Cluster(name), u64::from(share(name, ready)))).filter(|of| of.1 > 0)
        };
        let local = (local > 0).then(|| (Choice::Local, u64::from(local)));
        // Who comes last is told apart from the others below, where one side is preferred.
        if affinity == Affinity::Remote
            && let Some(choice) = pick(shares, self.draw, self.is_first, self.rotation)
        {
            return Some(choice);
        }
        pick(|| shares().chain(local.clone()), self.draw, self.is_first, self.rotation)
    }

    /// The shortest round trip to a cluster that is ready, as far as any was measured. For a client that stays, distance does not
    /// count: every gateway has to come to the same.
    fn nearest(&self) -> Option<Duration> {
        let Draw::Random(_) = self.draw else { return None };
        let ready = self.clusters.iter().filter(|&(_, &ready)| ready > 0);
        ready.filter_map(|(name, _)| (self.reaches)(name)).filter(|trip| !trip.is_zero()).min()
    }
}

/// One of `shares`, in proportion to them.
fn pick<'a, I: Iterator<Item = (Choice<'a>, u64)>>(
    shares: impl Fn() -> I,
    draw: Draw,
    is_first: bool,
    rotation: &mut Rotation,
) -> Option<Choice<'a>> {
    match draw {
        Draw::For(client) => {
            let distances = shares().map(|(choice, share)| (client.distance(choice.seat(), share), choice));
            distances.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, choice)| choice)
        }
        Draw::Random(random) if is_first => {
            rotation.next(shares().map(|(choice, share)| (choice.clone(), choice.seat(), share)), random)
        }
        Draw::Random(random) => {
            let total: u64 = shares().map(|(_, share)| share).sum();
            // The high half of the product: below `total`.
            let mut at = ((u128::from(random) * u128::from(total)) >> 64) as u64;
            let mut last = None;
            for (choice, share) in shares() {
                match at.checked_sub(share) {
                    Some(rest) => at = rest,
                    None => return Some(choice),
                }
                last = Some(choice);
            }
            // A link that came between the two questions.
            last
        }
    }
}

#[cfg(test)]
mod tests;

//! ● What gateways say that they reach, and for how long their word counts.
//!
//! A gateway that is attached is believed. One that has lost its connection is believed for [`GRACE`] more, from when it was heard
//! last: that a connection breaks says nothing of the tunnels to peers. Of a cluster that an attached gateway does not reach any
//! more, those that are away have nothing to say.

use crate::{MAX_GATEWAYS, Reached};
use isthmus_control_api::{ClusterName, GatewayId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// For so long after it was heard last, what a gateway said counts.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// What each gateway said last, and what control was told of it.
#[derive(Debug, Default)]
pub(super) struct Words {
    said: BTreeMap<GatewayId, Word>,
    told: BTreeMap<GatewayId, Reached>,
}

#[derive(Debug, Default)]
struct Word {
    reached: Reached,
    /// Until when it counts; `None`: the gateway is attached.
    until: Option<Instant>,
}

/// A gateway reaches these gateways of a cluster now, and no other ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) through: GatewayId,
    pub(super) cluster: ClusterName,
    pub(super) gateways: BTreeSet<GatewayId>,
}

impl Words {
    /// An attached gateway says what it reaches.
    pub(super) fn say(&mut self, gateway: GatewayId, reached: Reached) {
        let word = self.said.entry(gateway).or_default();
        if word.until.take().is_some() {
            // It is told again even if it is the same: there is a way to those peers again.
            self.told.entry(gateway).or_default().retain(|cluster, _| !reached.contains_key(cluster));
        }
        let before = std::mem::replace(&mut word.reached, reached);
        let lost: Vec<_> = before.into_keys().filter(|cluster| !word.reached.contains_key(cluster)).collect();
        for away in self.said.values_mut().filter(|word| word.until.is_some()) {
            lost.iter().for_each(|cluster| drop(away.reached.remove(cluster)));
        }
    }

    /// A gateway's session has ended. It was heard last at `heard`.
    pub(super) fn lost(&mut self, gateway: GatewayId, heard: Instant) {
        if let Some(word) = self.said.get_mut(&gateway) {
            word.until = Some(heard + GRACE);
        }
        let away = || self.said.iter().filter_map(|(gateway, word)| Some((word.until?, *gateway)));
        if away().count() > MAX_GATEWAYS
            && let Some((_, first)) = away().min()
        {
            self.said.remove(&first);
        }
    }

    /// Forgets what does not count any more at `now`.
    pub(super) fn forget(&mut self, now: Instant) {
        self.said.retain(|_, word| word.until.is_none_or(|until| now < until));
    }

    /// When there will be something to forget.
    pub(super) fn next(&self) -> Option<Instant> {
        self.said.values().filter_map(|word| word.until).min()
    }

    /// What a gateway reaches, as far as it counts.
    pub(super) fn of(&self, gateway: GatewayId) -> Option<&Reached> {
        self.said.get(&gateway).map(|word| &word.reached)
    }

    /// Those that are away and still count: what they reach, and until when.
    pub(super) fn away(&self) -> impl Iterator<Item = (GatewayId, &Reached, Instant)> {
        self.said.iter().filter_map(|(gateway, word)| Some((*gateway, &word.reached, word.until?)))
    }

    /// What is so now and control was not told.
    pub(super) fn news(&mut self) -> Vec<Heard> {
        let mut news = Vec::new();
        let none = Reached::new();
        let through: BTreeSet<_> = self.told.keys().chain(self.said.keys()).copied().collect();
        for through in through {
            let now = self.said.get(&through).map_or(&none, |word| &word.reached);
            let told = self.told.get(&through).unwrap_or(&none);
            let differing = differing(told, now);
            news.extend(differing.into_iter().map(|(cluster, gateways)| Heard { through, cluster, gateways }));
        }
        self.told = self.said.iter().map(|(gateway, word)| (*gateway, word.reached.clone())).collect();
        news
    }
}

/// The clusters of which something else is reached than before, and what.
fn differing(before: &Reached, now: &Reached) -> BTreeMap<ClusterName, BTreeSet<GatewayId>> {
    let gone = before.keys().filter(|cluster| !now.contains_key(*cluster));
    let gone = gone.map(|cluster| (cluster.clone(), BTreeSet::new()));
    let come = now.iter().filter(|(cluster, gateways)| before.get(*cluster) != Some(*gateways));
    gone.chain(come.map(|(cluster, gateways)| (cluster.clone(), gateways.clone()))).collect()
}

#[cfg(test)]
mod tests;

//! What a core's tunnels tell of their paths, and what is chosen by it.

use super::{
    Known, Peers, Way, carrier,
    choose::{self, Carrier, Chooser, Facts},
    is_open,
    loss::PathLoss,
};
use crate::status::{ChoiceReport, LossReport};
use isthmus_control_api::ClusterName;
use std::time::Instant;

impl Peers {
    /// Measures the paths and chooses anew. Every second.
    pub(crate) fn choose(&self, now: Instant) {
        let (tunnels, mut choosers) = (self.tunnels.borrow(), self.choosers.borrow_mut());
        choosers.retain(|cluster, _| tunnels.get(cluster).is_some_and(|tunnels| !tunnels.is_empty()));
        tunnels.values().flatten().for_each(|known| known.tunnel.look());
        for (cluster, tunnels) in tunnels.iter().filter(|(_, tunnels)| !tunnels.is_empty()) {
            let chooser = choosers.entry(cluster.clone()).or_insert_with(Chooser::new);
            // A relayed tunnel is no choice as long as there is a direct one.
            let is_direct = |known: &Known| known.way() == Way::Direct && is_open(&*known.tunnel);
            let way = if tunnels.iter().any(is_direct) { Way::Direct } else { Way::Relayed };
            chooser.look(&facts(tunnels, way, Carrier::Tcp), &facts(tunnels, way, Carrier::Quic), now);
        }
        self.measure(now);
    }

    /// Measures what the paths lose, each way.
    fn measure(&self, now: Instant) {
        let (tunnels, mut losses) = (self.tunnels.borrow(), self.losses.borrow_mut());
        losses.retain(|(cluster, _), _| tunnels.get(cluster).is_some_and(|tunnels| !tunnels.is_empty()));
        for (cluster, tunnels) in tunnels.iter() {
            for of in [Carrier::Tcp, Carrier::Quic] {
                let each_way = tunnels.iter().filter(|known| carrier(&*known.tunnel) == of);
                let each_way = each_way.filter_map(|known| known.tunnel.packets_each_way());
                let Some([out, back]) = each_way.reduce(|[a, b], [c, d]| [a + c, b + d]) else { continue };
                let loss = losses.entry((cluster.clone(), of)).or_default();
                loss.out.measure(out, now);
                loss.back.measure(back, now);
            }
        }
    }

    /// What the paths lose, as far as it was measured of late.
    pub(crate) fn losses(&self, now: Instant) -> Vec<LossReport> {
        let losses = self.losses.borrow();
        let report = |((cluster, _), loss): (&(ClusterName, Carrier), &PathLoss)| LossReport {
            cluster: cluster.clone(),
            out: loss.out.recent(now),
            back: loss.back.recent(now),
        };
        losses.iter().map(report).collect()
    }

    /// What was chosen for each cluster, and why.
    pub(crate) fn choices(&self) -> Vec<ChoiceReport> {
        let choosers = self.choosers.borrow();
        let chosen = choosers.iter().filter_map(|(cluster, chooser)| Some((cluster, chooser.choice()?)));
        let report = |(cluster, choice): (&ClusterName, choose::Choice)| {
            let tunnels = self.tunnels.borrow();
            let chosen = |known: &&Known| is_open(&*known.tunnel) && carrier(&*known.tunnel) == choice.carrier;
            let live = tunnels.get(cluster)?.iter().filter(chosen).min_by_key(|known| known.via.is_some())?;
            let reason = match &live.via {
                Some(relay) => format!("through {relay}, as no direct tunnel is live"),
                None => choice.reason.to_string(),
            };
            let (transport, via) = (live.tunnel.transport(), live.via.clone());
            Some(ChoiceReport { cluster: cluster.clone(), transport, reason, via })
        };
        chosen.filter_map(report).collect()
    }

    pub(super) fn chosen(&self, cluster: &ClusterName) -> Carrier {
        // Before anything was measured it is what costs less CPU.
        let chosen = self.choosers.borrow().get(cluster).and_then(Chooser::choice);
        chosen.map_or(Carrier::Tcp, |choice| choice.carrier)
    }
}

/// How the live tunnels of a way and a carrier fare together. Counters are those of all that have not ended, so that they only grow.
fn facts(tunnels: &[Known], way: Way, of: Carrier) -> Facts {
    let mut facts = Facts::default();
    for known in tunnels.iter().filter(|known| known.way() == way && carrier(&*known.tunnel) == of) {
        let packets = known.tunnel.packets().unwrap_or_default();
        facts.sent = facts.sent.saturating_add(packets.sent);
        facts.lost = facts.lost.saturating_add(packets.lost);
        if is_open(&*known.tunnel) {
            facts.live += 1;
            facts.rtt = facts.rtt.into_iter().chain(known.tunnel.status().rtt).min();
        }
    }
    facts
}

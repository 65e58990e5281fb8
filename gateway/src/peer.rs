//! The gateways of linked clusters, as one core knows them: its tunnels to them, and the dialling of new ones.

pub(crate) mod bound;
pub(crate) mod choose;
mod dial;
pub(crate) mod join;
pub(crate) mod punch;
pub(crate) mod quic;
pub(crate) mod relayed;
mod setup;

pub(crate) use dial::{LinkStates, Links};
pub(crate) use setup::{TlsConfigs, accept};

use crate::{
    board::Board,
    relay::Over,
    status::{ChoiceReport, TunnelReport},
    tunnel::{Direction, OpenRequest, Refusal, RefusalReason, Transport, Tunnel, TunnelHealth, TunnelStream},
};
use choose::{Carrier, Chooser, Facts};
use isthmus_control_api::{ClusterName, Table};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

/// The tunnels of one core, by the cluster that they lead to. There are a handful for each.
#[derive(Default)]
pub(crate) struct Peers {
    tunnels: RefCell<BTreeMap<ClusterName, Vec<Known>>>,
    /// What carries new streams, where there is a choice.
    choosers: RefCell<BTreeMap<ClusterName, Chooser>>,
}

/// A stream that was asked for, and the tunnel that it is on.
pub(crate) type Opened = (Box<dyn TunnelStream>, Rc<dyn Tunnel>);

struct Known {
    tunnel: Rc<dyn Tunnel>,
    /// When the peer's certificate expires.
    expiry: Option<SystemTime>,
    /// The cluster that relays it; `None` of a direct one.
    via: Option<ClusterName>,
}

impl Peers {
    /// Opens a stream on the least loaded live tunnel to `cluster` of the carrier that was chosen, or on another one if that
    /// refuses; on a relayed one if there is no direct one.
    ///
    /// # Errors
    /// There is no live tunnel, or none takes the stream.
    pub(crate) fn open(&self, cluster: &ClusterName, request: &OpenRequest) -> Result<Opened, Refusal> {
        let message = format!("no live tunnel to {cluster}");
        let none = Refusal { reason: RefusalReason::TunnelLost, message, retry: true };
        let direct = self.open_on(self.live(cluster, Way::Direct), cluster, request, none);
        direct.or_else(|refusal| self.open_on(self.live(cluster, Way::Relayed), cluster, request, refusal))
    }

    /// Opens a stream on a tunnel that is not relayed.
    ///
    /// # Errors
    /// There is no live one, or none takes the stream.
    pub(crate) fn open_direct(
        &self,
        cluster: &ClusterName,
        request: &OpenRequest,
        over: Over,
    ) -> Result<Opened, Refusal> {
        let message = match over {
            Over::Any => format!("no tunnel to {cluster} itself"),
            Over::DialledQuic => format!("no tunnel to {cluster} that was dialled over QUIC"),
        };
        let none = Refusal { reason: RefusalReason::TunnelLost, message, retry: true };
        let mut tunnels = self.live(cluster, Way::Direct);
        tunnels.retain(|tunnel| over == Over::Any || is_dialled_quic(&**tunnel));
        self.open_on(tunnels, cluster, request, none)
    }

    fn open_on(
        &self,
        mut tunnels: Vec<Rc<dyn Tunnel>>,
        cluster: &ClusterName,
        request: &OpenRequest,
        none: Refusal,
    ) -> Result<Opened, Refusal> {
        let chosen = self.chosen(cluster);
        tunnels.sort_by_cached_key(|tunnel| (carrier(&**tunnel) != chosen, tunnel.load()));
        let mut refusal = none;
        for tunnel in tunnels {
            match tunnel.open(request) {
                Ok(stream) => return Ok((stream, tunnel)),
                Err(refused) => refusal = refused,
            }
        }
        Err(refusal)
    }

    /// Whether a stream to `cluster` can be opened on this core.
    pub(crate) fn is_live(&self, cluster: &ClusterName) -> bool {
        self.tunnels.borrow().get(cluster).is_some_and(|tunnels| tunnels.iter().any(|known| is_open(&*known.tunnel)))
    }

    /// Whether one can be on a tunnel that is not relayed.
    pub(crate) fn is_direct(&self, cluster: &ClusterName) -> bool {
        !self.live(cluster, Way::Direct).is_empty()
    }

    /// Tunnels to `cluster` that are not relayed and have not ended, whatever state they are in.
    pub(crate) fn count_direct(&self, cluster: &ClusterName) -> usize {
        let tunnels = self.tunnels.borrow();
        tunnels.get(cluster).into_iter().flatten().filter(|known| known.way() == Way::Direct).count()
    }

    /// Whether gateways of `cluster` see where this core's datagrams come from.
    pub(crate) fn sees_us(&self, cluster: &ClusterName) -> bool {
        self.live(cluster, Way::Direct).iter().any(|tunnel| is_dialled_quic(&**tunnel))
    }

    /// The shortest round trip of the live tunnels to `cluster`; zero while none is measured.
    pub(crate) fn round_trip(&self, cluster: &ClusterName) -> Duration {
        let tunnels = self.tunnels.borrow();
        let live = tunnels.get(cluster).into_iter().flatten().filter(|known| is_open(&*known.tunnel));
        live.filter_map(|known| known.tunnel.status().rtt).min().unwrap_or_default()
    }

    /// What each tunnel tells of itself.
    pub(crate) fn report(&self) -> Vec<TunnelReport> {
        let tunnels = self.tunnels.borrow();
        let tunnels = tunnels.iter().flat_map(|(cluster, tunnels)| tunnels.iter().map(move |known| (cluster, known)));
        let report = |(cluster, known): (&ClusterName, &Known)| TunnelReport {
            cluster: cluster.clone(),
            status: known.tunnel.status(),
            cert_expiry: known.expiry,
            via: known.via.clone(),
        };
        tunnels.map(report).collect()
    }

    /// Measures the paths and chooses anew. Every second.
    pub(crate) fn choose(&self, now: Instant) {
        let (tunnels, mut choosers) = (self.tunnels.borrow(), self.choosers.borrow_mut());
        choosers.retain(|cluster, _| tunnels.get(cluster).is_some_and(|tunnels| !tunnels.is_empty()));
        for (cluster, tunnels) in tunnels.iter().filter(|(_, tunnels)| !tunnels.is_empty()) {
            let chooser = choosers.entry(cluster.clone()).or_insert_with(Chooser::new);
            // A relayed tunnel is no choice as long as there is a direct one.
            let is_direct = |known: &Known| known.way() == Way::Direct && is_open(&*known.tunnel);
            let way = if tunnels.iter().any(is_direct) { Way::Direct } else { Way::Relayed };
            chooser.look(&facts(tunnels, way, Carrier::Tcp), &facts(tunnels, way, Carrier::Quic), now);
        }
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

    fn chosen(&self, cluster: &ClusterName) -> Carrier {
        // Before anything was measured it is what costs less CPU.
        let chosen = self.choosers.borrow().get(cluster).and_then(Chooser::choice);
        chosen.map_or(Carrier::Tcp, |choice| choice.carrier)
    }

    /// Closes tunnels to clusters that the table has no link with: trust ends with the link.
    pub(crate) fn close_unlinked(&self, table: &Table) {
        for (cluster, tunnels) in self.tunnels.borrow().iter() {
            if !table.links.contains_key(cluster) {
                tunnels.iter().for_each(|known| known.tunnel.close());
            }
        }
    }

    /// Says goodbye on all tunnels.
    pub(crate) fn drain(&self) {
        self.tunnels.borrow().values().flatten().for_each(|known| known.tunnel.drain());
    }

    /// Waits until the peers have the last bytes of the streams that have ended here.
    pub(crate) async fn flushed(&self) {
        let tunnels: Vec<_> = self.tunnels.borrow().values().flatten().map(|known| known.tunnel.clone()).collect();
        for tunnel in tunnels {
            tunnel.flushed().await;
        }
    }

    /// Ends all tunnels.
    pub(crate) fn close(&self) {
        self.tunnels.borrow().values().flatten().for_each(|known| known.tunnel.close());
    }

    fn live(&self, cluster: &ClusterName, way: Way) -> Vec<Rc<dyn Tunnel>> {
        let tunnels = self.tunnels.borrow();
        let tunnels = tunnels.get(cluster).into_iter().flatten().filter(|known| known.way() == way);
        tunnels.filter(|known| is_open(&*known.tunnel)).map(|known| known.tunnel.clone()).collect()
    }

    fn add(&self, cluster: &ClusterName, known: Known) {
        self.tunnels.borrow_mut().entry(cluster.clone()).or_default().push(known);
    }

    fn remove(&self, cluster: &ClusterName, tunnel: &Rc<dyn Tunnel>) {
        if let Some(tunnels) = self.tunnels.borrow_mut().get_mut(cluster) {
            tunnels.retain(|known| !Rc::ptr_eq(&known.tunnel, tunnel));
        }
    }

    /// Tells the other cores and control how many live tunnels there are.
    fn publish(&self, cluster: &ClusterName, core: usize, board: &Board) {
        let tunnels = self.tunnels.borrow();
        let live = tunnels.get(cluster).into_iter().flatten().filter(|known| is_open(&*known.tunnel)).count();
        board.set(cluster, core, live);
    }
}

/// How a tunnel gets to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Relayed,
}

impl Known {
    fn way(&self) -> Way {
        if self.via.is_none() { Way::Direct } else { Way::Relayed }
    }
}

fn is_dialled_quic(tunnel: &dyn Tunnel) -> bool {
    tunnel.transport() == Transport::Quic && tunnel.status().direction == Direction::Dialled
}

fn carrier(tunnel: &dyn Tunnel) -> Carrier {
    Carrier::of(tunnel.transport())
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

fn is_open(tunnel: &dyn Tunnel) -> bool {
    tunnel.health() == TunnelHealth::Live && tunnel.can_open()
}

//! The gateways of linked clusters, as one core knows them: its tunnels to them, and the dialling of new ones.

pub(crate) mod bound;
pub(crate) mod choose;
mod dial;
pub(crate) mod join;
pub(crate) mod quic;
mod setup;

pub(crate) use dial::{LinkStates, Links};
pub(crate) use setup::{TlsConfigs, accept};

use crate::{
    board::Board,
    status::{ChoiceReport, TunnelReport},
    tunnel::{OpenRequest, Refusal, RefusalReason, Tunnel, TunnelHealth, TunnelStream},
};
use choose::{Carrier, Chooser, Facts};
use isthmus_control_api::{ClusterName, Table};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Instant, SystemTime},
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
}

impl Peers {
    /// Opens a stream on the least loaded live tunnel to `cluster` of the carrier that was chosen, or on another one if that
    /// refuses.
    ///
    /// # Errors
    /// There is no live tunnel, or none takes the stream.
    pub(crate) fn open(&self, cluster: &ClusterName, request: &OpenRequest) -> Result<Opened, Refusal> {
        let mut tunnels = self.live(cluster);
        // Datagrams are best as datagrams: a lost one holds up nobody.
        let chosen = if request.service.protocol.is_tcp() { self.chosen(cluster) } else { Carrier::Quic };
        tunnels.sort_by_cached_key(|tunnel| (carrier(&**tunnel) != chosen, tunnel.load()));
        let message = format!("no live tunnel to {cluster}");
        let mut refusal = Refusal { reason: RefusalReason::TunnelLost, message, retry: true };
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

    /// What each tunnel tells of itself.
    pub(crate) fn report(&self) -> Vec<TunnelReport> {
        let tunnels = self.tunnels.borrow();
        let tunnels = tunnels.iter().flat_map(|(cluster, tunnels)| tunnels.iter().map(move |known| (cluster, known)));
        let report = |(cluster, known): (&ClusterName, &Known)| TunnelReport {
            cluster: cluster.clone(),
            status: known.tunnel.status(),
            cert_expiry: known.expiry,
        };
        tunnels.map(report).collect()
    }

    /// Measures the paths and chooses anew. Every second.
    pub(crate) fn choose(&self, now: Instant) {
        let (tunnels, mut choosers) = (self.tunnels.borrow(), self.choosers.borrow_mut());
        choosers.retain(|cluster, _| tunnels.get(cluster).is_some_and(|tunnels| !tunnels.is_empty()));
        for (cluster, tunnels) in tunnels.iter().filter(|(_, tunnels)| !tunnels.is_empty()) {
            let chooser = choosers.entry(cluster.clone()).or_insert_with(Chooser::new);
            chooser.look(&facts(tunnels, Carrier::Tcp), &facts(tunnels, Carrier::Quic), now);
        }
    }

    /// What was chosen for each cluster, and why.
    pub(crate) fn choices(&self) -> Vec<ChoiceReport> {
        let choosers = self.choosers.borrow();
        let chosen = choosers.iter().filter_map(|(cluster, chooser)| Some((cluster, chooser.choice()?)));
        let report = |(cluster, choice): (&ClusterName, choose::Choice)| {
            let live = self.live(cluster).into_iter().find(|tunnel| carrier(&**tunnel) == choice.carrier)?;
            let transport = live.status().transport;
            Some(ChoiceReport { cluster: cluster.clone(), transport, reason: choice.reason.to_string() })
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

    fn live(&self, cluster: &ClusterName) -> Vec<Rc<dyn Tunnel>> {
        let tunnels = self.tunnels.borrow();
        let tunnels = tunnels.get(cluster).into_iter().flatten().map(|known| &known.tunnel);
        tunnels.filter(|tunnel| is_open(&***tunnel)).cloned().collect()
    }

    fn add(&self, cluster: &ClusterName, tunnel: Rc<dyn Tunnel>, expiry: Option<SystemTime>) {
        self.tunnels.borrow_mut().entry(cluster.clone()).or_default().push(Known { tunnel, expiry });
    }

    fn remove(&self, cluster: &ClusterName, tunnel: &Rc<dyn Tunnel>) {
        if let Some(tunnels) = self.tunnels.borrow_mut().get_mut(cluster) {
            tunnels.retain(|known| !Rc::ptr_eq(&known.tunnel, tunnel));
        }
    }

    /// Tells the other cores and control how many live tunnels there are.
    fn publish(&self, cluster: &ClusterName, core: usize, board: &Board) {
        board.set(cluster, core, self.live(cluster).len());
    }
}

fn carrier(tunnel: &dyn Tunnel) -> Carrier {
    Carrier::of(tunnel.transport())
}

/// How the live tunnels of a carrier fare together. Counters are those of all that have not ended, so that they only grow.
fn facts(tunnels: &[Known], of: Carrier) -> Facts {
    let mut facts = Facts::default();
    for known in tunnels.iter().filter(|known| carrier(&*known.tunnel) == of) {
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

//! The gateways of linked clusters, as one core knows them: its tunnels to them, and the dialling of new ones.

mod addresses;
pub(crate) mod bound;
pub(crate) mod breaks;
pub(crate) mod choose;
mod connect;
mod dial;
pub(crate) mod join;
mod leave;
mod lookup;
pub(crate) mod loss;
mod measure;
mod open;
pub(crate) mod punch;
pub(crate) mod quic;
pub(crate) mod relayed;
mod setup;
mod shun;
mod slot;
mod spread;

pub(crate) use dial::{LinkStates, Links};
pub(crate) use open::{Opened, Target};
pub(crate) use setup::{TlsConfigs, accept};

use crate::{
    board::{Board, Live},
    status::{BreakReport, TunnelReport},
    tunnel::{Direction, Tunnel, TunnelHealth},
};
use breaks::Breaks;
use choose::{Carrier, Chooser};
use isthmus_control_api::{ClusterName, GatewayId, Table};
use loss::PathLoss;
use shun::Shunned;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

/// The tunnels of one core, by the cluster that they lead to. There are a handful for each.
#[derive(Default)]
pub(crate) struct Peers {
    tunnels: RefCell<BTreeMap<ClusterName, Vec<Known>>>,
    /// What carries new streams, where there is a choice.
    choosers: RefCell<BTreeMap<ClusterName, Chooser>>,
    /// What their paths lose, for people.
    losses: RefCell<BTreeMap<(ClusterName, Carrier), PathLoss>>,
    /// Tunnels that broke.
    breaks: RefCell<BTreeMap<ClusterName, Breaks>>,
    /// Gateways that are asked after others.
    shunned: RefCell<Shunned>,
}

struct Known {
    tunnel: Rc<dyn Tunnel>,
    /// Where it was dialled; `None` where the peer has dialled.
    address: Option<SocketAddr>,
    /// See [`setup::Running::common_port`].
    common_port: bool,
    /// When the peer's certificate expires.
    expiry: Option<SystemTime>,
    /// The cluster that relays it; `None` of a direct one.
    via: Option<ClusterName>,
    /// Whether it goes on only until another one can take its place.
    left: bool,
}

impl Peers {
    /// Whether a stream to `cluster` can be opened on this core.
    pub(crate) fn is_live(&self, cluster: &ClusterName) -> bool {
        self.tunnels.borrow().get(cluster).is_some_and(|tunnels| tunnels.iter().any(|known| is_open(&*known.tunnel)))
    }

    /// Whether there is a live tunnel to `target` on this core that leads to another gateway than this one.
    pub(crate) fn has_beside(&self, target: &Target<'_>, gateway: GatewayId) -> bool {
        self.live(target.cluster).iter().any(|tunnel| target.fits(&**tunnel) && tunnel.gateway() != gateway)
    }

    /// Whether there is a live tunnel to `target` on this core.
    pub(crate) fn has(&self, target: &Target<'_>) -> bool {
        self.live(target.cluster).iter().any(|tunnel| target.fits(&**tunnel))
    }

    /// The gateways that this core has live tunnels to.
    pub(crate) fn gateways(&self, cluster: &ClusterName) -> BTreeSet<GatewayId> {
        self.live(cluster).iter().map(|tunnel| tunnel.gateway()).collect()
    }

    /// Whether a live direct tunnel over `carrier` that this core has dialled and means to keep, other than `own`, leads to `gateway`.
    fn leads_to(
        &self,
        cluster: &ClusterName,
        carrier: Carrier,
        gateway: GatewayId,
        own: Option<&Rc<dyn Tunnel>>,
    ) -> bool {
        let leads_there = |tunnel: &Rc<dyn Tunnel>| {
            let status = tunnel.status();
            let same = own.is_some_and(|own| Rc::ptr_eq(own, tunnel));
            !same && Carrier::of(status.transport) == carrier && status.direction == Direction::Dialled
        };
        let mut live = self.live_if(cluster, |known| known.way() == Way::Direct && !known.left).into_iter();
        gateway.is_known() && live.any(|tunnel| tunnel.gateway() == gateway && leads_there(&tunnel))
    }

    /// Whether there is a live tunnel other than those.
    fn has_others(&self, cluster: &ClusterName, than: &[Rc<dyn Tunnel>]) -> bool {
        self.live(cluster).iter().any(|tunnel| !than.iter().any(|other| Rc::ptr_eq(other, tunnel)))
    }

    /// A tunnel broke: not closed or drained in order.
    fn broke(&self, cluster: &ClusterName, why: &str, now: Instant) {
        self.breaks.borrow_mut().entry(cluster.clone()).or_default().note(why, now);
    }

    /// The links whose tunnels broke of late.
    pub(crate) fn broken(&self, now: Instant) -> Vec<BreakReport> {
        let breaks = self.breaks.borrow();
        let recent = breaks.iter().filter_map(|(cluster, breaks)| Some((cluster, breaks.recent(now)?)));
        recent.map(|(cluster, broken)| BreakReport { cluster: cluster.clone(), broken }).collect()
    }

    /// Whether one can be on a tunnel that is not relayed.
    pub(crate) fn is_direct(&self, cluster: &ClusterName) -> bool {
        !self.direct(cluster).is_empty()
    }

    /// The live tunnels that are not relayed.
    fn direct(&self, cluster: &ClusterName) -> Vec<Rc<dyn Tunnel>> {
        self.live_by(cluster, Way::Direct)
    }

    /// Tunnels to `cluster` that are not relayed and have not ended, whatever state they are in.
    pub(crate) fn count_direct(&self, cluster: &ClusterName) -> usize {
        let tunnels = self.tunnels.borrow();
        tunnels.get(cluster).into_iter().flatten().filter(|known| known.way() == Way::Direct).count()
    }

    /// Whether gateways of `cluster` see where this core's datagrams come from.
    pub(crate) fn sees_us(&self, cluster: &ClusterName) -> bool {
        !self.live_if(cluster, |known| known.way() == Way::Direct && known.common_port).is_empty()
    }

    /// The shortest round trip of the live tunnels to `cluster`; zero while none is measured.
    pub(crate) fn round_trip(&self, cluster: &ClusterName) -> Duration {
        let tunnels = self.tunnels.borrow();
        let live = tunnels.get(cluster).into_iter().flatten().filter(|known| is_open(&*known.tunnel));
        live.filter_map(|known| known.tunnel.status().rtt).min().unwrap_or_default()
    }

    /// The tunnels that streams can be opened on.
    pub(crate) fn each(&self) -> Vec<(ClusterName, Rc<dyn Tunnel>)> {
        let tunnels = self.tunnels.borrow();
        let open = tunnels.iter().flat_map(|(cluster, tunnels)| tunnels.iter().map(move |known| (cluster, known)));
        let open = open.filter(|(_, known)| is_open(&*known.tunnel));
        open.map(|(cluster, known)| (cluster.clone(), known.tunnel.clone())).collect()
    }

    /// What each tunnel tells of itself.
    pub(crate) fn report(&self) -> Vec<TunnelReport> {
        let tunnels = self.tunnels.borrow();
        let tunnels = tunnels.iter().flat_map(|(cluster, tunnels)| tunnels.iter().map(move |known| (cluster, known)));
        let report = |(cluster, known): (&ClusterName, &Known)| TunnelReport {
            cluster: cluster.clone(),
            status: known.tunnel.status(),
            address: known.address,
            cert_expiry: known.expiry,
            via: known.via.clone(),
        };
        tunnels.map(report).collect()
    }

    /// Closes tunnels to clusters that the table has no link with: trust ends with the link.
    pub(crate) fn close_unlinked(&self, table: &Table) {
        self.breaks.borrow_mut().retain(|cluster, _| table.links.contains_key(cluster));
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
        let mut tunnels = self.live_by(cluster, Way::Direct);
        tunnels.append(&mut self.live_by(cluster, Way::Relayed));
        tunnels
    }

    fn live_by(&self, cluster: &ClusterName, way: Way) -> Vec<Rc<dyn Tunnel>> {
        self.live_if(cluster, |known| known.way() == way)
    }

    fn live_if(&self, cluster: &ClusterName, fits: impl Fn(&Known) -> bool) -> Vec<Rc<dyn Tunnel>> {
        let tunnels = self.tunnels.borrow();
        let tunnels = tunnels.get(cluster).into_iter().flatten().filter(|known| fits(known));
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

    /// Tells the other cores and control which live tunnels there are.
    fn publish(&self, cluster: &ClusterName, core: usize, board: &Board) {
        let mut live = Live::new();
        for tunnel in self.live(cluster) {
            *live.entry(tunnel.gateway()).or_default() += 1;
        }
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

fn carrier(tunnel: &dyn Tunnel) -> Carrier {
    Carrier::of(tunnel.transport())
}

fn is_open(tunnel: &dyn Tunnel) -> bool {
    tunnel.health() == TunnelHealth::Live && tunnel.can_open()
}

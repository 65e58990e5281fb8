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
pub(crate) mod punch;
pub(crate) mod quic;
pub(crate) mod relayed;
mod setup;
mod shun;
mod slot;
mod spread;

pub(crate) use dial::{LinkStates, Links};
pub(crate) use setup::{TlsConfigs, accept};

use crate::{
    board::{Board, Live},
    relay::Over,
    status::{BreakReport, ChoiceReport, LossReport, TunnelReport},
    tunnel::{Direction, OpenRequest, Refusal, RefusalReason, Tunnel, TunnelHealth, TunnelStream},
};
use breaks::Breaks;
use choose::{Carrier, Chooser, Facts};
use isthmus_control_api::{ClusterName, GatewayId, ServicePort, Table};
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

/// Which tunnels a stream may be opened on.
pub(crate) struct Target<'a> {
    /// Those that lead to this cluster.
    pub(crate) cluster: &'a ClusterName,
    /// If given, to this gateway of it only.
    pub(crate) only: Option<GatewayId>,
    /// But not to these, which have refused it.
    pub(crate) not: Vec<GatewayId>,
}

impl<'a> Target<'a> {
    /// Those to any gateway of `cluster`.
    pub(crate) fn any(cluster: &'a ClusterName) -> Self {
        Self { cluster, only: None, not: Vec::new() }
    }

    fn fits(&self, tunnel: &dyn Tunnel) -> bool {
        let gateway = tunnel.gateway();
        self.only.is_none_or(|only| only == gateway) && !self.not.contains(&gateway)
    }
}

/// A stream that was asked for, and the tunnel that it is on.
pub(crate) type Opened = (Box<dyn TunnelStream>, Rc<dyn Tunnel>);

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
}

impl Peers {
    /// Opens a stream on the least loaded live tunnel to `target` of the carrier that was chosen, or on another one if that refuses; on
    /// a relayed one if there is no direct one.
    ///
    /// # Errors
    /// There is no live tunnel, or none takes the stream.
    pub(crate) fn open(&self, target: &Target<'_>, request: &OpenRequest) -> Result<Opened, Refusal> {
        let cluster = target.cluster;
        let message = format!("no live tunnel to {cluster}");
        let none = Refusal { reason: RefusalReason::TunnelLost, message, retry: true };
        let fitting = |way| {
            let mut tunnels = self.live_by(cluster, way);
            tunnels.retain(|tunnel| target.fits(&**tunnel));
            tunnels
        };
        let direct = self.open_on(fitting(Way::Direct), cluster, request, none);
        direct.or_else(|refusal| self.open_on(fitting(Way::Relayed), cluster, request, refusal))
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
        let tunnels =
            self.live_if(cluster, |known| known.way() == Way::Direct && (over == Over::Any || known.common_port));
        self.open_on(tunnels, cluster, request, none)
    }

    fn open_on(
        &self,
        mut tunnels: Vec<Rc<dyn Tunnel>>,
        cluster: &ClusterName,
        request: &OpenRequest,
        none: Refusal,
    ) -> Result<Opened, Refusal> {
        // Datagrams are best as datagrams: a lost one holds up nobody.
        let chosen = if request.service.protocol.is_tcp() { self.chosen(cluster) } else { Carrier::Quic };
        let (shunned, now) = (self.shunned.borrow(), Instant::now());
        tunnels.sort_by_cached_key(|tunnel| {
            let shunned = shunned.has(&request.service, tunnel.gateway(), now);
            (shunned, carrier(&**tunnel) != chosen, tunnel.load())
        });
        drop(shunned);
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

    /// A gateway could not serve a stream that another one of its cluster may: others are asked before it for a while.
    pub(crate) fn shun(&self, service: &ServicePort, gateway: GatewayId) {
        self.shunned.borrow_mut().note(service, gateway, Instant::now());
    }

    /// A gateway serves a stream.
    pub(crate) fn unshun(&self, service: &ServicePort, gateway: GatewayId) {
        self.shunned.borrow_mut().clear(service, gateway);
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

    /// Whether a live direct tunnel over `carrier` that this core has dialled, other than `own`, leads to `gateway`.
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
        let mut live = self.live_by(cluster, Way::Direct).into_iter();
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

    fn chosen(&self, cluster: &ClusterName) -> Carrier {
        // Before anything was measured it is what costs less CPU.
        let chosen = self.choosers.borrow().get(cluster).and_then(Chooser::choice);
        chosen.map_or(Carrier::Tcp, |choice| choice.carrier)
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

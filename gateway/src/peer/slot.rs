//! One tunnel that a core keeps dialled: a new one as soon as the last is of no use, with growing waits in between.

use super::{
    choose::Carrier,
    connect::{self, Dial},
    setup::Running,
    spread::{Place, Search},
};
use crate::{
    core::Core,
    metrics::reasons::DialFailure,
    status,
    tunnel::{PeerIdentity, Tunnel, TunnelHealth, link},
};
use isthmus_control_api::{ClusterName, GatewayId, TransportChoice};
use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
};

/// Tunnels that were left for a new one and have not ended yet, a slot: more are not dialled meanwhile.
pub(super) const LEFT: usize = 2;

/// The shortest time before a peer that has declined a tunnel is asked again; the longest is twice that.
const DECLINED: Duration = Duration::from_mins(5);

/// Which of a link's slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) transport: TransportChoice,
}

/// What is known of one.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) link: link::Link,
    /// The gateway that its last tunnel led to, where another tunnel leads there: it has none of its own meanwhile.
    pub(crate) same: Option<GatewayId>,
    /// How many tunnels the peer takes of this gateway, if it does not take this one.
    pub(crate) declined: Option<u32>,
    /// Whether only small packets got through to there, the last time that it mattered.
    pub(crate) small: bool,
    /// The tunnel that is there.
    tunnel: Option<Weak<dyn Tunnel>>,
}

impl State {
    /// Nothing is known yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { link: link::Link::new(now), same: None, declined: None, small: false, tunnel: None }
    }

    /// The tunnel that is there.
    pub(crate) fn tunnel(&self) -> Option<Rc<dyn Tunnel>> {
        self.tunnel.as_ref().and_then(Weak::upgrade)
    }
}

/// One slot.
pub(super) struct Slot {
    pub(super) core: Rc<Core>,
    pub(super) cluster: ClusterName,
    pub(super) key: Key,
    /// Whether this one finds out whether there are more gateways behind the address, for all cores.
    pub(super) scouts: bool,
    pub(super) state: Rc<RefCell<State>>,
    /// Told when the address does not work.
    pub(super) failed: Rc<Notify>,
}

/// How an attempt ended.
enum End {
    /// The tunnel that there was failed or was left, for this reason.
    Down(String),
    /// There was none, for this reason.
    Failed(String),
    /// There was a connection, and the handshake got stuck on it: large packets may vanish.
    Stalled(String),
    /// It led to a gateway that another tunnel leads to.
    Same(GatewayId),
    /// The peer takes no more than so many tunnels of this gateway, and there are others.
    Declined(u32),
}

impl Slot {
    /// Keeps the tunnel, for ever.
    pub(super) async fn keep(self) {
        let left = Arc::new(Semaphore::new(LEFT));
        let mut search = Search::default();
        // From a port of its own: what is between may take all that comes from one port to one gateway.
        let (mut anew, mut small) = (self.key.place.spare, false);
        loop {
            self.wait(&mut search).await;
            trusted(&self.core, &self.cluster, &self.state).await;
            let Ok(permit) = left.clone().acquire_owned().await else { return };
            self.state.borrow_mut().link.dialling(Instant::now());
            let end = self.attempt(anew, small, permit, &mut search).await;
            let (now, random) = (Instant::now(), self.core.random());
            let failed = matches!(end, End::Failed(_) | End::Stalled(_));
            let known = self.elsewhere().next().is_some();
            let mut state = self.state.borrow_mut();
            state.tunnel = None;
            match end {
                End::Same(gateway) => {
                    state.same = Some(gateway);
                    state.link.rest(now, search.in_vain(known, now, random));
                }
                End::Declined(limit) => {
                    note_declined(&self.core, &self.cluster, limit);
                    state.declined = Some(limit);
                    state.link.rest(now, now + rest(random));
                }
                End::Down(why) | End::Failed(why) => {
                    self.tell(&why);
                    state.link.down(now, &why, random);
                    small = false;
                }
                End::Stalled(why) => {
                    self.tell(&why);
                    state.link.down(now, &why, random);
                    // In turn: where small packets do not get through either, they are not the reason.
                    small = !small;
                }
            }
            anew = self.key.place.spare || !self.is_relay() || is_anew_in_turn(failed, anew);
            drop(state);
            self.failed.notify_one();
        }
    }

    /// Whether the peer relays for other links: then it has to see the port that this core dials those from.
    fn is_relay(&self) -> bool {
        self.core.table.borrow().links.values().any(|link| link.relay.as_ref() == Some(&self.cluster))
    }

    fn tell(&self, why: &str) {
        let (cluster, address) = (&self.cluster, self.key.place.address);
        if self.key.transport == TransportChoice::Quic && self.core.peers.is_live(cluster) {
            // Where UDP does not get through, that is how it is; the link works.
            tracing::debug!(%cluster, %address, %why, "no tunnel over QUIC");
        } else {
            tracing::warn!(%cluster, %address, %why, "no tunnel");
        }
    }

    /// Waits until it is time to dial.
    async fn wait(&self, search: &mut Search) {
        let mut board = self.core.common.board.subscribe();
        loop {
            let changed = self.core.changed.notified();
            let (at, same) = {
                let state = self.state.borrow();
                (state.link.dial_at().unwrap_or_else(Instant::now), state.same)
            };
            let news = same.is_some_and(|gateway| !self.leads_to(gateway)) || self.is_missing(search);
            if self.may_dial() && (Instant::now() >= at || news) {
                self.state.borrow_mut().same = None;
                return;
            }
            let may = self.may_dial();
            tokio::select! {
                () = tokio::time::sleep_until(at.into()), if may => {}
                () = changed => {}
                Ok(()) = board.changed() => {}
            }
        }
    }

    /// Whether there is any point in dialling: a spare has to have something to differ from, and a reason to think that it can.
    fn may_dial(&self) -> bool {
        if !self.key.place.spare {
            return true;
        }
        let here = self.core.peers.gateways(&self.cluster);
        let known = !here.is_empty() && here.iter().all(|gateway| gateway.is_known());
        known && (self.scouts || self.elsewhere().next().is_some())
    }

    /// Gateways that other cores have tunnels to, and this one has not.
    fn elsewhere(&self) -> impl Iterator<Item = GatewayId> {
        let here = self.core.peers.gateways(&self.cluster);
        let there = self.core.common.board.gateways(&self.cluster);
        there.into_iter().filter(move |gateway| gateway.is_known() && !here.contains(gateway))
    }

    /// Whether a gateway has come up that this core has no tunnel to, as other cores know.
    fn is_missing(&self, search: &mut Search) -> bool {
        self.key.place.spare && search.is_news(self.elsewhere().collect())
    }

    /// Whether another tunnel that this core has dialled leads to `gateway`.
    fn leads_to(&self, gateway: GatewayId) -> bool {
        let own = self.state.borrow().tunnel();
        self.core.peers.leads_to(&self.cluster, Carrier::from(self.key.transport), gateway, own.as_ref())
    }

    /// Dials once, and waits until the tunnel is of no use any more. It may go on then, until its last stream has ended, or come
    /// back to life.
    async fn attempt(&self, anew: bool, small: bool, permit: OwnedSemaphorePermit, search: &mut Search) -> End {
        let core = &self.core;
        let dial = Dial { transport: self.key.transport, address: self.key.place.address, anew, small };
        let (running, peer) = match connect::dial(core, &self.cluster, &dial).await {
            Ok(dialled) => dialled,
            Err(error) => {
                core.counters.dial_failed(error.dial_failure());
                if let Some(reason) = error.refusal().filter(|_| error.dial_failure() == DialFailure::Handshake) {
                    core.counters.handshake_refused(reason);
                    let cluster = &self.cluster;
                    tracing::warn!(%cluster, reason = reason.as_str(), %error, "refused a peer");
                }
                let why = error.to_string();
                return if error.is_stall() { End::Stalled(why) } else { End::Failed(why) };
            }
        };
        let tunnel = running.tunnel.clone();
        let held = match hold(core, running, peer, permit).await {
            Ok(held) => held,
            Err(why) => return End::Failed(why),
        };
        self.state.borrow_mut().tunnel = Some(Rc::downgrade(&tunnel));
        let gateway = tunnel.gateway();
        if self.leads_to(gateway) {
            tunnel.drain();
            return End::Same(gateway);
        }
        search.found();
        {
            let mut state = self.state.borrow_mut();
            state.link.up(Instant::now());
            (state.small, state.declined) = (small, None);
        }
        let why = held.until_useless().await;
        if let Some(limit) = tunnel.declined() {
            return End::Declined(limit);
        }
        if core.peers.gateways(&self.cluster).iter().any(|&other| other.is_known() && other != gateway) {
            search.saw_several(Instant::now());
        }
        End::Down(why)
    }
}

/// How long a slot does without a tunnel that the peer has declined: evenly at random, so that not all cores ask again at once.
fn rest(random: u64) -> Duration {
    let span = u128::from(random) * DECLINED.as_nanos();
    // The high half of the product: less than `DECLINED`, which fits 64 bits.
    DECLINED + Duration::from_nanos((span >> 64) as u64)
}

fn note_declined(core: &Core, cluster: &ClusterName, limit: u32) {
    core.counters.dial_failed(DialFailure::Declined);
    tracing::info!(%cluster, limit, core = core.id, "the peer takes no more tunnels of this gateway: the core does without this one");
}

/// Whether a relay is dialled from a port of its own next: the relay is to see the common one, but what is between may have got stuck
/// on that, so after failures they take turns.
fn is_anew_in_turn(failed: bool, anew: bool) -> bool {
    failed && !anew
}

/// Waits until there is a bundle of `cluster`: without one it would be dialled in vain.
pub(super) async fn trusted(core: &Core, cluster: &ClusterName, state: &RefCell<State>) {
    let mut changes = core.common.identity.subscribe();
    let untrusted = || core.common.identity.current().bundle(cluster).is_none();
    if !untrusted() {
        return;
    }
    let bundle = core.common.identity.directory().map(|directory| directory.bundle_path(cluster));
    let why = status::untrusted(cluster.as_str(), bundle.as_deref());
    state.borrow_mut().link.down(Instant::now(), &why, core.random());
    while untrusted() && changes.changed().await.is_ok() {}
    state.borrow_mut().link.hurry(Instant::now());
}

/// A tunnel that was dialled, and whose peer has said HELLO.
pub(super) struct Held {
    life: JoinHandle<String>,
    health: watch::Receiver<TunnelHealth>,
}

/// Runs a tunnel that was dialled.
///
/// # Errors
/// Its peer did not say HELLO: why.
pub(super) async fn hold(
    core: &Rc<Core>,
    running: Running,
    peer: Rc<PeerIdentity>,
    permit: OwnedSemaphorePermit,
) -> Result<Held, String> {
    let tunnel = running.tunnel.clone();
    let mut health = tunnel.watch();
    let core_ = core.clone();
    let life = core.tasks.spawn_local(async move {
        let end = running.live(&core_, &peer).await;
        drop(permit);
        end
    });
    let ready = health.wait_for(|&health| health != TunnelHealth::Starting);
    if tokio::time::timeout(core.common.config.handshake_timeout, ready).await.is_err() {
        tunnel.close();
        return Err("the peer did not say HELLO".into());
    }
    if tunnel.health() == TunnelHealth::Closed {
        // With TLS 1.3 whoever dials is done before the other side has looked at its certificate.
        let why = life.await.unwrap_or_else(|_| "ended".into());
        return Err(format!("the peer ended it before its HELLO: {why}; see its log, and its status"));
    }
    Ok(Held { life, health })
}

impl Held {
    /// Waits until it is of no use any more: why. It may go on then.
    pub(super) async fn until_useless(mut self) -> String {
        tokio::select! {
            end = &mut self.life => end.unwrap_or_else(|_| "ended".into()),
            left = self.health.wait_for(|&health| health != TunnelHealth::Live) => {
                match left.map_or(TunnelHealth::Closed, |health| *health) {
                    TunnelHealth::Unresponsive => "the peer does not answer".into(),
                    TunnelHealth::Draining => "the peer is draining".into(),
                    _ => self.life.await.unwrap_or_else(|_| "ended".into()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

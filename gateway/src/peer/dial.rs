//! Keeps the tunnels that this core dials: one a slot, a new one as soon as the last is of no use, with growing waits in between.

use super::{relayed, setup};
use crate::{
    core::Core,
    metrics::reasons::DialFailure,
    tunnel::{PeerIdentity, TunnelHealth, link},
};
use isthmus_control_api::{ClusterName, Link, PeerAddress, Table, TransportChoice};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Tunnels that were left for a new one and have not ended yet, a slot: more are not dialled meanwhile.
pub(super) const LEFT: usize = 2;

/// What is known of each tunnel that a core dials, by cluster and slot.
pub(crate) type LinkStates = BTreeMap<ClusterName, BTreeMap<usize, Rc<RefCell<link::Link>>>>;

/// One core's diallers, by the cluster that they dial.
#[derive(Default)]
pub(crate) struct Links(BTreeMap<ClusterName, Dialler>);

struct Dialler {
    link: Link,
    slots: Vec<JoinHandle<()>>,
}

impl Drop for Dialler {
    fn drop(&mut self) {
        self.slots.iter().for_each(JoinHandle::abort);
    }
}

impl Links {
    /// Dials what the table has and stops dialling what it has not.
    pub(crate) fn reconcile(&mut self, core: &Rc<Core>, table: &Table) {
        self.0.retain(|cluster, dialler| table.links.get(cluster) == Some(&dialler.link));
        core.peers.close_unlinked(table);
        core.link_states.borrow_mut().retain(|cluster, _| table.links.contains_key(cluster));
        for (cluster, link) in &table.links {
            if self.0.contains_key(cluster) || (link.endpoints.is_empty() && link.relay.is_none()) {
                continue;
            }
            let each = if link.endpoints.is_empty() { 0 } else { core.common.config.tunnels_per_core };
            let choices = choices(link.transport).iter().flat_map(|&choice| std::iter::repeat_n(choice, each));
            let slots = choices.enumerate().map(|(slot, choice)| {
                let link = Link { transport: choice, ..link.clone() };
                core.tasks.spawn_local(keep(core.clone(), cluster.clone(), link, slot))
            });
            let relay = link.relay.iter().filter(|_| relayed::dials(core, cluster));
            let relayed =
                relay.map(|relay| core.tasks.spawn_local(relayed::keep(core.clone(), cluster.clone(), relay.clone())));
            self.0.insert(cluster.clone(), Dialler { link: link.clone(), slots: slots.chain(relayed).collect() });
        }
    }
}

/// What a link dials with. Both are kept where `auto` has found them to work: new streams go over what [`super::choose`] says.
fn choices(transport: TransportChoice) -> &'static [TransportChoice] {
    match transport {
        // Over TCP it is `auto` still: what both speak of TLS and HTTP/2.
        TransportChoice::Auto => &[TransportChoice::Auto, TransportChoice::Quic],
        TransportChoice::Tls => &[TransportChoice::Tls],
        TransportChoice::Quic => &[TransportChoice::Quic],
        TransportChoice::H2 => &[TransportChoice::H2],
    }
}

/// Keeps one tunnel to `cluster`, for ever.
async fn keep(core: Rc<Core>, cluster: ClusterName, link: Link, slot: usize) {
    let state = Rc::new(RefCell::new(link::Link::new(Instant::now())));
    core.link_states.borrow_mut().entry(cluster.clone()).or_default().insert(slot, state.clone());
    let left = std::sync::Arc::new(tokio::sync::Semaphore::new(LEFT));
    let mut next = core.id + slot;
    loop {
        let at = state.borrow().dial_at();
        if let Some(at) = at {
            tokio::time::sleep_until(at.into()).await;
        }
        trusted(&core, &cluster, &state).await;
        let Ok(permit) = left.clone().acquire_owned().await else { return };
        state.borrow_mut().dialling(Instant::now());
        let address = &link.endpoints[next % link.endpoints.len()];
        next += 1;
        let why = attempt(&core, &cluster, &link, address, &state, permit).await;
        if link.transport == TransportChoice::Quic && core.peers.is_live(&cluster) {
            // Where UDP does not get through, that is how it is; the link works.
            tracing::debug!(%cluster, %address, %why, "no tunnel over QUIC");
        } else {
            tracing::warn!(%cluster, %address, %why, "no tunnel");
        }
        let random = core.random();
        state.borrow_mut().down(Instant::now(), &why, random);
    }
}

/// Waits until there is a bundle of `cluster`: without one it would be dialled in vain.
pub(super) async fn trusted(core: &Core, cluster: &ClusterName, state: &RefCell<link::Link>) {
    let mut changes = core.common.identity.subscribe();
    let untrusted = || core.common.identity.current().bundle(cluster).is_none();
    if !untrusted() {
        return;
    }
    state.borrow_mut().down(Instant::now(), "its bundle is not here: it is not trusted", core.random());
    while untrusted() && changes.changed().await.is_ok() {}
    state.borrow_mut().hurry(Instant::now());
}

/// Dials once, and waits until the tunnel is of no use any more: why. It may go on then, until its last stream has ended, or
/// come back to life.
async fn attempt(
    core: &Rc<Core>,
    cluster: &ClusterName,
    link: &Link,
    address: &PeerAddress,
    state: &RefCell<link::Link>,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> String {
    let address = match resolve(address).await {
        Ok(address) => address,
        Err(error) => {
            core.counters.dial_failed(DialFailure::Resolve);
            return error;
        }
    };
    let (running, peer) = match setup::dial(core, cluster, link.transport, address).await {
        Ok(dialled) => dialled,
        Err(error) => {
            core.counters.dial_failed(error.dial_failure());
            if let Some(reason) = error.refusal().filter(|_| error.dial_failure() == DialFailure::Handshake) {
                core.counters.handshake_refused(reason);
                tracing::warn!(%cluster, reason = reason.as_str(), %error, "refused a peer");
            }
            return error.to_string();
        }
    };
    hold(core, running, peer, state, permit).await
}

/// Runs a tunnel that was dialled, and waits until it is of no use any more: why. It may go on then.
pub(super) async fn hold(
    core: &Rc<Core>,
    running: setup::Running,
    peer: Rc<PeerIdentity>,
    state: &RefCell<link::Link>,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> String {
    let tunnel = running.tunnel.clone();
    let mut health = tunnel.watch();
    let core_ = core.clone();
    let mut life = core.tasks.spawn_local(async move {
        let end = running.live(&core_, &peer).await;
        drop(permit);
        end
    });
    let ready = health.wait_for(|&health| health != TunnelHealth::Starting);
    if tokio::time::timeout(core.common.config.handshake_timeout, ready).await.is_err() {
        tunnel.close();
        return "the peer did not say HELLO".into();
    }
    state.borrow_mut().up(Instant::now());
    tokio::select! {
        end = &mut life => end.unwrap_or_else(|_| "ended".into()),
        left = health.wait_for(|&health| health != TunnelHealth::Live) => {
            left.map_or("ended".into(), |health| match *health {
                TunnelHealth::Unresponsive => "the peer does not answer".into(),
                TunnelHealth::Draining => "the peer is draining".into(),
                _ => "ended".into(),
            })
        }
    }
}

/// The first address of a DNS name, looked up anew for each attempt: load balancers move.
async fn resolve(address: &PeerAddress) -> Result<SocketAddr, String> {
    if let Ok(ip) = address.host.parse() {
        return Ok(SocketAddr::new(ip, address.port));
    }
    let lookup = tokio::net::lookup_host((address.host.as_str(), address.port));
    let found = tokio::time::timeout(Duration::from_secs(5), lookup).await;
    let found = found.map_err(|_| format!("looking up {} took over 5 s", address.host))?;
    let mut found = found.map_err(|e| format!("cannot look up {}: {e}", address.host))?;
    found.next().ok_or_else(|| format!("{} has no address", address.host))
}

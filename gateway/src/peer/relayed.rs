//! Tunnels that a third cluster relays: TLS between the two ends, inside a stream of each one's tunnel to the relay.
//!
//! Of two clusters the one whose name comes first dials, one tunnel from each core; so there is one way to think of, and none too many.

use super::{
    punch,
    setup::{self, Running, SetupError},
    slot::{self, State},
};
use crate::{
    core::{Core, said::Line},
    exchange,
    metrics::reasons::Bound,
    relay::{self, Over},
    reserved::Reserved,
    socket::Socket,
    stream::copy,
    tunnel::{
        Direction, PeerIdentity, Refusal, RefusalReason, TunnelHealth, TunnelStream,
        tls::{HandshakeError, handshake},
    },
};
use isthmus_certs::tls;
use isthmus_control_api::{ClusterName, TransportChoice};
use std::{
    cell::RefCell,
    io,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    net::UnixStream,
    sync::{Semaphore, watch},
    task::JoinHandle,
};

/// The longest wait before a relay is asked again: it costs a stream of a tunnel that is there anyway.
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// Over HTTP/2 only the side that has dialled can ask for streams: the relay could not bring anybody here.
const ONE_WAY: &str = "its link has transport h2, over which nothing is relayed; expected auto, quic or tls";

/// Where a relayed tunnel's bytes go.
pub(super) struct Via {
    /// The cluster that relays them.
    pub(super) relay: ClusterName,
    /// How the tunnel to it fares, where this side has asked for the way.
    outer: Option<watch::Receiver<TunnelHealth>>,
    /// Copies between the tunnel's socket and the stream.
    _copying: Copying,
}

/// Ends the copying when it is dropped.
pub(super) struct Copying {
    task: JoinHandle<()>,
    ends: bool,
}

impl Copying {
    /// Lets it go on by itself to the end of the stream: both ways have been said to end.
    pub(super) fn finish(mut self) {
        self.ends = false;
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        if self.ends {
            self.task.abort();
        }
    }
}

/// What a relayed tunnel's surroundings ask of it.
pub(super) enum Leave {
    /// The relay drains.
    Drain,
    /// The link has this relay no more.
    Close,
}

/// Whether it is this side that dials `cluster`.
pub(super) fn dials(core: &Core, cluster: &ClusterName) -> bool {
    core.common.config.cluster < *cluster
}

/// Keeps one tunnel to `cluster` through `hub`, for ever; `state` has what is known of it.
pub(super) async fn keep(core: Rc<Core>, cluster: ClusterName, hub: ClusterName, state: Rc<RefCell<State>>) {
    let left = std::sync::Arc::new(Semaphore::new(slot::LEFT));
    // Longer than any one tunnel: who breaks that is not tried with at once again.
    let mut schedule = punch::Schedule::new(Instant::now());
    let mut said = None;
    loop {
        let at = state.borrow().link.dial_at();
        if let Some(at) = at {
            tokio::time::sleep_until(at.min(Instant::now() + MOST_PATIENCE).into()).await;
        }
        slot::trusted(&core, &cluster, &state).await;
        reachable(&core, &hub, &state).await;
        let Ok(permit) = left.clone().acquire_owned().await else { return };
        state.borrow_mut().link.dialling(Instant::now());
        let why = match dial(&core, &cluster, &hub).await {
            Ok((running, peer)) => {
                let tunnel = running.tunnel.clone();
                let held = async {
                    match slot::hold(&core, running, peer, permit).await {
                        Ok(held) => {
                            state.borrow_mut().link.up(Instant::now());
                            said = None;
                            held.until_useless().await
                        }
                        Err(why) => why,
                    }
                };
                tokio::select! {
                    why = held => why,
                    never = punch::keep(&core, &cluster, &hub, &*tunnel, &mut schedule) => match never {},
                }
            }
            Err(error) => {
                core.counters.dial_failed(error.dial_failure());
                if let Some(reason) = error.refusal() {
                    core.counters.handshake_refused(reason);
                }
                error.to_string()
            }
        };
        if said.as_ref() == Some(&why) {
            tracing::debug!(%cluster, relay = %hub, %why, "no relayed tunnel");
        } else {
            tracing::warn!(%cluster, relay = %hub, %why, "no relayed tunnel");
            said = Some(why.clone());
        }
        let random = core.random();
        state.borrow_mut().link.down(Instant::now(), &why, random);
    }
}

/// Waits until there is a tunnel to the relay itself.
async fn reachable(core: &Core, hub: &ClusterName, state: &RefCell<State>) {
    let mut told = None;
    loop {
        let changed = core.changed.notified();
        let wrong = {
            let table = core.table.borrow();
            match table.links.get(hub) {
                None => Some("it is not linked"),
                Some(link) if link.transport == TransportChoice::H2 => Some(ONE_WAY),
                Some(_) if !core.peers.is_direct(hub) => Some("no tunnel to it"),
                Some(_) => None,
            }
        };
        let Some(why) = wrong else { return };
        if told.replace(why) != Some(why) {
            state.borrow_mut().link.down(Instant::now(), &format!("relay {hub}: {why}"), core.random());
        }
        changed.await;
    }
}

/// Dials through the relay.
async fn dial(
    core: &Rc<Core>,
    cluster: &ClusterName,
    hub: &ClusterName,
) -> Result<(Running, Rc<PeerIdentity>), SetupError> {
    setup::within(core, async {
        let (stream, outer) = relay::ask(core, hub, &Reserved::RelayTo(cluster.clone()), Over::Any).await?;
        let (socket, copying) = carried(core, stream)?;
        let via = Via { relay: hub.clone(), outer: Some(outer.watch()), _copying: copying };
        let config = core.common.tls.client(cluster, TransportChoice::Tls).map_err(HandshakeError::from)?;
        let name = tls::server_name(&core.common.identity, cluster).map_err(HandshakeError::from)?;
        let handshaken = handshake::dial(config, name, socket).await?;
        let running = setup::start_relayed(core, handshaken, Direction::Dialled, via)?;
        core.counters.handshake(Direction::Dialled);
        Ok(running)
    })
    .await
}

/// Takes a tunnel that `hub` says `from` has dialled through it. Who it really is, the handshake shows.
pub(crate) fn accept(core: &Rc<Core>, hub: &PeerIdentity, from: ClusterName, mut stream: Box<dyn TunnelStream>) {
    let own = &core.common.config.cluster;
    let refusal = |reason, message: String| Refusal { reason, message, retry: true };
    if !is_via(core, &from, &hub.cluster) || from >= *own {
        let message = format!("{own} has no link with {from} that {} is to relay", hub.cluster);
        return stream.refuse(&refusal(RefusalReason::Denied, message));
    }
    let Ok(permit) = core.common.handshakes.clone().try_acquire_owned() else {
        core.counters.refused(Bound::Handshakes);
        return stream.refuse(&refusal(RefusalReason::Limit, format!("{own} has too many handshakes under way")));
    };
    stream.accept();
    let (core_, hub) = (core.clone(), hub.cluster.clone());
    core.tasks.spawn_local(async move {
        let core = core_;
        let accepted = setup::within(&core, accepted(&core, &hub, &from, stream)).await;
        drop(permit);
        match accepted {
            // The relay may bring as many as it likes.
            Err(error) if !core.may_say(Line::RefusedRelayed(from.clone()), Instant::now()) => {
                let reason = setup::count(&core, &error);
                tracing::debug!(%from, %hub, reason = reason.as_str(), %error, "refused a peer");
            }
            accepted => setup::live_accepted(&core, accepted, format_args!("{from} through {hub}")).await,
        }
    });
}

async fn accepted(
    core: &Rc<Core>,
    hub: &ClusterName,
    from: &ClusterName,
    stream: Box<dyn TunnelStream>,
) -> Result<(Running, Rc<PeerIdentity>), SetupError> {
    let (socket, copying) = carried(core, stream)?;
    let via = Via { relay: hub.clone(), outer: None, _copying: copying };
    let handshaken = handshake::accept(core.common.tls.isthmus_server(), socket).await?;
    let (running, peer) = setup::start_relayed(core, handshaken, Direction::Accepted, via)?;
    if peer.cluster == *from {
        return Ok((running, peer));
    }
    Err(SetupError::Identity(format!("found {} at the other end of the relay, expected {from}", peer.id)))
}

/// A socket whose bytes go through the stream, for as long as the other value lives.
pub(super) fn carried(core: &Rc<Core>, mut stream: Box<dyn TunnelStream>) -> io::Result<(UnixStream, Copying)> {
    let (ours, theirs) = exchange::pair()?;
    let (ours, theirs) = (Rc::new(Socket::new(ours)?), UnixStream::from_std(theirs)?);
    let copying = core.tasks.spawn_local(async move {
        copy::copy(&mut *stream, &ours, None, &mut ()).await;
    });
    Ok((theirs, Copying { task: copying, ends: true }))
}

/// Waits until a tunnel has to leave its relay; for ever with one that has none.
pub(super) async fn leaving(core: &Core, cluster: &ClusterName, via: Option<&Via>) -> Leave {
    let Some(via) = via else { return std::future::pending().await };
    let draining = async {
        if let Some(mut outer) = via.outer.clone()
            && outer.wait_for(|&health| health == TunnelHealth::Draining).await.is_ok()
        {
            return;
        }
        // It ends, and the stream with it.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = draining => Leave::Drain,
        () = revoked(core, cluster, &via.relay) => Leave::Close,
    }
}

async fn revoked(core: &Core, cluster: &ClusterName, hub: &ClusterName) {
    loop {
        let changed = core.changed.notified();
        if !is_via(core, cluster, hub) {
            return;
        }
        changed.await;
    }
}

/// Whether the table has a link with `cluster` that `hub` is to relay.
fn is_via(core: &Core, cluster: &ClusterName, hub: &ClusterName) -> bool {
    core.table.borrow().links.get(cluster).is_some_and(|link| link.relay.as_ref() == Some(hub))
}

#[cfg(test)]
pub(super) mod tests;

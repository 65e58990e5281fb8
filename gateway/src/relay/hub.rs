//! The relay's side: is it allowed, who has a tunnel there, and copying.

use super::{Over, ask, pace::Paced, pairs::Passage};
use crate::{
    core::{Core, Mail, said::Line},
    exchange,
    metrics::reasons::Bound,
    reserved::Reserved,
    socket::Socket,
    stream::copy,
    tunnel::{PeerIdentity, Refusal, RefusalReason, TunnelStream},
};
use isthmus_control_api::{ClusterName, Table};
use std::{os::fd::OwnedFd, rc::Rc, sync::Arc, time::Instant};
use tokio::sync::oneshot;

/// The way on from a relay, which may begin on another core: the bytes go through a pair of sockets.
pub(crate) struct Leg {
    passage: Arc<Passage>,
    socket: OwnedFd,
    /// What the cluster at the end says.
    answer: oneshot::Sender<Result<(), Refusal>>,
}

/// Serves a stream by which `peer` asks for a way to the cluster `to`.
pub(crate) async fn serve(core: Rc<Core>, peer: Rc<PeerIdentity>, to: ClusterName, mut stream: Box<dyn TunnelStream>) {
    match begin(&core, &peer.cluster, &to).await {
        Ok((passage, socket)) => {
            tracing::debug!(from = %passage.from, to = %passage.to, "relaying a tunnel");
            stream.accept();
            carry(&core, passage, stream, &socket).await;
        }
        Err(refusal) => {
            let from = &peer.cluster;
            if core.may_say(Line::NotRelayed(from.clone()), Instant::now()) {
                tracing::info!(%from, %to, %refusal, "refused to relay a tunnel");
            } else {
                tracing::debug!(%from, %to, %refusal, "refused to relay a tunnel");
            }
            stream.refuse(&refusal);
        }
    }
}

/// Goes on with a tunnel that was asked for on another core, or on this one.
pub(crate) fn start(core: &Rc<Core>, leg: Leg) {
    let core_ = core.clone();
    core.streams.spawn_local(async move {
        let (core, Leg { passage, socket, answer }) = (core_, leg);
        let opened = ask(&core, &passage.to, &Reserved::RelayedFrom(passage.from.clone()), Over::Any).await;
        let Ok(socket) = Socket::new(socket).map(Rc::new) else { return };
        let (told, stream) = match opened {
            Ok((stream, _)) => (answer.send(Ok(())), Some(stream)),
            Err(refusal) => (answer.send(Err(refusal)), None),
        };
        if let (Ok(()), Some(stream)) = (told, stream) {
            carry(&core, passage, stream, &socket).await;
        }
    });
}

async fn begin(core: &Core, from: &ClusterName, to: &ClusterName) -> Result<(Arc<Passage>, Rc<Socket>), Refusal> {
    let refusal = |reason, message: String| Refusal { reason, message, retry: true };
    let relaying = core.table.borrow().relay.clone();
    let own = &core.common.config.cluster;
    if !is_allowed(&core.table.borrow(), from, to) {
        let message = format!("{own} does not relay between {from} and {to}");
        return Err(refusal(RefusalReason::Denied, message));
    }
    let Some(passage) = core.common.metrics.relays.enter(from, to, &relaying) else {
        core.counters.refused(Bound::RelayedTunnels);
        let message = format!("{own} relays {} tunnels between {from} and {to}, and no more", relaying.tunnels);
        return Err(refusal(RefusalReason::Limit, message));
    };
    let passage = Arc::new(passage);
    let none = || refusal(RefusalReason::NoEndpoint, format!("{own} has no tunnel to {to}"));
    let there = if core.peers.is_direct(to) { Some(core.id) } else { core.common.board.core_for(to, core.random()) };
    let there = there.ok_or_else(none)?;
    let failed = |error: std::io::Error| refusal(RefusalReason::Limit, format!("{own} has no sockets: {error}"));
    let (ours, theirs) = exchange::pair().map_err(failed)?;
    let socket = Socket::new(ours).map(Rc::new).map_err(failed)?;
    let (answer, answered) = oneshot::channel();
    let leg = Leg { passage: passage.clone(), socket: theirs.into(), answer };
    if core.common.mailboxes[there].try_send(Mail::Relay(leg)).is_err() {
        return Err(refusal(RefusalReason::Limit, format!("{own} is busy")));
    }
    match answered.await {
        Ok(Ok(())) => Ok((passage, socket)),
        Ok(Err(refused)) => Err(Refusal { message: format!("{to} through {own}: {}", refused.message), ..refused }),
        Err(_) => Err(refusal(RefusalReason::Draining, format!("{own} is draining"))),
    }
}

/// Copies until both ways have ended, or relaying is not allowed any more.
async fn carry(core: &Core, passage: Arc<Passage>, stream: Box<dyn TunnelStream>, socket: &Rc<Socket>) {
    let (mut stream, mut nobody) = (Paced::new(stream, passage.clone()), ());
    tokio::select! {
        biased;
        () = revoked(core, &passage) => {
            tracing::info!(from = %passage.from, to = %passage.to, "a tunnel is not relayed any more");
        }
        _ = copy::copy(&mut stream, socket, None, &mut nobody) => {}
    }
}

async fn revoked(core: &Core, passage: &Passage) {
    loop {
        let changed = core.changed.notified();
        if !is_allowed(&core.table.borrow(), &passage.from, &passage.to) {
            return;
        }
        changed.await;
    }
}

/// Whether the configuration says so, of clusters that are linked with us.
fn is_allowed(table: &Table, from: &ClusterName, to: &ClusterName) -> bool {
    table.relay.allows(from, to) && [from, to].iter().all(|cluster| table.links.contains_key(*cluster))
}

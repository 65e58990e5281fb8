//! The service's side: which endpoint, connect, and copy.

use super::{
    copy,
    guard::{self, Guard},
};
use crate::{
    close::Closed,
    core::{Core, said::Line},
    flow, measure,
    meter::StreamMeter,
    metrics::{reasons::Bound, streams::Side},
    peer::{punch, relayed},
    probe, relay,
    reserved::{self, Reserved},
    socket::Socket,
    tunnel::{Ingress, OpenRequest, PeerIdentity, Refusal, RefusalReason, TunnelStream},
    upstream::{self, Opening},
};
use isthmus_control_api::ClusterName;
use std::{
    io::Write,
    net::{Shutdown, SocketAddr},
    pin::pin,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

/// Takes the streams that peers open on a tunnel of a core. It does not keep the core alive: tunnels hold it, and the core holds
/// them.
pub(crate) struct Incoming {
    pub(crate) core: Weak<Core>,
    /// The cluster that relays the tunnel, if any does.
    pub(crate) relay: Option<ClusterName>,
    /// Where the peer's datagrams come from, over QUIC.
    pub(crate) observed: Option<Observed>,
}

/// Tells where a peer is now.
pub(crate) type Observed = Box<dyn Fn() -> SocketAddr>;

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

impl Ingress for Incoming {
    fn incoming(&self, peer: &Rc<PeerIdentity>, request: OpenRequest, stream: Box<dyn TunnelStream>) {
        let Some(core) = self.core.upgrade() else { return };
        let peer = peer.clone();
        if request.service.service.namespace() == reserved::NAMESPACE {
            self.reserved(core, peer, &request, stream);
        } else {
            let request = Box::new(request);
            let streams = core.streams.clone();
            if request.service.protocol.is_tcp() {
                streams.spawn_local(serve(core, peer, request, stream));
            } else {
                streams.spawn_local(serve_flow(core, peer, request, stream));
            }
        }
    }

    fn is_full(&self) {
        if let Some(core) = self.core.upgrade() {
            core.counters.refused(Bound::StreamsPerTunnel);
        }
    }
}

impl Incoming {
    /// What gateways ask of each other. Nothing that came through a relay is relayed again.
    fn reserved(
        &self,
        core: Rc<Core>,
        peer: Rc<PeerIdentity>,
        request: &OpenRequest,
        mut stream: Box<dyn TunnelStream>,
    ) {
        match Reserved::parse(&request.service) {
            Some(Reserved::Exchange) => drop(core.tasks.clone().spawn_local(serve_exchange(core, peer, stream))),
            Some(Reserved::RelayTo(to)) if self.relay.is_none() => {
                drop(core.streams.clone().spawn_local(relay::serve(core, peer, to, stream)));
            }
            Some(Reserved::RelayedFrom(from)) if self.relay.is_none() => relayed::accept(&core, &peer, from, stream),
            Some(Reserved::RelayTo(_) | Reserved::RelayedFrom(_)) => {
                stream.refuse(&refused(RefusalReason::Denied, "what came through a relay is not relayed again"));
            }
            Some(Reserved::Address) => match self.observed.as_ref().map(|observed| observed()) {
                Some(address) => drop(core.tasks.clone().spawn_local(tell(stream, address))),
                None => stream.refuse(&refused(RefusalReason::NoEndpoint, "this tunnel is not over QUIC")),
            },
            Some(Reserved::Punch) => match &self.relay {
                Some(hub) => drop(core.tasks.clone().spawn_local(punch::serve(core, peer, hub.clone(), stream))),
                None => stream.refuse(&refused(RefusalReason::Denied, "this tunnel is direct already")),
            },
            Some(Reserved::Echo) => {
                drop(core.tasks.clone().spawn_local(probe::serve(probe::Place::take(&core), stream)));
            }
            Some(Reserved::Measure(..)) if self.relay.is_some() => {
                stream
                    .refuse(&refused(RefusalReason::Denied, "this tunnel is relayed: the relay would carry the load"));
            }
            Some(Reserved::Measure(way, id)) => {
                drop(core.tasks.clone().spawn_local(measure::serve(core, peer, (way, id), stream)));
            }
            None => stream.refuse(&refused(RefusalReason::NoSuchExport, "no such reserved service")),
        }
    }
}

/// Tells a peer its address, as it is seen from here.
async fn tell(mut stream: Box<dyn TunnelStream>, address: SocketAddr) {
    stream.accept();
    let Ok((ours, theirs)) = crate::exchange::pair() else { return };
    let Ok(ours) = Socket::new(ours).map(Rc::new) else { return };
    // A pair of sockets takes a line without waiting.
    if Write::write_all(&mut &theirs, address.to_string().as_bytes()).is_ok()
        && theirs.shutdown(Shutdown::Write).is_ok()
    {
        let _ = tokio::time::timeout(TELLING, copy::copy(&mut *stream, &ours, None, &mut ())).await;
    }
}

/// How long a peer may take to hear it.
const TELLING: Duration = Duration::from_secs(5);

fn refused(reason: RefusalReason, message: &str) -> Refusal {
    Refusal { reason, message: message.into(), retry: false }
}

/// Serves a stream. All that opening it takes is in a box: one that is open does not keep room for it.
async fn serve(core: Rc<Core>, peer: Rc<PeerIdentity>, request: Box<OpenRequest>, stream: Box<dyn TunnelStream>) {
    let Some(Begun { mut meter, guard, mut stream, endpoint }) = Box::pin(begin(&core, &peer, request, stream)).await
    else {
        return;
    };
    let mut expiry = meter.held.watch(&endpoint.policy.timeouts);
    let stopped = {
        let copying = pin!(copy::copy(&mut *stream, &endpoint.socket, None, &mut meter));
        guard::watched(&guard, &mut expiry, copying).await
    };
    let closed = stopped.unwrap_or_else(|stopped| {
        stream.reset();
        endpoint.socket.reset_on_close();
        stopped.close(&mut meter)
    });
    if closed == Closed::ResetLocal {
        meter.endpoint_reset();
    }
    drop((endpoint, guard));
    // The stream first: what it still has to tell its peer goes out with what is queued.
    drop(stream);
    meter.close(closed);
}

async fn serve_flow(
    core: Rc<Core>,
    peer: Rc<PeerIdentity>,
    request: Box<OpenRequest>,
    mut stream: Box<dyn TunnelStream>,
) {
    let Some((mut meter, guard)) = let_in(&core, &peer, &request, &mut *stream) else { return };
    let opening = Opening { request: &request, cluster: &peer.cluster };
    let closed = Box::pin(flow::ingress::serve(&core, &opening, stream, &guard, &mut meter)).await;
    meter.close(closed);
}

/// A stream that an endpoint has taken.
struct Begun<'a> {
    meter: StreamMeter<'a>,
    guard: Guard<'a>,
    stream: Box<dyn TunnelStream>,
    endpoint: upstream::Connected,
}

/// Opens a stream; `None` if it was refused.
async fn begin<'a>(
    core: &'a Rc<Core>,
    peer: &PeerIdentity,
    request: Box<OpenRequest>,
    mut stream: Box<dyn TunnelStream>,
) -> Option<Begun<'a>> {
    let (mut meter, guard) = let_in(core, peer, &request, &mut *stream)?;
    let opening = Opening { request: &request, cluster: &peer.cluster };
    match upstream::connect(core, &opening, &mut meter).await {
        Ok(endpoint) => {
            meter.connected();
            stream.accept();
            Some(Begun { meter, guard, stream, endpoint })
        }
        Err(refusal) => {
            refuse(peer, &request, &mut *stream, &refusal);
            drop(stream);
            meter.close(Closed::Refused(refusal.reason));
            None
        }
    }
}

/// Decides whether a stream may use what it asks for; it is refused otherwise.
fn let_in<'a>(
    core: &'a Core,
    peer: &PeerIdentity,
    request: &OpenRequest,
    stream: &mut dyn TunnelStream,
) -> Option<(StreamMeter<'a>, Guard<'a>)> {
    let OpenRequest { service, source, .. } = request;
    let mut meter = StreamMeter::new(core, Side::Ingress, service.clone());
    meter.peer(Some(&peer.cluster));
    meter.follow(request.traceparent.as_deref());
    if let Err(refusal) = source.check(peer) {
        if core.may_say(Line::Forged(peer.cluster.clone()), Instant::now()) {
            tracing::warn!(peer = %peer.cluster, %service, %refusal, "refusing a stream");
        }
        stream.refuse(&refusal);
        meter.close(Closed::Refused(refusal.reason));
        return None;
    }
    meter.request(request);
    // What is not there is told of before any policy: a peer learns nothing of these by asking for names.
    let allowed = upstream::check_peer(core, &peer.cluster, service)
        .and_then(|()| upstream::exported(core, service).map(drop))
        .and_then(|()| core.check_access(&peer.cluster, source, service, &mut meter));
    if let Err(refusal) = allowed {
        refuse(peer, request, stream, &refusal);
        meter.close(Closed::Refused(refusal.reason));
        return None;
    }
    Some((meter, Guard::new(core, peer.cluster.clone(), source.clone(), service.clone())))
}

fn refuse(peer: &PeerIdentity, request: &OpenRequest, stream: &mut dyn TunnelStream, refusal: &Refusal) {
    let (service, source) = (&request.service, &request.source.id);
    tracing::debug!(%service, peer = %peer.cluster, %source, %refusal, "refusing a stream");
    stream.refuse(refusal);
}

async fn serve_exchange(core: Rc<Core>, peer: Rc<PeerIdentity>, mut stream: Box<dyn TunnelStream>) {
    let ours = core.common.exchanges.hand_over(peer.cluster.clone(), peer.gateway.get()).ok().flatten();
    let Some(Ok(socket)) = ours.map(Socket::new) else {
        return stream.refuse(&refused(RefusalReason::Limit, "control takes no more exchanges now"));
    };
    stream.accept();
    copy::copy(&mut *stream, &Rc::new(socket), None, &mut ()).await;
}

#[cfg(test)]
mod tests;

//! The service's side: which endpoint, connect, and copy.

use super::copy;
use crate::{
    core::Core,
    exchange, flow,
    meter::StreamMeter,
    metrics::streams::Side,
    socket::Socket,
    tunnel::{Ingress, OpenRequest, PeerIdentity, Refusal, RefusalReason, TunnelStream},
    upstream,
};
use std::rc::{Rc, Weak};

/// Takes the streams that peers open on a core. It does not keep the core alive: tunnels hold it, and the core holds them.
pub(crate) struct Incoming(pub(crate) Weak<Core>);

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

impl Ingress for Incoming {
    fn incoming(&self, peer: &Rc<PeerIdentity>, request: OpenRequest, stream: Box<dyn TunnelStream>) {
        let Some(core) = self.0.upgrade() else { return };
        let peer = peer.clone();
        if request.service.service.namespace() == exchange::NAMESPACE {
            core.tasks.clone().spawn_local(serve_exchange(core, peer, request, stream));
        } else {
            core.streams.clone().spawn_local(serve(core, peer, request, stream));
        }
    }
}

async fn serve(core: Rc<Core>, peer: Rc<PeerIdentity>, request: OpenRequest, mut stream: Box<dyn TunnelStream>) {
    let mut meter = StreamMeter::new(&core, Side::Ingress, request.service.clone());
    meter.peer(Some(&peer.cluster));
    if !request.service.protocol.is_tcp() {
        meter.request(&request);
        let closed = flow::ingress::serve(&core, &request, stream, &mut meter).await;
        return meter.close(closed);
    }
    // In a box of its own, so that a stream that is open does not keep room for what connecting took.
    let closed = match Box::pin(connect(&core, &peer, request, &mut meter)).await {
        Ok(endpoint) => {
            meter.connected();
            stream.accept();
            copy::copy(&mut *stream, &endpoint.socket, false, &mut meter).await
        }
        Err(refusal) => {
            stream.refuse(&refusal);
            crate::close::Closed::Refused(refusal.reason)
        }
    };
    // The stream first: what it still has to tell its peer goes out with what is queued.
    drop(stream);
    meter.close(closed);
}

async fn connect(
    core: &Rc<Core>,
    peer: &PeerIdentity,
    request: OpenRequest,
    meter: &mut StreamMeter<'_>,
) -> Result<upstream::Connected, Refusal> {
    meter.request(&request);
    let connected = upstream::connect(core, &request.service, meter).await;
    connected.inspect_err(|refusal| {
        tracing::debug!(service = %request.service, peer = %peer.cluster, %refusal, "refusing a stream");
    })
}

async fn serve_exchange(
    core: Rc<Core>,
    peer: Rc<PeerIdentity>,
    request: OpenRequest,
    mut stream: Box<dyn TunnelStream>,
) {
    let refused = |reason, message: &str| Refusal { reason, message: message.into(), retry: false };
    if request.service != exchange::service() {
        return stream.refuse(&refused(RefusalReason::NoSuchExport, "no such reserved service"));
    }
    let ours = core.common.exchanges.hand_over(peer.cluster.clone(), peer.gateway.get()).ok().flatten();
    let Some(Ok(socket)) = ours.map(Socket::new) else {
        return stream.refuse(&refused(RefusalReason::Limit, "control takes no more exchanges now"));
    };
    stream.accept();
    copy::copy(&mut *stream, &Rc::new(socket), false, &mut ()).await;
}

#[cfg(test)]
mod tests;

//! The client's side: which service, which cluster, open, and copy.

mod open;

use self::open::{Early, OpenFailed, open};
use super::{copy, local};
use crate::{
    balance::locality::{self, Candidates, Choice},
    close::Closed,
    core::{Core, Mail},
    meter::StreamMeter,
    metrics::{reasons::Bound, streams::Side},
    socket::Socket,
    tunnel::{OpenRequest, Refusal, RefusalReason, Source, TunnelStream},
    upstream,
};
use isthmus_control_api::{ClusterName, Import, ServicePort};
use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc::error::TrySendError;

/// How long a stream waits for a tunnel, where there is none: a lost one is mostly replaced within this.
const WAIT_FOR_TUNNEL: Duration = Duration::from_secs(2);

/// A local client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    /// Non-blocking.
    pub(crate) socket: OwnedFd,
    /// The listener that it came in on.
    pub(crate) listen: SocketAddr,
    /// Where it came from.
    pub(crate) from: Option<SocketAddr>,
    /// Whether it has been moved from another core already.
    pub(crate) moved: bool,
}

/// Serves a client, within the limit of connections.
pub(crate) fn start(core: &Rc<Core>, client: Client) {
    // Each core has its share. Streams that peers open have bounds of their own.
    let limit = core.common.config.limits.connections.div_ceil(core.common.mailboxes.len().max(1));
    if core.clients.get() >= limit {
        core.counters.refused(Bound::Connections);
        reset(&client.socket);
        return;
    }
    core.clients.set(core.clients.get() + 1);
    let counted = Counted(core.clone());
    core.streams.spawn_local(async move { serve(&counted.0, client).await });
}

/// A client that counts towards the limit as long as this lives.
struct Counted(Rc<Core>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.clients.set(self.0.clients.get() - 1);
    }
}

/// Serves control's exchange with a cluster.
pub(crate) fn start_exchange(core: &Rc<Core>, cluster: ClusterName, socket: OwnedFd) {
    let core_ = core.clone();
    core.tasks.spawn_local(async move {
        let core = core_;
        let Ok(socket) = Socket::new(socket).map(Rc::new) else { return };
        let mut early = Early::default();
        let request = request(&core, crate::reserved::Reserved::Exchange.service(), None);
        match open(&core, &cluster, &request, &socket, &mut early).await {
            Ok(mut stream) => {
                copy::copy(&mut *stream, &socket, early.ended, &mut ()).await;
            }
            Err(error) => tracing::debug!(%cluster, %error, "cannot open the exchange"),
        }
    });
}

fn reset(socket: &OwnedFd) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

async fn serve(core: &Rc<Core>, client: Client) {
    let Some(import) = core.table.borrow().imports.get(&client.listen).cloned() else {
        // The listener went away while the client was in its queue.
        reset(&client.socket);
        return;
    };
    let from = client.from;
    let Some(socket) = stay_or_move(core, &import, client) else { return };
    let Ok(socket) = Socket::new(socket).map(Rc::new) else { return };
    let mut meter = StreamMeter::new(core, Side::Egress, import.service.clone());
    // In a box of its own, so that a stream that is open does not keep room for what opening it took.
    let establish = Egress { core, import, socket: &socket }.establish(from, &mut meter);
    let closed = match Box::pin(establish).await {
        Ok((Upstream::Cluster(mut stream), early)) => {
            let ended = early.into_ended(&mut meter);
            let closed = copy::copy(&mut *stream, &socket, ended, &mut meter).await;
            meter.first_byte(stream.first_byte());
            closed
        }
        Ok((Upstream::Local(endpoint), early)) => {
            // In a box, too: streams through a tunnel are the many.
            Box::pin(local::copy(core, (&socket, &endpoint.socket), early.bytes, early.ended, &mut meter)).await
        }
        Err(closed) => closed,
    };
    if closed != Closed::Fin {
        socket.reset_on_close();
    }
    meter.close(closed);
}

/// What has taken a client's stream.
enum Upstream {
    Cluster(Box<dyn TunnelStream>),
    Local(upstream::Connected),
}

/// Moves the client to a core that has a tunnel, where this one has none and only a tunnel will do.
fn stay_or_move(core: &Core, import: &Import, client: Client) -> Option<OwnedFd> {
    let here =
        local_endpoints(core, &import.service) > 0 || import.clusters.keys().any(|name| core.peers.is_live(name));
    if here || client.moved {
        return Some(client.socket);
    }
    let there = import.clusters.keys().find_map(|name| core.common.board.core_for(name, core.random()));
    let Some(there) = there.filter(|&there| there != core.id) else { return Some(client.socket) };
    match core.common.mailboxes[there].try_send(Mail::Client(Client { moved: true, ..client })) {
        Ok(()) => None,
        Err(TrySendError::Full(Mail::Client(client)) | TrySendError::Closed(Mail::Client(client))) => {
            Some(client.socket)
        }
        Err(_) => None,
    }
}

fn local_endpoints(core: &Core, service: &ServicePort) -> u32 {
    let balancers = core.balancers.borrow();
    balancers.get(service).map_or(0, |balancer| u32::try_from(balancer.len()).unwrap_or(u32::MAX))
}

fn request(core: &Core, service: ServicePort, from: Option<SocketAddr>) -> OpenRequest {
    let id = core.common.identity.current().id().clone();
    OpenRequest { service, source: Source { id, address: from }, traceparent: None }
}

/// One client being served.
struct Egress<'a> {
    core: &'a Rc<Core>,
    import: Import,
    socket: &'a Rc<Socket>,
}

/// Where to try next.
enum Next {
    Local,
    Cluster(ClusterName),
    Nowhere,
}

impl Egress<'_> {
    /// Tries one upstream after the other until one accepts. What the client has sent meanwhile comes along: a cluster has been sent
    /// it, a local endpoint has not.
    async fn establish(
        self,
        from: Option<SocketAddr>,
        meter: &mut StreamMeter<'_>,
    ) -> Result<(Upstream, Early), Closed> {
        let request = request(self.core, self.import.service.clone(), from);
        meter.request(&request);
        let (mut early, mut tried) = (Early::default(), locality::Tried::default());
        let deadline = Instant::now() + WAIT_FOR_TUNNEL;
        let mut last = None;
        loop {
            let refusal = match self.next(&mut tried) {
                Next::Local => match self.connect_local(meter).await {
                    Ok(endpoint) => {
                        meter.connected();
                        return Ok((Upstream::Local(endpoint), early));
                    }
                    Err(refusal) => refusal,
                },
                Next::Cluster(cluster) => {
                    meter.peer(Some(&cluster));
                    match open(self.core, &cluster, &request, self.socket, &mut early).await {
                        Ok(stream) => {
                            meter.connected();
                            return Ok((Upstream::Cluster(stream), early));
                        }
                        Err(OpenFailed::Client) => return Err(Closed::ResetLocal),
                        Err(OpenFailed::Refused(refusal)) => refusal,
                    }
                }
                Next::Nowhere if last.is_none() && self.change_before(deadline).await => continue,
                Next::Nowhere => return Err(Closed::Refused(last.unwrap_or(RefusalReason::NoEndpoint))),
            };
            tracing::debug!(service = %self.import.service, %refusal, "refused");
            if !refusal.retry {
                return Err(Closed::Refused(refusal.reason));
            }
            meter.retry();
            last = Some(refusal.reason);
        }
    }

    fn next(&self, tried: &mut locality::Tried) -> Next {
        // The table may have changed since the client came: what is ready now counts.
        let table = self.core.table.borrow();
        let clusters = table.imports.values().find(|import| import.service == self.import.service);
        let candidates = Candidates {
            affinity: self.import.affinity,
            local: local_endpoints(self.core, &self.import.service),
            clusters: clusters.map_or(&self.import.clusters, |import| &import.clusters),
        };
        let Some(choice) =
            locality::choose(&candidates, |name| self.core.peers.is_live(name), tried, self.core.random())
        else {
            return Next::Nowhere;
        };
        tried.insert(&choice);
        match choice {
            Choice::Local => Next::Local,
            Choice::Cluster(name) => Next::Cluster(name.clone()),
        }
    }

    /// Waits for the table or a tunnel to change; false at the deadline.
    async fn change_before(&self, deadline: Instant) -> bool {
        tokio::time::timeout_at(deadline.into(), self.core.changed.notified()).await.is_ok()
    }

    async fn connect_local(&self, meter: &mut StreamMeter<'_>) -> Result<upstream::Connected, Refusal> {
        meter.peer(None);
        upstream::connect(self.core, &self.import.service, meter).await
    }
}

#[cfg(test)]
mod tests;

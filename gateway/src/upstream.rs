//! Opens local endpoints: chooses, connects, and tries another one while nothing is lost.

use crate::{
    balance::{Balancer, Pick, Tried, client::Client},
    core::Core,
    hop,
    limit::Comer,
    meter::StreamMeter,
    metrics::{reasons::Bound, streams::Side},
    proxy_protocol,
    socket::{self, Socket},
    tunnel::{OpenRequest, Refusal, RefusalReason},
};
use isthmus_control_api::{ClusterName, Export, ProxyProtocol, ServicePolicy, ServicePort};
use std::{
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// A connection to an endpoint, or a flow's socket. Dropping it tells the balancer that its stream is over.
pub(crate) struct Connected {
    pub(crate) socket: Rc<Socket>,
    /// What the export says of its streams.
    pub(crate) policy: Arc<ServicePolicy>,
    lease: Lease,
}

impl Connected {
    /// Where it is.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.lease.pick.as_ref().map(|pick| pick.address)
    }

    /// A flow's endpoint has shown, after `took`, that it is there.
    pub(crate) fn answered(&self, took: Duration) {
        self.lease.connected(took);
    }

    /// A flow's endpoint has shown that it is there, at a time that says nothing of how long it takes to answer.
    pub(crate) fn heard(&self) {
        self.lease.tell(|balancer, pick| balancer.heard(pick, Instant::now()));
    }

    /// A flow's endpoint says nothing, not even that it is not there.
    pub(crate) fn silent(&self) {
        self.lease.tell(|balancer, pick| balancer.silent(pick, Instant::now()));
    }

    /// A flow's endpoint has shown that it is not.
    pub(crate) fn failed(self) {
        self.lease.failed();
    }
}

/// On whose behalf an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asker {
    /// The client, where it is known.
    pub(crate) client: Option<Client>,
    /// Whether it is to stay with its endpoint, whatever the endpoint's cluster says.
    pub(crate) sticky: bool,
}

impl Asker {
    /// Who has asked for a stream.
    pub(crate) fn of(request: &OpenRequest) -> Self {
        let client = request.source.address.map(|address| Client::at(address.ip()));
        Self { client, sticky: request.sticky }
    }
}

/// An endpoint that a stream has picked: in flight until this is dropped.
struct Lease {
    core: Rc<Core>,
    service: ServicePort,
    pick: Option<Pick>,
}

impl Lease {
    /// Picks an endpoint that is not in `tried`, and notes it there.
    fn take(core: &Rc<Core>, service: &ServicePort, asker: Asker, tried: &mut Tried) -> Option<(Self, SocketAddr)> {
        let mut balancers = core.balancers.borrow_mut();
        let balancer = balancers.get_mut(service)?;
        let stays = asker.sticky || balancer.is_by_client();
        let draw = core.draw(asker.client.filter(|_| stays));
        let pick = balancer.pick(Instant::now(), draw, tried)?;
        tried.insert(&pick);
        let address = pick.address;
        Some((Self { core: core.clone(), service: service.clone(), pick: Some(pick) }, address))
    }

    fn connected(&self, took: Duration) {
        self.tell(|balancer, pick| balancer.connected(pick, took, Instant::now()));
    }

    fn tell(&self, tell: impl FnOnce(&mut Balancer, &Pick)) {
        if let (Some(pick), Some(balancer)) = (&self.pick, self.core.balancers.borrow_mut().get_mut(&self.service)) {
            tell(balancer, pick);
        }
    }

    fn failed(mut self) {
        if let (Some(pick), Some(balancer)) =
            (self.pick.take(), self.core.balancers.borrow_mut().get_mut(&self.service))
        {
            balancer.failed(pick, Instant::now());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let (Some(pick), Some(balancer)) =
            (self.pick.take(), self.core.balancers.borrow_mut().get_mut(&self.service))
        {
            balancer.released(pick, Instant::now());
        }
    }
}

/// A stream that an endpoint is to take.
pub(crate) struct Opening<'a> {
    pub(crate) request: &'a OpenRequest,
    /// The cluster that it comes from, this one or a linked one: proven, not only said.
    pub(crate) cluster: &'a ClusterName,
}

/// Connects to an endpoint of the service, trying others where one fails: the asker's own one first, if it is to stay with one.
///
/// # Errors
/// The service is not exported here, has all the streams that it may have, or none of the endpoints tried took the connection.
pub(crate) async fn connect(
    core: &Rc<Core>,
    opening: &Opening<'_>,
    meter: &mut StreamMeter<'_>,
) -> Result<Connected, Refusal> {
    let export = exported(core, &opening.request.service)?;
    let source = opening.request.source.address.map(|address| address.ip());
    let admitted = meter.admit(Side::Ingress, &export.policy, Comer { peer: Some(opening.cluster), source });
    admitted.map_err(|bound| limited(&opening.request.service, bound))?;
    let connected = connect_to_one(core, &export, opening, meter).await;
    connected.inspect_err(|_| meter.held.give_up(Side::Ingress))
}

async fn connect_to_one(
    core: &Rc<Core>,
    export: &Export,
    opening: &Opening<'_>,
    meter: &mut StreamMeter<'_>,
) -> Result<Connected, Refusal> {
    let (service, asker) = (&opening.request.service, Asker::of(opening.request));
    let limit = export.policy.timeouts.connect.unwrap_or(core.common.config.connect_timeout);
    let (mut tried, mut last) = (Tried::default(), None);
    while let Some((lease, address)) = Lease::take(core, service, asker, &mut tried) {
        if last.is_some() && !meter.may_retry(Side::Ingress) {
            break;
        }
        let start = Instant::now();
        meter.endpoint(Some(address));
        let prepare = |socket: BorrowedFd<'_>| core.common.local_hop.mark(socket, &export.policy);
        let connecting = tokio::time::timeout(limit, socket::connect(address, prepare)).await;
        let connected = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match connected.and_then(|socket| introduced(core, export, opening, address, socket)) {
            Ok(socket) => {
                lease.connected(start.elapsed());
                meter.watch(lease.pick.as_ref().map(Pick::id));
                let socket = Rc::new(socket);
                hop::take_part(core, &socket);
                return Ok(Connected { socket, policy: export.policy.clone(), lease });
            }
            Err(error) => {
                lease.failed();
                tracing::debug!(%service, %address, %error, "an endpoint failed");
                last = Some(error);
            }
        }
        if tried.is_full() {
            break;
        }
    }
    Err(refusal(service, last.as_ref()))
}

/// A socket to an endpoint of `service` for a flow. Whether anybody is there, only datagrams tell: `last` is what they told of the
/// endpoints in `tried`.
///
/// # Errors
/// As [`connect`].
pub(crate) fn connect_flow(
    core: &Rc<Core>,
    service: &ServicePort,
    asker: Asker,
    meter: &mut StreamMeter<'_>,
    tried: &mut Tried,
    mut last: Option<io::Error>,
) -> Result<Connected, Refusal> {
    let policy = exported(core, service)?.policy.clone();
    while !tried.is_full()
        && let Some((lease, address)) = Lease::take(core, service, asker, tried)
    {
        meter.endpoint(Some(address));
        match socket::datagram::connect(address) {
            Ok(socket) => return Ok(Connected { socket: Rc::new(socket), policy, lease }),
            Err(error) => {
                lease.failed();
                tracing::debug!(%service, %address, %error, "an endpoint failed");
                meter.retry();
                last = Some(error);
            }
        }
    }
    Err(refusal(service, last.as_ref()))
}

/// Whether a linked cluster may use `service`, if it is exported at all.
///
/// # Errors
/// The link is not for its namespace: the same as for what is not exported, so that the peer learns nothing.
pub(crate) fn check_peer(core: &Core, peer: &ClusterName, service: &ServicePort) -> Result<(), Refusal> {
    let table = core.table.borrow();
    let link = table.links.get(peer);
    if link.is_none_or(|link| link.exports.contains(service.service.namespace())) {
        return Ok(());
    }
    Err(not_exported(core, service))
}

pub(crate) fn exported(core: &Core, service: &ServicePort) -> Result<Arc<Export>, Refusal> {
    core.table.borrow().exports.get(service).cloned().ok_or_else(|| not_exported(core, service))
}

/// Tells the endpoint who the client is, where the export says so. Nothing of the client's was sent yet.
fn introduced(
    core: &Core,
    export: &Export,
    &Opening { request, cluster }: &Opening<'_>,
    endpoint: SocketAddr,
    socket: Socket,
) -> io::Result<Socket> {
    if export.policy.proxy_protocol == ProxyProtocol::V2 {
        let source = &request.source;
        let id = Some(&source.id).filter(|id| is_of(id.trust_domain(), cluster.as_str(), core));
        let (client, service) = (source.address, &request.service.service);
        let header = proxy_protocol::encode(&proxy_protocol::About { client, endpoint, service, cluster, id });
        // The buffer of a new connection takes far more.
        if socket.try_send(&header) < header.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(socket)
}

/// Whether it is the trust domain of `cluster`. A cluster speaks for its own only.
fn is_of(trust_domain: &str, cluster: &str, core: &Core) -> bool {
    let clusterset = trust_domain.strip_prefix(cluster).and_then(|rest| rest.strip_prefix('.'));
    clusterset == Some(core.common.config.clusterset.as_str())
}

fn not_exported(core: &Core, service: &ServicePort) -> Refusal {
    let message = format!("{service} is not exported by {}", core.common.config.cluster);
    Refusal { reason: RefusalReason::NoSuchExport, message, retry: true }
}

/// A bound of the service's own may leave room elsewhere; who takes too much himself does so everywhere.
fn limited(service: &ServicePort, bound: Bound) -> Refusal {
    let retry = matches!(bound, Bound::ServiceStreams | Bound::ServicePending | Bound::ServiceOpens);
    let message = format!("{service} has reached its limit {}", bound.as_str());
    Refusal { reason: RefusalReason::Limit, message, retry }
}

fn refusal(service: &ServicePort, last: Option<&io::Error>) -> Refusal {
    let Some(error) = last else {
        let message = format!("{service} has no ready endpoint");
        return Refusal { reason: RefusalReason::NoEndpoint, message, retry: true };
    };
    let timeout = error.kind() == io::ErrorKind::TimedOut;
    let reason = if timeout { RefusalReason::Timeout } else { RefusalReason::NoEndpoint };
    // Without the address: endpoints' addresses never leave their cluster.
    Refusal { reason, message: format!("no endpoint of {service} took the connection: {}", error.kind()), retry: true }
}

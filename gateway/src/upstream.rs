//! Opens local endpoints: chooses, connects, and tries another one while nothing is lost.

mod asks;
mod attempt;
mod hedge;
mod lease;
mod race;
mod transparent;

pub(crate) use {asks::Asks, lease::Connected};

use self::{
    lease::{Lease, Noted},
    race::Race,
};
use crate::{
    balance::{Tried, client::Client},
    core::{Core, said::Line},
    limit::{self, Comer},
    meter::StreamMeter,
    metrics::{reasons::Bound, streams::Side},
    proxy_protocol,
    socket::{self, Socket},
    tunnel::{OpenRequest, Refusal, RefusalReason},
};
use isthmus_control_api::{ClusterName, Export, ProxyProtocol, ServicePolicy, ServicePort};
use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

/// On whose behalf an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asker {
    /// The client, where it is known.
    pub(crate) client: Option<Client>,
    /// Whether it is to stay with its endpoint, whatever the endpoint's cluster says.
    pub(crate) sticky: bool,
    /// Whether another cluster may serve it.
    pub(crate) elsewhere: bool,
}

impl Asker {
    /// Who has asked for a stream.
    pub(crate) fn of(request: &OpenRequest) -> Self {
        let client = request.source.address.map(|address| Client::at(address.ip()));
        Self { client, sticky: request.sticky, elsewhere: request.elsewhere }
    }
}

/// A stream that an endpoint is to take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening<'a> {
    pub(crate) request: &'a OpenRequest,
    /// The cluster that it comes from, this one or a linked one: proven, not only said.
    pub(crate) cluster: &'a ClusterName,
}

/// Connects to an endpoint of the service, trying others where one fails or is late: the asker's own one first, if it is to stay with
/// one.
///
/// # Errors
/// The service is not exported here, has all the streams that it may have, or none of the endpoints tried took the connection.
pub(crate) async fn connect(
    core: &Rc<Core>,
    opening: &Opening<'_>,
    meter: &mut StreamMeter<'_>,
) -> Result<Connected, Refusal> {
    let export = exported(core, &opening.request.service)?;
    admit(core, &export.policy, opening, meter)?;
    let connected = Race::new(core, &export, opening).run(meter).await;
    connected.inspect_err(|_| meter.held.give_up(Side::Ingress))
}

/// Lets a stream or a flow in at the endpoints' side, by their policy and the link it comes over. What comes to nothing is to be given up
/// by `meter.held`.
///
/// # Errors
/// The service, or whom it comes from, has all that they may have.
pub(crate) fn admit(
    core: &Core,
    policy: &Arc<ServicePolicy>,
    &Opening { request, cluster }: &Opening<'_>,
    meter: &mut StreamMeter<'_>,
) -> Result<(), Refusal> {
    let source = request.source.address.map(|address| address.ip());
    let link = limit::link(core, cluster);
    let link = link.as_ref().map(|(usage, limits)| (usage, limits));
    let admitted = meter.admit(Side::Ingress, policy, Comer { peer: Some(cluster), source, link });
    admitted.map_err(|bound| limited(&request.service, bound))
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
    while !tried.is_full() {
        let mut more = *tried;
        let noted = Noted::before(core, service, tried, meter);
        let Some((lease, address)) = Lease::take(core, service, asker, &mut more) else { break };
        if let Some(error) = &last
            && !meter.may_retry(Side::Ingress)
        {
            // Where nobody else serves, the client's next datagram may try the next endpoint at once: after a limit it would wait.
            if asker.elsewhere && has_another_well(core, service, tried) {
                return Err(beyond_budget(service, error));
            }
            break;
        }
        *tried = more;
        noted.chose(address, meter);
        meter.endpoint(Some(address));
        match socket::datagram::connect(address) {
            Ok(socket) => return Ok(Connected::new(socket, policy, lease)),
            Err(error) if socket::is_out_of_sockets(&error) => return Err(out_of_sockets(core, service, &error)),
            Err(error) => {
                lease.failed();
                tracing::debug!(%service, %address, %error, "an endpoint failed");
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
fn introduce(
    core: &Core,
    export: &Export,
    &Opening { request, cluster }: &Opening<'_>,
    endpoint: SocketAddr,
    socket: &Socket,
) -> io::Result<()> {
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
    Ok(())
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

/// A bound of the service's or the link's own may leave room elsewhere, which has its own; who takes too much himself does so everywhere.
fn limited(service: &ServicePort, bound: Bound) -> Refusal {
    use Bound::{LinkOpens, LinkPending, LinkStreams, ServiceOpens, ServicePending, ServiceStreams};
    let retry = matches!(bound, ServiceStreams | ServicePending | ServiceOpens | LinkStreams | LinkPending | LinkOpens);
    let message = format!("{service} has reached its limit {}", bound.as_str());
    Refusal { reason: RefusalReason::Limit, message, retry }
}

/// Whether an endpoint of `service` is left that is well, as far as this core knows.
fn has_another_well(core: &Core, service: &ServicePort, tried: &Tried) -> bool {
    let balancers = core.balancers.borrow();
    balancers.get(service).is_some_and(|balancer| balancer.has_another_well(tried, Instant::now()))
}

/// The retry budget has ended the search before all that are well were tried: that says nothing of whether the cluster serves.
fn beyond_budget(service: &ServicePort, error: &io::Error) -> Refusal {
    let message =
        format!("an endpoint of {service} failed, {}, and the retry budget allows no other one", error.kind());
    Refusal { reason: RefusalReason::Limit, message, retry: true }
}

/// No endpoint could be asked, for want of a socket: another gateway, or another cluster, may have one.
fn out_of_sockets(core: &Core, service: &ServicePort, error: &io::Error) -> Refusal {
    core.counters.refused(Bound::Sockets);
    if core.may_say(Line::OutOfSockets, Instant::now()) {
        let hint = "raise the number of files that it may open (LimitNOFILE, ulimit -n), or the host's memory";
        tracing::warn!(%service, %error, hint, "there is no socket for an endpoint: streams are refused");
    }
    let message = format!("there is no socket for an endpoint of {service}: {error}").chars().take(200).collect();
    Refusal { reason: RefusalReason::Limit, message, retry: true }
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

/// The endpoints did not take the client's own address: who may use a service could have its cluster left out for others otherwise.
fn not_from_client(service: &ServicePort, error: &io::Error) -> Refusal {
    let message = format!("no endpoint of {service} took a connection from the client's own address: {}", error.kind());
    Refusal { reason: RefusalReason::Source, message, retry: true }
}

#[cfg(test)]
mod tests;

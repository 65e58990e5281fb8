//! The client's side: which service, which cluster, open, and copy.

mod chosen;
mod open;

pub(crate) use self::open::{Accepted, doubted};
use self::{
    chosen::Chosen,
    open::{Early, OpenFailed, Read, gives_way, is_of_source, open, send_rest},
};
use super::{
    announced::{self, Announced},
    copy,
    guard::{self, Guard, Stopped},
    local,
    named::{self, Greeting},
};
use crate::{
    balance::{
        Standing, client,
        locality::{self, Candidates, Choice},
        sides::Sides,
    },
    close::Closed,
    core::{Core, Mail},
    hop,
    limit::{
        Comer,
        expiry::{self, Expiry},
    },
    meter::StreamMeter,
    metrics::{reasons::Bound, streams::Side},
    socket::Socket,
    tunnel::{OpenRequest, Refusal, RefusalReason, TunnelHealth, TunnelStream},
    upstream::{self, Asker, Opening},
};
use isthmus_control_api::{Algorithm, ClusterName, GatewayId, Import, ServicePort};
use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Context,
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
    /// Whether it may have joined the local hop.
    pub(crate) may_have_joined: bool,
    /// Whether it has been moved from another core already.
    pub(crate) moved: bool,
    /// What it has said already, where its address leads to several imports.
    pub(crate) greeting: Option<Box<Greeting>>,
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
    core.streams.spawn_local(serve(Counted(core.clone()), Box::new(client)));
}

/// A client that counts towards the limit as long as this lives.
struct Counted(Rc<Core>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.clients.set(self.0.clients.get() - 1);
    }
}

/// Serves control's exchange with a cluster's gateway.
pub(crate) fn start_exchange(core: &Rc<Core>, cluster: ClusterName, gateway: GatewayId, socket: OwnedFd) {
    let core_ = core.clone();
    core.tasks.spawn_local(async move {
        let core = core_;
        let Ok(socket) = Socket::new(socket).map(Rc::new) else { return };
        let mut early = Early::default();
        let request = request(&core, crate::reserved::Reserved::Exchange.service(), None, false);
        let read = |cx: &mut Context<'_>, room: &mut [u8]| socket.poll_recv(cx, room);
        let opened = match open(&core, (&cluster, Some(gateway)), &request, &read, &mut early, &mut || true).await {
            Ok(accepted) => {
                let health = accepted.tunnel.watch();
                send_rest(accepted, &socket, &early, &mut ()).await.map(|stream| (stream, health))
            }
            Err(error) => Err(error),
        };
        match opened {
            Ok((mut stream, mut health)) => {
                let mut unmetered = ();
                tokio::select! {
                    _ = copy::copy(&mut *stream, &socket, early.ended, &mut unmetered) => {}
                    // It would keep the tunnel from ending, and has as good a place on another one.
                    _ = health.wait_for(|&health| health == TunnelHealth::Draining) => {}
                }
            }
            Err(error) => tracing::debug!(%cluster, %error, "cannot open the exchange"),
        }
    });
}

pub(super) fn reset(socket: &OwnedFd) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// The client is in a box, and so is all that opening its stream takes: one that is open does not keep room for it.
async fn serve(counted: Counted, client: Box<Client>) {
    let core = &counted.0;
    let Some(Begun { socket, mut meter, opened }) = Box::pin(begin(core, *client)).await else { return };
    let closed = match opened {
        Ok(Opened { upstream: Upstream::Cluster(mut stream, ended), mut expiry }) => {
            let copied = {
                let copying = pin!(copy::copy(&mut *stream, &socket, ended, &mut meter));
                expiry::until(&mut expiry, copying).await
            };
            let closed = copied.unwrap_or_else(|expired| {
                stream.reset();
                Stopped::Expired(expired).close(&mut meter)
            });
            meter.first_byte(stream.first_byte());
            closed
        }
        // In a box, too: streams through a tunnel are the many.
        Ok(Opened { upstream: Upstream::Local(local), expiry }) => {
            Box::pin(local.serve(core, &socket, expiry, &mut meter)).await
        }
        Err(closed) => closed,
    };
    if closed != Closed::Fin {
        socket.reset_on_close();
    }
    meter.close(closed);
}

/// A client's stream.
struct Begun<'a> {
    socket: Rc<Socket>,
    meter: StreamMeter<'a>,
    /// Whether it goes on from here, or how it has ended.
    opened: Result<Opened<'a>, Closed>,
}

struct Opened<'a> {
    upstream: Upstream<'a>,
    expiry: Option<Expiry>,
}

/// What has taken a client's stream.
enum Upstream<'a> {
    /// A cluster, which has been sent what the client has sent meanwhile; and whether the client has ended.
    Cluster(Box<dyn TunnelStream>, bool),
    Local(Box<Local<'a>>),
}

/// An endpoint here.
struct Local<'a> {
    endpoint: upstream::Connected,
    guard: Guard<'a>,
    /// What the client has sent meanwhile, and the endpoint has not been sent.
    early: Early,
}

impl Local<'_> {
    async fn serve(
        self: Box<Self>,
        core: &Core,
        socket: &Rc<Socket>,
        mut expiry: Option<Expiry>,
        meter: &mut StreamMeter<'_>,
    ) -> Closed {
        let Self { endpoint, guard, early } = *self;
        let stopped = {
            let copying = pin!(local::copy(core, (socket, &endpoint.socket), early.bytes, early.ended, meter));
            guard::watched(&guard, &mut expiry, copying).await
        };
        stopped.unwrap_or_else(|stopped| {
            endpoint.socket.reset_on_close();
            stopped.close(meter)
        })
    }
}

/// Opens a client's stream; `None` if there is nothing to be opened here.
async fn begin(core: &Rc<Core>, client: Client) -> Option<Begun<'_>> {
    let (import, client) = named::import_of(core, client).await?;
    let Client { socket, from, may_have_joined, greeting, .. } = stay_or_move(core, &import, client)?;
    let socket = Socket::new(socket).map(Rc::new).ok()?;
    hop::take_part(core, (&socket, may_have_joined), (&import.service, &import.policy), None);
    let mut meter = StreamMeter::new(core, Side::Egress, import.service.clone());
    let opened = establish(core, &import, &socket, (from, greeting), &mut meter).await;
    Some(Begun { socket, meter, opened })
}

/// Tries upstreams until one accepts.
async fn establish<'a>(
    core: &'a Rc<Core>,
    import: &Import,
    socket: &Rc<Socket>,
    (from, greeting): (Option<SocketAddr>, Option<Box<Greeting>>),
    meter: &mut StreamMeter<'_>,
) -> Result<Opened<'a>, Closed> {
    let who = match greeting {
        Some(greeting) => Announced { client: greeting.client, bytes: greeting.bytes },
        None => announced::who(core, import, socket, from).await?,
    };
    let comer = Comer { peer: None, source: who.client.map(|client| client.ip()) };
    let admitted = meter.admit(Side::Egress, &import.policy, comer);
    admitted.map_err(|_| Closed::Refused(RefusalReason::Limit))?;
    let read = |cx: &mut Context<'_>, room: &mut [u8]| socket.poll_recv(cx, room);
    let mut asking = Asking::new(core, import, who.client, &read, meter);
    asking.early.bytes = who.bytes;
    loop {
        match asking.establish(meter).await? {
            Established::Cluster(_, accepted) => {
                let early = asking.early;
                meter.connected();
                let mut expiry = meter.held.watch(&import.policy.timeouts);
                let sent = {
                    let sending = pin!(send_rest(accepted, socket, &early, meter));
                    expiry::until(&mut expiry, sending).await
                };
                let stream = sent.map_err(|expired| Stopped::Expired(expired).close(meter))?;
                let upstream = Upstream::Cluster(stream.map_err(|_| Closed::ResetLocal)?, early.ended);
                return Ok(Opened { upstream, expiry });
            }
            Established::Local(guard) => match upstream::connect(core, &asking.here(), meter).await {
                Ok(endpoint) => {
                    meter.connected();
                    let expiry = meter.held.watch(&import.policy.timeouts.and(&endpoint.policy.timeouts));
                    let upstream = Upstream::Local(Box::new(Local { endpoint, guard, early: asking.early }));
                    return Ok(Opened { upstream, expiry });
                }
                Err(refusal) => asking.refused(&refusal)?,
            },
        }
    }
}

/// Moves the client to a core that has a tunnel, where this one has none and only a tunnel will do.
fn stay_or_move(core: &Core, import: &Import, client: Client) -> Option<Client> {
    let there = if client.moved { None } else { better_core(core, import) };
    let Some(there) = there else { return Some(client) };
    match core.common.mailboxes[there].try_send(Mail::Client(Client { moved: true, ..client })) {
        Ok(()) => None,
        Err(TrySendError::Full(Mail::Client(client)) | TrySendError::Closed(Mail::Client(client))) => Some(client),
        Err(_) => None,
    }
}

/// A core that has a tunnel, where this one has none and only a tunnel will do.
pub(crate) fn better_core(core: &Core, import: &Import) -> Option<usize> {
    let healthy = standing(core, &import.service, Instant::now()).healthy;
    let here = healthy > 0 || import.clusters.keys().any(|name| core.peers.is_live(name));
    if here {
        return None;
    }
    let there = import.clusters.keys().find_map(|name| core.common.board.core_for(name, core.random()));
    there.filter(|&there| there != core.id)
}

/// How this cluster's own endpoints fare.
fn standing(core: &Core, service: &ServicePort, now: Instant) -> Standing {
    core.balancers.borrow_mut().get_mut(service).map_or_else(Standing::default, |balancer| balancer.standing(now))
}

/// Does something with what the core knows of those that serve `service`.
fn with_sides<T>(core: &Core, service: &ServicePort, act: impl FnOnce(&mut Sides) -> T) -> T {
    let mut all = core.sides.borrow_mut();
    match all.get_mut(service) {
        Some(sides) => act(sides),
        None => act(all.entry(service.clone()).or_default()),
    }
}

/// Whether a refusal says that the cluster's endpoints do not serve, and others' may.
fn says_of_endpoints(refusal: &Refusal) -> bool {
    refusal.retry && matches!(refusal.reason, RefusalReason::NoEndpoint | RefusalReason::Timeout)
}

fn request(core: &Core, service: ServicePort, from: Option<SocketAddr>, sticky: bool) -> OpenRequest {
    OpenRequest { service, source: core.source(from), sticky, elsewhere: false, traceparent: None }
}

/// Opens a client's stream, or a flow: one upstream after the other until one accepts. What the client sends meanwhile comes along.
pub(crate) struct Asking<'c, 'a> {
    core: &'c Rc<Core>,
    import: &'a Import,
    read: Read<'a>,
    request: OpenRequest,
    /// What the client has sent, and the cluster that accepts has been sent, or is to be.
    pub(crate) early: Early,
    tried: locality::Tried,
    deadline: Instant,
    last: Option<RefusalReason>,
    /// The first cluster that has given way to others, as its endpoints were late.
    gave_way: Option<ClusterName>,
}

/// An upstream that is to be used.
pub(crate) enum Established<'c> {
    /// A cluster that has accepted.
    Cluster(ClusterName, Accepted),
    /// An endpoint here, which access policies allow: the caller connects to it, and says with [`Asking::refused`] if there is none.
    Local(Guard<'c>),
}

/// Where to try next.
enum Next<'c, 'a> {
    Local,
    Cluster(Chosen<'c, 'a>),
    Nowhere,
}

impl<'c, 'a> Asking<'c, 'a> {
    /// On behalf of the client at `from`.
    pub(crate) fn new(
        core: &'c Rc<Core>,
        import: &'a Import,
        from: Option<SocketAddr>,
        read: Read<'a>,
        meter: &mut StreamMeter<'_>,
    ) -> Self {
        let sticky = import.sticky || import.policy.balance == Algorithm::SourceAddress;
        let request = request(core, import.service.clone(), from, sticky);
        meter.request(&request);
        let deadline = Instant::now() + WAIT_FOR_TUNNEL;
        let (early, tried) = (Early::default(), locality::Tried::default());
        Self { core, import, read, request, early, tried, deadline, last: None, gave_way: None }
    }

    /// The next upstream.
    ///
    /// # Errors
    /// There is none, or the client has gone.
    pub(crate) async fn establish(&mut self, meter: &mut StreamMeter<'_>) -> Result<Established<'c>, Closed> {
        loop {
            let mut next = self.next();
            let refused = match (self.last, &next) {
                (None, _) => None,
                (Some(last), Next::Nowhere) => Some(last),
                // A lost tunnel says nothing of the service.
                (Some(RefusalReason::TunnelLost), _) => {
                    meter.retry();
                    None
                }
                (Some(last), _) => (!meter.may_retry(Side::Egress)).then_some(last),
            };
            if let Some(last) = refused {
                // Who has given way for others to serve the stream is waited for after all.
                let Some(cluster) = self.gave_way.take() else { return Err(Closed::Refused(last)) };
                self.request.elsewhere = false;
                next = Next::Cluster(Chosen::new(self.core, &self.import.service, cluster));
            }
            let refusal = match next {
                Next::Local => {
                    meter.peer(None);
                    let (own, OpenRequest { source, service, .. }) = (&self.core.common.config.cluster, &self.request);
                    match self.core.check_access(own, source, service, meter) {
                        Ok(()) => {
                            let guard = Guard::new(self.core, own.clone(), source.clone(), service.clone());
                            return Ok(Established::Local(guard));
                        }
                        Err(refusal) => refusal,
                    }
                }
                Next::Cluster(chosen) => {
                    meter.peer(Some(&chosen.cluster));
                    let opened = self.open(&chosen.cluster, meter).await;
                    let cluster = self.learn(chosen, opened.as_ref().map(drop));
                    if opened.as_ref().is_err_and(|failed| gives_way(&self.request, failed)) {
                        self.gave_way.get_or_insert_with(|| cluster.clone());
                    }
                    match opened {
                        Ok(accepted) => return Ok(Established::Cluster(cluster, accepted)),
                        Err(OpenFailed::Client) => return Err(Closed::ResetLocal),
                        Err(OpenFailed::Refused(refusal)) => refusal,
                    }
                }
                Next::Nowhere if self.change_before_deadline().await => continue,
                Next::Nowhere => return Err(Closed::Refused(RefusalReason::NoEndpoint)),
            };
            self.refused(&refusal)?;
        }
    }

    /// Opens the stream to a cluster, within the import's own time if it has one.
    async fn open(&mut self, cluster: &ClusterName, meter: &mut StreamMeter<'_>) -> Result<Accepted, OpenFailed> {
        if self.request.traceparent.is_none() {
            self.request.traceparent = meter.traceparent();
        }
        let mut may_retry = || meter.may_retry(Side::Egress);
        let opening = open(self.core, (cluster, None), &self.request, self.read, &mut self.early, &mut may_retry);
        let Some(connect) = self.import.policy.timeouts.connect else { return opening.await };
        tokio::time::timeout(connect, opening).await.unwrap_or_else(|_| {
            let message = format!("{cluster} did not answer within {} ms", connect.as_millis());
            Err(Refusal { reason: RefusalReason::Timeout, message, retry: true }.into())
        })
    }

    /// An upstream has refused.
    ///
    /// # Errors
    /// It says that others would, too.
    pub(crate) fn refused(&mut self, refusal: &Refusal) -> Result<(), Closed> {
        tracing::debug!(service = %self.import.service, %refusal, "refused");
        if !refusal.retry {
            return Err(Closed::Refused(refusal.reason));
        }
        self.last = Some(refusal.reason);
        Ok(())
    }

    /// Who is to stay with its cluster and its endpoint.
    fn client(&self) -> Option<client::Client> {
        self.asker().client.filter(|_| self.request.sticky)
    }

    /// On whose behalf endpoints are chosen.
    pub(crate) fn asker(&self) -> Asker {
        Asker::of(&self.request)
    }

    /// What an endpoint here is to take.
    pub(crate) fn here(&self) -> Opening<'_> {
        Opening { request: &self.request, cluster: &self.core.common.config.cluster }
    }

    fn next(&mut self) -> Next<'c, 'a> {
        let (core, service, now) = (self.core, &self.import.service, Instant::now());
        // The table may have changed since the client came: what is ready now counts.
        let table = core.table.borrow();
        let is_same =
            |import: &&Arc<Import>| import.service == self.import.service && import.weights == self.import.weights;
        let clusters = table.imports.values().find(is_same);
        let standing = standing(core, service, now);
        let candidates = Candidates {
            affinity: self.import.affinity,
            local: u32::try_from(standing.total).unwrap_or(u32::MAX),
            clusters: clusters.map_or(&self.import.clusters, |import| &import.clusters),
            weights: self.import.weights.as_ref(),
        };
        let links = |name: &ClusterName| core.peers.is_live(name).then(|| core.peers.round_trip(name));
        let how = (&self.tried, core.draw(self.client()));
        let choice = with_sides(core, service, |sides| {
            sides.choose((&candidates, standing), &links, how, &self.import.policy, now)
        });
        let Some(choice) = choice else { return Next::Nowhere };
        self.tried.insert(&choice);
        self.request.elsewhere =
            with_sides(core, service, |sides| sides.has_another((&candidates, standing), &links, &self.tried, now));
        match choice {
            Choice::Local => Next::Local,
            Choice::Cluster(name) => Next::Cluster(Chosen::new(core, service, name.clone())),
        }
    }

    /// A cluster has answered, or its tunnel has gone: what that says of the next stream's chances there.
    fn learn(&self, chosen: Chosen<'_, '_>, opened: Result<(), &OpenFailed>) -> ClusterName {
        let (policy, now) = (&self.import.policy, Instant::now());
        chosen.learn(|sides, cluster| match opened {
            Ok(()) => sides.accepted(cluster, now),
            Err(failed) if is_of_source(failed) => sides.gave_up(cluster),
            Err(failed) if gives_way(&self.request, failed) => sides.late(cluster, policy, now),
            Err(OpenFailed::Refused(refusal)) if says_of_endpoints(refusal) => sides.refused(cluster, policy, now),
            Err(_) => sides.gave_up(cluster),
        })
    }

    /// Waits for the table or a tunnel to change; false at the deadline.
    async fn change_before_deadline(&self) -> bool {
        tokio::time::timeout_at(self.deadline.into(), self.core.changed.notified()).await.is_ok()
    }
}

#[cfg(test)]
mod tests;

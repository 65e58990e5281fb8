//! The client's side: which service, which cluster, open, and copy.

mod asking;
mod chosen;
mod open;

use self::{asking::request, open::open};
pub(crate) use self::{
    asking::{Asking, Established, better_core},
    open::{Accepted, doubted},
};
use super::{
    announced::{self, Announced},
    copy,
    early::Early,
    guard::{self, Guard, Stopped},
    local,
    named::{self, Greeting},
};
use crate::{
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
    tunnel::{RefusalReason, TunnelHealth, TunnelStream},
    upstream,
};
use isthmus_control_api::{ClusterName, GatewayId, Import, Listen};
use std::{net::SocketAddr, os::fd::OwnedFd, pin::pin, rc::Rc, task::Context, time::Duration};
use tokio::sync::mpsc::error::TrySendError;

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
        match open(&core, (&cluster, Some(gateway)), &request, &read, &mut early, &mut || true).await {
            Ok(accepted) => {
                let (mut health, mut unmetered) = (accepted.tunnel.watch(), ());
                let (mut stream, early) = accepted.begin(early, &mut unmetered);
                tokio::select! {
                    _ = copy::copy(&mut *stream, &socket, early, &mut unmetered) => {}
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
        Ok(Opened { upstream: Upstream::Cluster(mut stream, early), mut expiry }) => {
            let copied = {
                let copying = pin!(copy::copy(&mut *stream, &socket, early, &mut meter));
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
    /// A cluster, and what the client has sent meanwhile and the cluster has not been sent, if it has.
    Cluster(Box<dyn TunnelStream>, Option<Box<Early>>),
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
            let copying = pin!(local::copy(core, (socket, &endpoint.socket), early, meter));
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
    let (listen, import, client) = named::import_of(core, client).await?;
    let Client { socket, from, may_have_joined, greeting, .. } = stay_or_move(core, &import, client)?;
    let socket = Socket::new(socket).map(Rc::new).ok()?;
    hop::take_part(core, (&socket, may_have_joined, greeting.is_none()), (&import.service, &import.policy), None);
    let mut meter = StreamMeter::new(core, Side::Egress, import.service.clone());
    let opened = establish(core, (&listen, &import), &socket, (from, greeting), &mut meter).await;
    Some(Begun { socket, meter, opened })
}

/// Tries upstreams until one accepts.
async fn establish<'a>(
    core: &'a Rc<Core>,
    (listen, import): (&Listen, &Import),
    socket: &Rc<Socket>,
    (from, greeting): (Option<SocketAddr>, Option<Box<Greeting>>),
    meter: &mut StreamMeter<'_>,
) -> Result<Opened<'a>, Closed> {
    let who = match greeting {
        Some(greeting) => Announced { client: greeting.client, bytes: greeting.bytes },
        None => announced::who(core, import, socket, from).await?,
    };
    let comer = Comer { source: who.client.map(|client| client.ip()), ..Comer::default() };
    let admitted = meter.admit(Side::Egress, &import.policy, comer);
    admitted.map_err(|_| Closed::Refused(RefusalReason::Limit))?;
    let read = |cx: &mut Context<'_>, room: &mut [u8]| socket.poll_recv(cx, room);
    let mut asking = Asking::new(core, (listen, import), who.client, &read, meter);
    asking.early.bytes = who.bytes;
    asking.early.is_held = import.policy.limits.bounds_bytes();
    loop {
        match asking.establish(meter).await? {
            Established::Cluster(_, accepted) => {
                meter.connected();
                let expiry = meter.held.watch(&import.policy.timeouts);
                let (stream, early) = accepted.begin(asking.early, meter);
                return Ok(Opened { upstream: Upstream::Cluster(stream, early), expiry });
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

#[cfg(test)]
mod tests;

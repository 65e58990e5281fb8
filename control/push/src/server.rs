//! Control's side: a session for each gateway that is attached, and its peers through them.

mod gateways;
mod needs;
mod peers;
mod session;
mod status;
mod words;

pub use status::{AwayStatus, GatewayStatus, ServerStatus};

use crate::{
    Meter, PATIENCE, Position, Refused,
    codec::Prost,
    history::History,
    transport::{self, LastHeard, Tasks, Trust},
};
use gateways::Gateways;
use isthmus_certs::{IdentityStore, RefusedHandshake, Role, verify::Expected};
use isthmus_control::{Handles, LinkEvent, Peers};
use isthmus_control_api::sources::{self, Sources};
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tracing::{debug, info, warn};

/// Connections that are not attached yet, or not any more, beside those that are.
const SPARE: usize = 32;
/// Handshakes under way: nobody knows yet who comes.
const HANDSHAKES: usize = 64;
/// The same of one address: who is slow there, or pretends to be, keeps out no one else. Behind one may be many gateways; they try again.
const HANDSHAKES_EACH: usize = 16;
/// Events of gateways that wait for control, which takes them at once.
const EVENTS: usize = 64;
/// After comparing two tables, so many times as long as that took passes before the next are compared.
const SHARE: u32 = 3;
/// The longest pause for that.
const PAUSE: Duration = Duration::from_millis(50);

/// What a server needs to know.
pub struct ServerConfig {
    /// Who control is: its SVID says so.
    pub identity: IdentityStore,
    /// What it publishes.
    pub handles: Handles,
    /// The term in which its tables count; `None`: another control leads, and this one takes no gateways.
    pub term: watch::Receiver<Option<u64>>,
    /// Is told the least term in which the gateways that came take what is made here, where they have tables of others that count more
    /// than ours. It only grows.
    pub needed: watch::Sender<u64>,
    /// What counts.
    pub meter: Arc<dyn Meter>,
}

/// See the module.
pub struct Server {
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
}

/// What every session has in common.
struct Shared {
    identity: IdentityStore,
    handles: Handles,
    term: watch::Receiver<Option<u64>>,
    history: watch::Sender<History>,
    gateways: Gateways,
    needed: watch::Sender<u64>,
    /// Connections whose gateways are known.
    room: Arc<Semaphore>,
    meter: Arc<dyn Meter>,
}

impl Server {
    /// A server of what `config` says, and what its gateways tell control.
    ///
    /// # Errors
    /// TLS cannot be configured.
    pub fn new(config: ServerConfig) -> Result<(Self, mpsc::Receiver<LinkEvent>), rustls::Error> {
        let ServerConfig { identity, handles, term, needed, meter } = config;
        let tls = isthmus_certs::tls::own_server_config(&identity, Role::Gateway, transport::ALPN)?;
        let (to_control, events) = mpsc::channel(EVENTS);
        let table = handles.table.borrow().clone();
        let history = watch::Sender::new(History::new(table, term.borrow().unwrap_or_default()));
        let gateways = Gateways::new(to_control, meter.clone());
        let room = Arc::new(Semaphore::new(crate::MAX_GATEWAYS + SPARE));
        let shared = Arc::new(Shared { identity, handles, term, history, gateways, needed, room, meter });
        Ok((Self { shared, acceptor: tls.into() }, events))
    }

    /// The linked clusters' controls, reached through the gateways that are attached.
    pub fn peers(&self) -> Arc<dyn Peers> {
        Arc::new(peers::Through(self.shared.clone()))
    }

    /// How it fares, asked at any moment.
    pub fn status(&self) -> impl Fn() -> ServerStatus + Send + Sync + use<> {
        let shared = self.shared.clone();
        move || shared.gateways.status(&shared.history.borrow().position(), *shared.term.borrow(), Instant::now())
    }

    /// Serves gateways that come to `listener`, until `shutdown`.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let Self { shared, acceptor } = self;
        let mut publishing = JoinSet::from_iter([publish(shared.clone())]);
        publishing.spawn({
            let shared = shared.clone();
            async move { shared.gateways.tell().await }
        });
        let handshakes = Sources::new(HANDSHAKES, HANDSHAKES_EACH);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, from)) => {
                    let Ok(place) = handshakes.take(from.ip()) else {
                        shared.meter.refused(Refused::Handshakes);
                        continue;
                    };
                    let connection = connection(shared.clone(), acceptor.clone(), socket, place);
                    connections.spawn(async move {
                        if let Err(error) = connection.await {
                            debug!(%from, %error, "a gateway's connection ended");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a gateway's connection");
                    // Out of descriptors, mostly: those of others have to be closed first.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        publishing.shutdown().await;
        connections.shutdown().await;
    }
}

impl Shared {
    /// A gateway came with this table.
    fn found(&self, has: &Position) {
        let Some(needed) = needs::term(has, *self.term.borrow(), &self.history.borrow().position()) else { return };
        let is_more = |known: &mut u64| needed > std::mem::replace(known, needed.max(*known));
        if self.needed.send_if_modified(is_more) {
            warn!(found = %has, needed, "a gateway has a table that counts more than those made here");
        }
    }
}

/// Follows what control publishes, and in which term.
async fn publish(shared: Arc<Shared>) {
    let (mut table, mut term) = (shared.handles.table.clone(), shared.term.clone());
    loop {
        let since = Instant::now();
        let (newest, leads) = (table.borrow_and_update().clone(), *term.borrow_and_update());
        shared.history.send_if_modified(|history| {
            let before = history.position();
            if let Some(leads) = leads {
                history.set_term(leads);
            }
            if !Arc::ptr_eq(history.newest(), &newest) {
                history.publish(newest, since);
            }
            history.position() != before
        });
        sleep((since.elapsed() * SHARE).min(PAUSE)).await;
        tokio::select! {
            Ok(()) = table.changed() => {}
            Ok(()) = term.changed() => {}
            else => return,
        }
    }
}

/// Serves one connection. `place` is for its handshake.
async fn connection(
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
    socket: TcpStream,
    place: sources::Place,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let from = socket.peer_addr()?;
    let accepted =
        timeout(PATIENCE, acceptor.accept(socket)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    let stream = accepted.inspect_err(|error| refused(from, error))?;
    drop(place);
    let Ok(_permit) = shared.room.clone().try_acquire_owned() else {
        shared.meter.refused(Refused::Gateways);
        return Err(io::Error::other("there are too many connections"));
    };
    let mut trust =
        Trust::new(&shared.identity, Expected::OwnClient(Role::Gateway), stream.get_ref().1.peer_certificates());
    let tasks = Tasks::default();
    let end = tasks.clone();
    let heard = LastHeard::default();
    let caller = session::Caller {
        connection: shared.gateways.connection(),
        shared,
        heard: heard.clone(),
        tasks: tasks.clone(),
    };
    let service = hyper::service::service_fn(move |request| route(caller.clone(), request));
    let served = tokio::select! {
        served = transport::serve(heard.of(stream), &tasks, service) => served.map_err(io::Error::other),
        refused = trust.lost() => {
            warn!(%refused, "a gateway is not trusted any more");
            Ok(())
        }
    };
    end.end();
    served
}

/// Says why somebody was not let in: with what he has to show, if it was that.
fn refused(from: std::net::SocketAddr, error: &io::Error) {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(error) => info!(%from, refused = %RefusedHandshake::from(error), "refused: not a gateway of this cluster"),
        None => debug!(%from, %error, "a handshake broke off"),
    }
}

async fn route(
    at: session::Caller,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Body>, std::convert::Infallible> {
    Ok(match request.uri().path() {
        ATTACH => {
            let mut grpc = tonic::server::Grpc::new(Prost::default()).max_decoding_message_size(crate::MAX_SAID);
            grpc.streaming(session::Attach(at), request).await
        }
        EXCHANGE => {
            let mut grpc = tonic::server::Grpc::new(Prost::default()).max_decoding_message_size(crate::MAX_SAID);
            grpc.streaming(peers::Exchange(at), request).await
        }
        _ => Status::unimplemented("found: Attach and Exchange").into_http(),
    })
}

/// The two calls.
pub(crate) const ATTACH: &str = "/isthmus.push.v1.Push/Attach";
pub(crate) const EXCHANGE: &str = "/isthmus.push.v1.Push/Exchange";

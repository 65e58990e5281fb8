//! Control's side: a session for each gateway that is attached, and its peers through them.

mod gateways;
mod peers;
mod session;

pub use gateways::{GatewayStatus, ServerStatus};

use crate::{
    Meter, PATIENCE,
    codec::Prost,
    history::History,
    transport::{self, Tasks, Trust},
};
use gateways::Gateways;
use isthmus_certs::{IdentityStore, RefusedHandshake, Role, verify::Expected};
use isthmus_control::{Handles, LinkEvent, Peers};
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
    meter: Arc<dyn Meter>,
}

impl Server {
    /// A server of what `config` says, and what its gateways tell control.
    ///
    /// # Errors
    /// TLS cannot be configured.
    pub fn new(config: ServerConfig) -> Result<(Self, mpsc::Receiver<LinkEvent>), rustls::Error> {
        let ServerConfig { identity, handles, term, meter } = config;
        let tls = isthmus_certs::tls::own_server_config(&identity, Role::Gateway, transport::ALPN)?;
        let (to_control, events) = mpsc::channel(EVENTS);
        let table = handles.table.borrow().clone();
        let history = watch::Sender::new(History::new(table, term.borrow().unwrap_or_default()));
        let gateways = Gateways::new(to_control, meter.clone());
        let shared = Arc::new(Shared { identity, handles, term, history, gateways, meter });
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
        let room = Arc::new(Semaphore::new(crate::MAX_GATEWAYS + SPARE));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match (accepted, room.clone().try_acquire_owned()) {
                (Ok((socket, from)), Ok(permit)) => {
                    let connection = connection(shared.clone(), acceptor.clone(), socket);
                    connections.spawn(async move {
                        if let Err(error) = connection.await {
                            debug!(%from, %error, "a gateway's connection ended");
                        }
                        drop(permit);
                    });
                }
                (Ok(_), Err(_)) => shared.meter.refused(),
                (Err(error), _) => {
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

async fn connection(shared: Arc<Shared>, acceptor: TlsAcceptor, socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let from = socket.peer_addr()?;
    let accepted =
        timeout(PATIENCE, acceptor.accept(socket)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    let stream = accepted.inspect_err(|error| refused(from, error))?;
    let mut trust =
        Trust::new(&shared.identity, Expected::OwnClient(Role::Gateway), stream.get_ref().1.peer_certificates());
    let tasks = Tasks::default();
    let end = tasks.clone();
    let connection = shared.gateways.connection();
    let service = {
        let tasks = tasks.clone();
        hyper::service::service_fn(move |request| route(shared.clone(), connection, tasks.clone(), request))
    };
    let served = tokio::select! {
        served = transport::serve(stream, &tasks, service) => served.map_err(io::Error::other),
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
    shared: Arc<Shared>,
    connection: u64,
    tasks: Tasks,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Body>, std::convert::Infallible> {
    let at = session::Caller { shared, connection, tasks };
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

//! A gateway's side: attached to its control whenever that is there, and its table kept whenever it is not.

mod attachment;
mod session;

pub use attachment::Attachment;

use crate::{
    LinkReport, Reached,
    feed::Position,
    replica::{Refusal, Replica},
    transport::{self, Tasks, Trust, in_time},
};
use isthmus_certs::{IdentityStore, RefusedHandshake, Role, verify::Expected};
use isthmus_control::keeper::{self, Newest};
use isthmus_control_api::{ClusterName, GatewayId, PeerAddress, Table};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    io,
    net::SocketAddr,
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    net::{TcpStream, lookup_host},
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Before control is dialled again; doubled up to [`BACKOFF_MAX`] each time, until a session works.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What a client needs to know.
pub struct ClientConfig {
    /// Where control is.
    pub address: PeerAddress,
    /// Which gateway this is.
    pub gateway: GatewayId,
    /// What people call it: its host's name, say.
    pub name: String,
    /// Its version of isthmus.
    pub version: String,
    /// Who it is.
    pub identity: IdentityStore,
    /// The table that it has from before, and the term of the control that made it.
    pub kept: (Arc<Table>, u64),
}

/// A stream of the exchange that a peer has opened.
#[derive(Debug)]
pub struct Incoming {
    /// Which cluster, as its certificate proved.
    pub cluster: ClusterName,
    /// Which of its gateways, as that said itself.
    pub gateway: GatewayId,
    /// The stream, which does not block.
    pub stream: UnixStream,
}

/// Opens a stream of the exchange to one of a cluster's gateways. It does not block, and the stream does not.
pub type Open = Arc<dyn Fn(&ClusterName, GatewayId) -> io::Result<UnixStream> + Send + Sync>;

/// Says why the gateway cannot serve a table, if it cannot.
pub type Fits = Arc<dyn Fn(&Table) -> Result<(), String> + Send + Sync>;

/// The gateway, as its control has to do with it.
pub struct Tunnels {
    /// What live tunnels lead to.
    pub reached: watch::Receiver<Reached>,
    /// How the links fare.
    pub links: watch::Receiver<Vec<LinkReport>>,
    /// What peers open.
    pub incoming: mpsc::Receiver<Incoming>,
    /// Opens a stream of the exchange to one of a cluster's gateways.
    pub open: Open,
    /// Why the gateway cannot serve a table, if it cannot.
    pub fits: Fits,
}

/// See the module.
pub struct Client {
    config: ClientConfig,
    connector: TlsConnector,
    replica: Replica,
    table: watch::Sender<Arc<Table>>,
    newest: watch::Sender<Newest>,
    status: watch::Sender<Attachment>,
    /// Which of control's addresses was tried last.
    last: Option<SocketAddr>,
}

impl Client {
    /// A client that is not attached yet.
    ///
    /// # Errors
    /// TLS cannot be configured.
    pub fn new(config: ClientConfig) -> Result<Self, rustls::Error> {
        let tls = isthmus_certs::tls::own_client_config(&config.identity, Role::Control, transport::ALPN)?;
        let (table, term) = config.kept.clone();
        let status = Attachment {
            address: config.address.to_string(),
            since_ms: now_ms(),
            term,
            version: table.version,
            ..Attachment::default()
        };
        let newest = Newest { term, table: table.clone(), peers: BTreeMap::new() };
        Ok(Self {
            connector: tls.into(),
            replica: Replica::new(table.clone(), term),
            table: watch::Sender::new(table),
            newest: watch::Sender::new(newest),
            status: watch::Sender::new(status),
            last: None,
            config,
        })
    }

    /// The table, and each that follows.
    pub fn table(&self) -> watch::Receiver<Arc<Table>> {
        self.table.subscribe()
    }

    /// What is to be kept for the next start.
    pub fn newest(&self) -> watch::Receiver<Newest> {
        self.newest.subscribe()
    }

    /// How it fares.
    pub fn status(&self) -> watch::Receiver<Attachment> {
        self.status.subscribe()
    }

    /// Stays attached, as far as it can, until `shutdown`.
    pub async fn run(mut self, mut tunnels: Tunnels, shutdown: CancellationToken) {
        let mut backoff = BACKOFF;
        loop {
            let begun = Instant::now();
            let ended = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = self.attach(&mut tunnels) => ended,
            };
            let (was_attached, same) = {
                let status = self.status.borrow();
                (status.attached, status.error.as_ref() == Some(&ended))
            };
            self.note(|status| {
                status.attached = false;
                status.error = Some(ended.clone());
                if was_attached {
                    status.since_ms = now_ms();
                }
            });
            if was_attached {
                warn!(control = %self.config.address, why = ended, "not attached to control any more; the table stays");
            } else if !same {
                info!(control = %self.config.address, why = ended, "cannot attach to control; trying again and again");
            }
            // A session that ends at once is no better than none.
            let worked = was_attached && begun.elapsed() > BACKOFF_MAX;
            backoff = if worked { BACKOFF } else { backoff.saturating_mul(2).min(BACKOFF_MAX) };

            // Not all gateways at once.
            let part = (RandomState::new().hash_one(self.config.gateway.0) % 512) as u32;
            let pause = backoff / 1024 * (512 + part);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = drop_all(&mut tunnels.incoming) => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Tries the addresses one after the other until a control takes this gateway, and stays there to the end: why it ended.
    async fn attach(&mut self, tunnels: &mut Tunnels) -> String {
        let resolved = tokio::select! {
            resolved = resolve(&self.config.address) => resolved,
            () = drop_all(&mut tunnels.incoming) => return ENDS.into(),
        };
        let mut addresses = match resolved {
            Ok(addresses) => addresses,
            Err(error) => return error.to_string(),
        };
        // Where it was last is where control did not stay, or never was.
        addresses.sort_by_key(|address| self.last == Some(*address));
        let mut ended = format!("{}: no address", self.config.address.host);
        for at in addresses {
            self.last = Some(at);
            // In a box: a session is large, and there is one.
            ended = Box::pin(self.attach_at(at, tunnels)).await;
            if self.status.borrow().attached {
                return ended;
            }
        }
        ended
    }

    /// One session, from dialling to its end: why it ended.
    async fn attach_at(&mut self, at: SocketAddr, tunnels: &mut Tunnels) -> String {
        // Nobody is there to take what peers open meanwhile: they try again.
        let dialled = tokio::select! {
            dialled = dial(at, &self.connector, &self.config.identity) => dialled,
            () = drop_all(&mut tunnels.incoming) => return ENDS.into(),
        };
        let stream = match dialled {
            Ok(stream) => stream,
            Err(error) => return format!("{at}: {error}"),
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let mut trust = Trust::new(&self.config.identity, Expected::OwnServer(Role::Control), certificates);
        let tasks = Tasks::default();
        let ended = match in_time("HTTP/2", async { transport::begin(stream, &tasks).await.map_err(io::Error::other) })
            .await
        {
            Err(error) => error.to_string(),
            Ok((channel, connection)) => tokio::select! {
                ended = session::run(self, channel, &tasks, tunnels) => ended,
                ended = connection => ended.map_or_else(|error| error.to_string(), |()| "control has closed the connection".into()),
                refused = trust.lost() => format!("control is not trusted any more: {refused}"),
            },
        };
        tasks.end();
        ended
    }

    fn take(&mut self, to: Position, whole: bool) {
        let table = self.replica.table().clone();
        let changed = **self.table.borrow() != *table;
        if changed {
            self.table.send_replace(table.clone());
        }
        keeper::note(&self.newest, Newest { term: to.term, table, peers: BTreeMap::new() });
        self.note(|status| {
            (status.term, status.version, status.taken_ms) = (to.term, to.version, Some(now_ms()));
            status.snapshots += u64::from(whole);
            status.deltas += u64::from(!whole);
            (status.rejected, status.waits_for) = (None, None);
        });
    }

    fn refuse(&self, refusal: &Refusal) {
        warn!(%refusal, "a table of control is not taken; the one before stays");
        self.note(|status| status.rejected = Some(refusal.to_string()));
    }

    fn note(&self, change: impl FnOnce(&mut Attachment)) {
        self.status.send_modify(change);
    }
}

/// Refuses everything that comes, until no more can.
async fn drop_all(incoming: &mut mpsc::Receiver<Incoming>) {
    while incoming.recv().await.is_some() {}
}

/// Where a control may be.
async fn resolve(address: &PeerAddress) -> io::Result<Vec<SocketAddr>> {
    let all = in_time(&address.host, lookup_host((address.host.as_str(), address.port))).await?;
    Ok(all.take(ADDRESSES).collect())
}

/// A connection to a control of our cluster.
async fn dial(at: SocketAddr, connector: &TlsConnector, identity: &IdentityStore) -> io::Result<TlsStream<TcpStream>> {
    let socket = in_time("connecting", TcpStream::connect(at)).await?;
    socket.set_nodelay(true)?;
    let cluster = identity.current().domain().cluster.clone();
    let name = isthmus_certs::tls::server_name(identity, &cluster).map_err(io::Error::other)?;
    in_time("TLS", async { connector.connect(name, socket).await.map_err(plain) }).await
}

/// Of a name, so many addresses are tried.
const ADDRESSES: usize = 16;
/// Why nothing is tried any more.
const ENDS: &str = "the gateway ends";

/// In words for people, if the other side's identity is what is wrong.
fn plain(error: io::Error) -> io::Error {
    let of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match of_tls.map(RefusedHandshake::from) {
        Some(refused) => io::Error::new(error.kind(), refused),
        None => error,
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

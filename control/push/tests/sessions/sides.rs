//! Both sides, with what is behind them played by the test.

use isthmus_certs::{Authority, Identity, IdentityStore, Role, TrustAnchors, TrustDomain};
use isthmus_control::{
    ControlStatus, Handles, LinkEvent, Peers,
    app::{PeerStatus, SyncState},
};
use isthmus_control_api::{GatewayId, Table};
use isthmus_push::{
    Attachment, Client, ClientConfig, Incoming, Meter, PushKind, Reached, Refused, Server, ServerConfig, ServerStatus,
    Tunnels,
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::{
    net::{TcpListener, UnixStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Bounds a test that fails; measures nothing.
const BOUND: Duration = Duration::from_secs(30);

/// A cluster's CA.
pub(crate) struct Ca {
    domain: TrustDomain,
    authority: Authority,
}

impl Ca {
    pub(crate) fn new(domain: &str) -> Self {
        let domain: TrustDomain = domain.parse().unwrap();
        Self { authority: Authority::create(domain.clone(), SystemTime::now()).unwrap(), domain }
    }

    fn anchors(&self) -> TrustAnchors {
        TrustAnchors::new(self.domain.clone(), vec![self.authority.certificate().clone()]).unwrap()
    }

    fn identity(&self, role: Role) -> IdentityStore {
        let svid =
            self.authority.issue(&self.domain.process(role), Duration::from_hours(1), SystemTime::now()).unwrap();
        IdentityStore::new(Identity::new(svid, []).unwrap().with_own(Some(self.anchors())))
    }
}

#[derive(Default)]
struct Counts(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    pushed: Vec<(PushKind, usize)>,
    rejected: usize,
    refused: Vec<Refused>,
    propagation: Vec<Duration>,
}

impl Meter for Counts {
    fn attached(&self, _gateways: usize) {}

    fn pushed(&self, kind: PushKind, bytes: usize) {
        self.0.lock().unwrap().pushed.push((kind, bytes));
    }

    fn rejected(&self) {
        self.0.lock().unwrap().rejected += 1;
    }

    fn propagated(&self, took: Duration) {
        self.0.lock().unwrap().propagation.push(took);
    }

    fn refused(&self, what: Refused) {
        self.0.lock().unwrap().refused.push(what);
    }
}

/// A control whose tables the test publishes.
pub(crate) struct Control {
    address: SocketAddr,
    identity: IdentityStore,
    table: watch::Sender<Arc<Table>>,
    status: watch::Sender<Arc<ControlStatus>>,
    term: watch::Sender<Option<u64>>,
    events: Option<mpsc::Receiver<LinkEvent>>,
    peers: Arc<dyn Peers>,
    needed: watch::Sender<u64>,
    counts: Arc<Counts>,
    ask: Box<dyn Fn() -> ServerStatus>,
    shutdown: CancellationToken,
    running: JoinSet<()>,
}

impl Control {
    pub(crate) async fn start(ca: &Ca, term: u64, table: Arc<Table>) -> Self {
        Self::start_at(ca, term, table, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(ca: &Ca, term: u64, table: Arc<Table>, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (identity, counts) = (ca.identity(Role::Control), Arc::new(Counts::default()));
        let loaded = ControlStatus { loaded: true, ..ControlStatus::default() };
        let (table, status, leads) =
            (watch::Sender::new(table), watch::Sender::new(Arc::new(loaded)), watch::Sender::new(Some(term)));
        let (_, peers) = watch::channel(Arc::default());
        let needed = watch::Sender::new(0);
        let handles = Handles { table: table.subscribe(), status: status.subscribe(), peers, term };
        let config = ServerConfig {
            identity: identity.clone(),
            handles,
            term: leads.subscribe(),
            needed: needed.clone(),
            meter: counts.clone(),
        };
        let (server, events) = Server::new(config).unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (peers, ask) = (server.peers(), Box::new(server.status()));
        let running = JoinSet::from_iter([server.run(listener, shutdown.clone())]);
        let (term, events) = (leads, Some(events));
        Self { address, identity, table, status, term, events, peers, needed, counts, ask, shutdown, running }
            .takes_events()
    }

    /// As long as the test does not ask for them itself, somebody has to take them.
    fn takes_events(mut self) -> Self {
        let (to_test, events) = mpsc::channel(64);
        let mut from_gateways = self.events.replace(events).unwrap();
        self.running.spawn(async move {
            while let Some(event) = from_gateways.recv().await {
                let event = match event {
                    // All that was told counts at once here.
                    LinkEvent::Counts(told) => {
                        let (again, _) = tokio::sync::oneshot::channel();
                        let _ = told.send(());
                        LinkEvent::Counts(again)
                    }
                    event => event,
                };
                let _ = to_test.try_send(event);
            }
        });
        self
    }

    pub(crate) fn publish(&self, table: Arc<Table>) {
        self.table.send_replace(table);
    }

    pub(crate) fn newest(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    pub(crate) fn lead(&self, term: Option<u64>) {
        self.term.send_replace(term);
    }

    /// It has not seen its registry, or has.
    pub(crate) fn know_own(&self, loaded: bool) {
        self.status.send_modify(|status| Arc::make_mut(status).loaded = loaded);
    }

    /// Says that east is reached, and whether it is known what it exports.
    pub(crate) fn know_east(&self, known: bool) {
        let east = PeerStatus {
            up: true,
            known,
            received: SyncState::Syncing,
            sent: SyncState::Syncing,
            last_received_ms: None,
            last_sent_ms: None,
            imported: 0,
            exported: 0,
            error: None,
        };
        let peers = [("east".parse().unwrap(), east)].into();
        self.status.send_replace(Arc::new(ControlStatus { loaded: true, peers, ..ControlStatus::default() }));
    }

    pub(crate) fn trust_only(&self, ca: &Ca) {
        self.identity.replace((*self.identity.current()).clone().with_own(Some(ca.anchors())));
    }

    pub(crate) fn pushed(&self) -> Vec<(PushKind, usize)> {
        self.counts.0.lock().unwrap().pushed.clone()
    }

    pub(crate) fn propagation(&self) -> Vec<Duration> {
        self.counts.0.lock().unwrap().propagation.clone()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn rejections(&self) -> usize {
        self.counts.0.lock().unwrap().rejected
    }

    pub(crate) fn status(&self) -> ServerStatus {
        (self.ask)()
    }

    pub(crate) async fn wait_status(&self, wanted: impl Fn(&ServerStatus) -> bool) -> ServerStatus {
        let asking = async {
            loop {
                let status = self.status();
                if wanted(&status) {
                    return status;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(BOUND, asking).await.unwrap_or_else(|_| panic!("{:?}", self.status()))
    }

    pub(crate) async fn event(&mut self) -> LinkEvent {
        timeout(BOUND, self.events.as_mut().unwrap().recv()).await.unwrap().unwrap()
    }

    /// What control is told next of what is reached: the cluster, and how many of its gateways.
    pub(crate) async fn reached(&mut self) -> (String, usize) {
        loop {
            if let LinkEvent::Reached { cluster, gateways, .. } = self.event().await {
                return (cluster.to_string(), gateways.len());
            }
        }
    }

    pub(crate) fn needed(&self) -> watch::Receiver<u64> {
        self.needed.subscribe()
    }

    pub(crate) fn refused(&self) -> Vec<Refused> {
        self.counts.0.lock().unwrap().refused.clone()
    }

    pub(crate) async fn open(&self, cluster: &str, gateway: GatewayId) -> io::Result<UnixStream> {
        self.peers.open(&cluster.parse().unwrap(), gateway).await
    }

    /// Where it was.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.shutdown.cancel();
        self.running.shutdown().await;
        self.address
    }
}

/// A gateway whose tunnels the test plays.
pub(crate) struct Gateway {
    table: watch::Receiver<Arc<Table>>,
    status: watch::Receiver<Attachment>,
    _reached: watch::Sender<Reached>,
    _links: watch::Sender<Vec<isthmus_push::LinkReport>>,
    incoming: mpsc::Sender<Incoming>,
    opened: Mutex<Option<mpsc::Receiver<std::os::unix::net::UnixStream>>>,
    shutdown: CancellationToken,
    running: JoinSet<()>,
}

impl Gateway {
    pub(crate) fn start(ca: &Ca, id: u64, control: &Control, reached: Reached) -> Self {
        Self::begin(ca, id, control.address, (Arc::default(), 0), reached, "")
    }

    pub(crate) fn start_with(ca: &Ca, id: u64, control: &Control, kept: (Arc<Table>, u64)) -> Self {
        Self::begin(ca, id, control.address, kept, Reached::new(), "")
    }

    pub(crate) fn start_alone(ca: &Ca, id: u64, control: SocketAddr, kept: (Arc<Table>, u64)) -> Self {
        Self::begin(ca, id, control, kept, Reached::new(), "")
    }

    pub(crate) fn start_that_refuses(ca: &Ca, id: u64, control: &Control, service: &'static str) -> Self {
        Self::begin(ca, id, control.address, (Arc::default(), 0), Reached::new(), service)
    }

    fn begin(
        ca: &Ca,
        id: u64,
        control: SocketAddr,
        kept: (Arc<Table>, u64),
        reached: Reached,
        refuses: &'static str,
    ) -> Self {
        let config = ClientConfig {
            address: control.to_string().parse().unwrap(),
            gateway: GatewayId(id),
            name: format!("gateway {id}"),
            version: "test".into(),
            identity: ca.identity(Role::Gateway),
            kept,
        };
        let client = Client::new(config).unwrap();
        let (reached_to, links_to) = (watch::Sender::new(reached), watch::Sender::default());
        let ((incoming, from_peers), (opened_to, opened)) = (mpsc::channel(4), mpsc::channel(4));
        let tunnels = Tunnels {
            reached: reached_to.subscribe(),
            links: links_to.subscribe(),
            incoming: from_peers,
            open: Arc::new(move |_, _| {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                opened_to.try_send(theirs).map_err(io::Error::other)?;
                Ok(ours)
            }),
            fits: Arc::new(move |table| {
                let bad = table.exports.keys().find(|key| key.service.as_str() == refuses);
                bad.map_or(Ok(()), |bad| Err(format!("{} is not for me", bad.service)))
            }),
        };
        let (table, status, shutdown) = (client.table(), client.status(), CancellationToken::new());
        let running = JoinSet::from_iter([client.run(tunnels, shutdown.clone())]);
        let opened = Mutex::new(Some(opened));
        Self { table, status, _reached: reached_to, _links: links_to, incoming, opened, shutdown, running }
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    pub(crate) fn client_status(&self) -> watch::Receiver<Attachment> {
        self.status.clone()
    }

    pub(crate) async fn wait(&mut self, wanted: &Arc<Table>) {
        let status = self.status.clone();
        let arrived = self.table.wait_for(|table| **table == **wanted);
        assert!(timeout(BOUND, arrived).await.is_ok(), "{:?}", *status.borrow());
    }

    pub(crate) async fn wait_status(&mut self, wanted: impl FnMut(&Attachment) -> bool) {
        let last = self.status.clone();
        assert!(timeout(BOUND, self.status.wait_for(wanted)).await.is_ok(), "{:?}", *last.borrow());
    }

    /// The other end of a stream that control asked for.
    pub(crate) async fn opened(&self) -> UnixStream {
        let mut opened = self.opened.lock().unwrap().take().unwrap();
        let stream = timeout(BOUND, opened.recv()).await.unwrap().unwrap();
        *self.opened.lock().unwrap() = Some(opened);
        stream.set_nonblocking(true).unwrap();
        UnixStream::from_std(stream).unwrap()
    }

    pub(crate) async fn incoming(&self, incoming: Incoming) {
        self.incoming.send(incoming).await.unwrap();
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.running.join_next().await.unwrap().unwrap();
    }
}

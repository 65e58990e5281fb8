//! A core for tests: east's only one, on the test's thread, with a peer that dials it and clients that are handed to it.

use super::*;
use crate::{
    access::prepare::Maker,
    admin::Readiness,
    app::Limits,
    metrics::{Metrics, scrape},
    peer::{bound::AcceptedTunnels, quic::QuicCommon},
    status::{ExtraStatus, merge},
    tunnel::{
        Direction, TunnelHealth,
        driver::{
            MuxConfig,
            tests::pair::{self, until},
        },
        mux::Settings,
        tls::{
            Handshaken, Wire, handshake,
            tests::{authority, connection, identity},
        },
    },
};
use isthmus_certs::{Authority, tls as configs};
use isthmus_control_api::{Endpoint, Export, Import, Link};
use std::io;
use tokio::{net::TcpStream, sync::Semaphore};

/// Where the import of every table listens: an address that no machine has, so clients are handed in.
pub(crate) const LISTEN: &str = "192.0.2.1:80";

/// The core of a gateway in cluster east.
pub(crate) struct East {
    pub(crate) core: Rc<Core>,
    pub(crate) east: Authority,
    pub(crate) west: Authority,
    table: watch::Sender<Arc<Table>>,
    maker: RefCell<Maker>,
    mail: Vec<mpsc::Receiver<Mail>>,
}

impl East {
    /// Linked with west.
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// The same, with a configuration that the test changes.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::build(change, |_| ())
    }

    /// The same, with somebody who takes spans.
    pub(crate) fn with_tracer(tracer: Tracer) -> Self {
        Self::build(|_| (), |common| common.tracer = Some(tracer))
    }

    /// The same, the first one of so many cores, which share a listener.
    pub(crate) fn sharing(cores: usize, shared: listener::shared::Shared) -> Self {
        Self::build(|config| config.cores = cores, |common| common.shared_listener = shared)
    }

    /// Another core of the same gateway, on the same thread, without a table.
    pub(crate) fn other_core(&self, id: usize) -> Rc<Core> {
        Rc::new(Core::new(id, self.core.common.clone()))
    }

    fn build(change: impl FnOnce(&mut Config), finish: impl FnOnce(&mut Common)) -> Self {
        let [west, east] = ["west", "east"].map(authority);
        let store = IdentityStore::new(identity(&east, &[&west]));
        let mut config = config();
        change(&mut config);
        let (table, subscribed) = watch::channel(Arc::default());
        let (mailboxes, mail) = (0..config.cores).map(|_| mpsc::channel(8)).unzip();
        let tls = crate::peer::TlsConfigs::new(&store, subscribed).unwrap();
        let mut common = Common {
            quic: QuicCommon::new(&config, tls.isthmus_server()).unwrap(),
            handshakes: Arc::new(Semaphore::new(config.limits.handshakes)),
            tls,
            board: Board::new(config.cores),
            identity: store,
            mailboxes,
            exchanges: Exchanges(mpsc::channel(1).0),
            joins: Joins(mpsc::channel(1).0),
            accepted: AcceptedTunnels::new(config.cores),
            spent: Spent::new().0,
            recorder: None,
            tracer: None,
            tap: Arc::default(),
            findings: Default::default(),
            local_hop: Default::default(),
            shared_listener: Default::default(),
            gates: Default::default(),
            measures: Default::default(),
            ready: Ready::new(config.cores),
            metrics: Metrics::new(config.cores),
            config,
            draining: CancellationToken::new(),
            ending: CancellationToken::new(),
        };
        finish(&mut common);
        let common = Arc::new(common);
        let maker = RefCell::new(Maker::new("east.demo".parse().unwrap(), common.metrics.clone()));
        let east = Self { core: Rc::new(Core::new(0, common)), east, west, table, maker, mail };
        east.apply(linked());
        east
    }

    /// Takes a table, as the core does when control has a new one.
    pub(crate) fn apply(&self, table: Table) {
        let table = self.table.send_replace(Arc::new(table));
        drop(table);
        let prepared = self.maker.borrow_mut().prepare(self.table.borrow().clone());
        self.core.apply(&prepared, &mut Listeners::default(), &mut Links::default());
    }

    /// Reads the core's mail from now on, as its main loop does.
    pub(crate) fn read_mail(&mut self) {
        let (core, mut mail) = (self.core.clone(), self.mail.remove(0));
        pair::spawn(async move {
            while let Some(mail) = mail.recv().await {
                core.receive(mail, &Listeners::default());
            }
        });
    }

    /// Trusts these clusters, and no others.
    pub(crate) fn trust(&self, clusters: &[&Authority]) {
        self.core.common.identity.replace(identity(&self.east, clusters));
    }

    /// West's end of a connection that east's core has been given, behind the handshake.
    pub(crate) async fn dialled(&self) -> Handshaken {
        self.dialled_by(&self.west).await
    }

    /// The same of another cluster, which the core trusts.
    pub(crate) async fn dialled_by(&self, cluster: &Authority) -> Handshaken {
        let (dialler, acceptor) = connection().await;
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let from = acceptor.peer_addr().unwrap();
        crate::peer::accept(&self.core, acceptor.into_std().unwrap(), from, permit);
        self.handshake_of(cluster, dialler).await
    }

    /// West's side of a handshake.
    pub(crate) async fn handshake(&self, dialler: TcpStream) -> Handshaken {
        self.handshake_of(&self.west, dialler).await
    }

    /// A cluster's side of a handshake.
    pub(crate) async fn handshake_of<W: Wire>(&self, cluster: &Authority, dialler: W) -> Handshaken<W> {
        let (config, name) = self.client_config_of(cluster);
        handshake::dial(config, name.try_into().unwrap(), dialler).await.unwrap()
    }

    /// What west dials with, and whom.
    pub(crate) fn client_config(&self) -> (Arc<rustls::ClientConfig>, String) {
        self.client_config_of(&self.west)
    }

    fn client_config_of(&self, cluster: &Authority) -> (Arc<rustls::ClientConfig>, String) {
        let west = IdentityStore::new(identity(cluster, &[&self.east]));
        let cluster = "east".parse().unwrap();
        let config = configs::client_config(&west, &cluster, &[b"isthmus/1"]).unwrap();
        (config, configs::server_name(&west, &cluster).unwrap().to_str().into_owned())
    }

    /// West's end of a tunnel that is live at both ends.
    pub(crate) async fn peer(&self, settings: Settings) -> pair::End {
        let end = pair::start_with(self.dialled().await, Direction::Dialled, "east", settings);
        end.tunnel_is(TunnelHealth::Live).await;
        until(|| self.core.peers.is_live(&"west".parse().unwrap())).await;
        end
    }

    /// The same of another cluster, which the core trusts and is linked with.
    pub(crate) async fn peer_of(&self, cluster: &Authority) -> pair::End {
        let end = pair::start_with(self.dialled_by(cluster).await, Direction::Dialled, "east", pair::SETTINGS);
        end.tunnel_is(TunnelHealth::Live).await;
        let name = cluster.domain().cluster.clone();
        until(|| self.core.peers.is_direct(&name)).await;
        end
    }

    /// Hands a client to the core: the client's own end.
    pub(crate) async fn client(&self) -> TcpStream {
        let (client, accepted) = connection().await;
        self.serve(accepted);
        client
    }

    /// Hands the core a client that it accepted.
    pub(crate) fn serve(&self, accepted: TcpStream) {
        let from = accepted.peer_addr().ok();
        let socket = accepted.into_std().unwrap().into();
        let listen = LISTEN.parse().unwrap();
        let client = Client { socket, listen, from, may_have_joined: false, moved: false, greeting: None };
        stream::start(&self.core, client);
    }

    /// Whether /metrics has this line.
    pub(crate) fn counted(&self, line: &str) -> bool {
        self.metrics().lines().any(|found| found == line)
    }

    /// The sum of a whole number's lines.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once(' '));
        lines.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    fn metrics(&self) -> String {
        let status = merge(&ExtraStatus::default(), &Readiness::default(), &[]);
        scrape::text(&self.core.common.metrics, status, &[]).unwrap()
    }
}

fn config() -> Config {
    let limits = Limits { connections: 100, streams_per_tunnel: 100, handshakes: 8, udp_flows: 10, memory: 64 << 20 };
    // No test is to wait for one of these that does not say so.
    let long = Duration::from_hours(1);
    Config {
        cluster: "east".parse().unwrap(),
        clusterset: "demo".parse().unwrap(),
        tunnel_listen: None,
        busy_poll: true,
        shared_listener: false,
        transparent_sources: Vec::new(),
        measurements: true,
        place: Default::default(),
        cores: 1,
        limits,
        mux: MuxConfig::new(&limits, 1, GatewayId(0xea57)),
        handshake_timeout: long,
        connect_timeout: long,
        udp_idle: long,
        drain: long,
        access_log: None,
        traces: None,
    }
}

/// The service that tests use.
pub(crate) fn service() -> ServicePort {
    ServicePort::tcp("shop/api".parse().unwrap(), 80)
}

/// A table with a link, and nothing else.
pub(crate) fn linked() -> Table {
    Table { links: [("west".parse().unwrap(), Link::default())].into(), ..Table::default() }
}

/// The same, and the service imported; `clusters`: who has it.
pub(crate) fn importing(clusters: &[&str]) -> Table {
    let clusters = clusters.iter().map(|cluster| (cluster.parse().unwrap(), 1)).collect();
    let import = Import {
        service: service(),
        affinity: Default::default(),
        clusters,
        weights: None,
        sticky: false,
        policy: Default::default(),
    };
    let import = Arc::new(import);
    Table { imports: [(LISTEN.parse().unwrap(), import)].into(), ..linked() }
}

/// A table that has, besides what `table` has, the service here.
pub(crate) fn exporting(table: Table, endpoints: &[SocketAddr]) -> Table {
    let endpoints = endpoints.iter().map(|&address| Endpoint::at(address)).collect();
    Table { exports: [(service(), Arc::new(Export { endpoints, ..Export::default() }))].into(), ..table }
}

/// A local connection of the gateway's, and its far end.
pub(crate) async fn local() -> (Rc<crate::socket::Socket>, TcpStream) {
    let (near, far) = connection().await;
    (Rc::new(crate::socket::Socket::new(near.into_std().unwrap().into()).unwrap()), far)
}

/// Closes with RST.
pub(crate) fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
}

/// What comes, to the end, and whether that was a clean one.
pub(crate) async fn read_all(socket: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = vec![];
    let ended = tokio::io::AsyncReadExt::read_to_end(socket, &mut bytes).await;
    (bytes, ended.map(drop))
}

/// Writes until nothing more is taken, though everybody on this thread has had their turn many times: how many bytes.
pub(crate) async fn fill(socket: &TcpStream) -> usize {
    let (mut in_vain, mut written) = (0, 0);
    until(|| {
        let taken = socket.try_write(&[7; 64 * 1024]);
        in_vain = if taken.is_ok() { 0 } else { in_vain + 1 };
        written += taken.unwrap_or(0);
        in_vain > 200
    })
    .await;
    written
}

/// An endpoint that answers nobody: its queue is full. It is there as long as what comes with its address.
pub(crate) async fn deaf() -> (SocketAddr, (tokio::net::TcpListener, TcpStream)) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let queued = TcpStream::connect(address).await.unwrap();
    (address, (listener, queued))
}

/// An endpoint that takes connections and does nothing with them.
pub(crate) async fn idle() -> (SocketAddr, tokio::net::TcpListener) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), listener)
}

/// Has the kernel give a connection up that takes nothing, as it does with one that falls silent, and soon.
pub(crate) fn give_up_soon(socket: &crate::socket::Socket) {
    rustix::net::sockopt::set_tcp_user_timeout(socket, 100).unwrap();
}

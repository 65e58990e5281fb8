//! Builds and wires the gateway's parts; the only place that knows them all.
//!
//! ```text
//! control's thread: acceptor of the tunnel port ──▶ core 0 ┐  each core: its own thread, reactor,
//!                   admin                       ──▶ core 1 ┤  listeners, tunnels, streams
//!                   table (watch) ─▶ access ───▶ core n ┘
//! ```

use crate::{
    access::prepare::{self, Maker, Prepared, Spent},
    admin::Readiness,
    balance::near::Place,
    board::{Board, Tunnels},
    checks::Findings,
    console,
    core::{Common, Core, Mail},
    exchange::{self, Exchanges, Incoming},
    hop::LocalHop,
    limit::Gates,
    listener::shared::Shared,
    measure::Measures,
    metrics::Metrics,
    peer::{
        TlsConfigs,
        bound::AcceptedTunnels,
        join::{IncomingJoin, Joins},
        quic::QuicCommon,
    },
    ready::Ready,
    status::{CoreQuery, probe::CoreProbe},
    stream::record::{AccessLog, RecordWriter, Recorder},
    traces::{About, ExporterThread, Tracer, Traces},
    tunnel::{
        driver::MuxConfig,
        mux::{Budget, Introduction, Settings},
    },
};
use isthmus_certs::{IdentityStore, TrustDomain};
use isthmus_control_api::{Cidr, ClusterName, ClustersetName, GatewayId, Table};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    runtime::LocalRuntime,
    sync::{Semaphore, mpsc, watch},
};
use tokio_util::sync::CancellationToken;

/// How a gateway is run. What can change while it runs is in the [`Table`].
#[derive(Debug, Clone)]
pub struct Config {
    /// This cluster.
    pub cluster: ClusterName,
    /// Its clusterset.
    pub clusterset: ClustersetName,
    /// Where peers dial us; `None`: they do not.
    pub tunnel_listen: Option<SocketAddr>,
    /// How many cores to use, at least 1.
    pub cores: usize,
    /// Whether cores ask for more for a moment after work, before they sleep.
    pub busy_poll: bool,
    /// Whether one socket a core is to take the connections to all imports, where the kernel lets it.
    pub shared_listener: bool,
    /// The addresses that it may use as clients' own where an export wants that; none: it never does.
    pub transparent_sources: Vec<Cidr>,
    /// Whether linked clusters may measure what a link with this gateway carries, within bounds.
    pub measurements: bool,
    /// Where it runs: for policies that prefer near endpoints.
    pub place: Place,
    /// The bounds.
    pub limits: Limits,
    /// How our own transport is run.
    pub mux: MuxConfig,
    /// How long a handshake on the tunnel port, and the HELLO after it, may take.
    pub handshake_timeout: Duration,
    /// How long a UDP flow lives on in which nothing moves.
    pub udp_idle: Duration,
    /// How long an endpoint may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long streams may go on after a drain has begun.
    pub drain: Duration,
    /// Where to write a record of each stream, if at all.
    pub access_log: Option<AccessLog>,
    /// Where spans of sampled streams go, if anywhere.
    pub traces: Option<Traces>,
}

/// The gateway's bounds. Each has a counter of what it refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams at once.
    pub connections: usize,
    /// Streams at once that a peer may open on one tunnel.
    pub streams_per_tunnel: u32,
    /// Handshakes under way on the tunnel port.
    pub handshakes: usize,
    /// UDP flows of local clients at once.
    pub udp_flows: usize,
    /// Bytes of credit that all streams together may grant.
    pub memory: usize,
}

/// The credit that a stream begins with: what a client may send before its stream is accepted.
const FIRST_WINDOW: u32 = 64 * 1024;

impl MuxConfig {
    /// Our own transport within `limits`, for the gateway `gateway` of `cores` cores.
    pub fn new(limits: &Limits, cores: usize, gateway: GatewayId) -> Self {
        let cores = u16::try_from(cores).unwrap_or(u16::MAX);
        let about = Introduction::of(gateway);
        let settings = Settings { window: FIRST_WINDOW, max_streams: limits.streams_per_tunnel, cores, about };
        Self { settings, budget: Arc::new(Budget::new(limits.memory)) }
    }
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The tunnel port cannot be listened on.
    #[error("tunnel.listen: cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// Access records cannot be written.
    #[error("accessLog: {0:?}: {1}")]
    AccessLog(AccessLog, io::Error),
    /// Spans cannot be sent.
    #[error("traces: {0}")]
    Traces(io::Error),
    /// TLS cannot be configured.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The system does not give a thread or a reactor.
    #[error("cannot start a core: {0}")]
    Core(io::Error),
}

/// A running gateway.
pub struct Gateway {
    common: Arc<Common>,
    threads: Vec<JoinHandle<()>>,
    incoming: Option<mpsc::Receiver<Incoming>>,
    joining: Option<mpsc::Receiver<IncomingJoin>>,
    acceptor: Option<TcpListener>,
    records: Option<RecordWriter>,
    spans: Option<ExporterThread>,
}

/// Letters that a core's mailbox holds.
const MAILBOX: usize = 1024;
/// The name of threads that may block, for files and lookups: whoever looks at a process sees that they come and go.
pub const POOL: &str = "pool";
/// Exchanges that wait for control to take them.
const EXCHANGES: usize = 64;
/// Connections of those who want to join, that wait to be taken.
const JOINS: usize = 4;

impl Gateway {
    /// Starts the cores. Nothing is accepted from peers until [`Self::accept`] runs.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        config: Config,
        identity: IdentityStore,
        table: &watch::Receiver<Arc<Table>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let acceptor = config.tunnel_listen.map(|address| {
            let listener = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
            listener.map_err(|e| StartError::Listen(address, e))
        });
        let acceptor = acceptor.transpose()?;
        let (recorder, records) = start_records(config.access_log.as_ref(), &metrics)?.unzip();
        let (tracer, spans) = start_traces(&config, &metrics)?.unzip();
        let (mailboxes, letters): (Vec<_>, Vec<_>) = (0..config.cores).map(|_| mpsc::channel(MAILBOX)).unzip();
        let (exchanges, incoming) = mpsc::channel(EXCHANGES);
        let (joins, joining) = mpsc::channel(JOINS);
        let tls = TlsConfigs::new(&identity, table.clone())?;
        let domain = TrustDomain::new(config.cluster.clone(), config.clusterset.clone());
        let (maker, (spent, unused)) = (Maker::new(domain, metrics.clone()), Spent::new());
        let common = Arc::new(Common {
            quic: QuicCommon::new(&config, tls.isthmus_server())?,
            handshakes: Arc::new(Semaphore::new(config.limits.handshakes)),
            tls,
            board: Board::new(config.cores),
            identity,
            mailboxes,
            exchanges: Exchanges(exchanges),
            joins: Joins(joins),
            findings: Findings::default(),
            local_hop: Arc::<LocalHop>::default(),
            shared_listener: Shared::start(config.shared_listener, config.cores),
            gates: Gates::default(),
            measures: Measures::default(),
            accepted: AcceptedTunnels::new(config.cores),
            spent,
            recorder,
            tracer,
            tap: Arc::default(),
            ready: Ready::new(config.cores),
            config,
            metrics,
            draining: CancellationToken::new(),
            ending: CancellationToken::new(),
        });
        let prepared = prepare::start(maker, table.clone(), unused, common.draining.clone());
        let (preparing, tables) = prepared.map_err(StartError::Core)?;
        let start = |(id, letters)| start_core(id, common.clone(), letters, tables.clone());
        let cores = letters.into_iter().enumerate().map(start);
        let threads = cores.chain([Ok(preparing)]).collect::<io::Result<_>>().map_err(StartError::Core)?;
        Ok(Self { common, threads, incoming: Some(incoming), joining: Some(joining), acceptor, records, spans })
    }

    /// Takes peers' connections and gives each to the core that has the fewest, until the gateway drains. Runs on the caller's
    /// runtime; handshakes are the cores' work.
    ///
    /// # Errors
    /// The listener cannot be registered with the runtime.
    pub fn accept(&mut self) -> io::Result<impl Future<Output = ()> + use<>> {
        let listener = self.acceptor.take().map(tokio::net::TcpListener::from_std).transpose()?;
        Ok(crate::listener::tunnel::serve(self.common.clone(), listener))
    }

    /// The exchanges that peers open; once.
    pub fn take_incoming(&mut self) -> Option<mpsc::Receiver<Incoming>> {
        self.incoming.take()
    }

    /// The connections of those who want to join; once. Nobody can, if nobody takes them.
    pub fn take_joining(&mut self) -> Option<mpsc::Receiver<IncomingJoin>> {
        self.joining.take()
    }

    /// A handle to the running gateway for control and admin.
    pub fn handle(&self) -> Handle {
        Handle(self.common.clone())
    }

    /// Drains: nothing new is taken, streams may finish until the deadline. Returns when the cores have ended.
    pub async fn drain(self) {
        self.common.ready.drain();
        self.common.draining.cancel();
        let ending = self.common.ending.clone();
        let deadline = tokio::time::sleep(self.common.config.drain);
        let ended = tokio::task::spawn_blocking(move || {
            for thread in self.threads {
                // A core that panicked has said so on stderr; the others still drain.
                let _ = thread.join();
            }
            if let Some(records) = self.records {
                records.finish(LAST_RECORDS);
            }
            if let Some(spans) = self.spans {
                spans.finish(LAST_RECORDS);
            }
        });
        tokio::pin!(ended, deadline);
        tokio::select! {
            _ = &mut ended => return,
            () = &mut deadline => ending.cancel(),
        }
        let _ = ended.await;
    }
}

/// How long the last access records may take, and how long the last spans.
const LAST_RECORDS: Duration = Duration::from_secs(1);

fn start_records(log: Option<&AccessLog>, metrics: &Metrics) -> Result<Option<(Recorder, RecordWriter)>, StartError> {
    let start = |log: &AccessLog| {
        Recorder::start(log, metrics.control().clone()).map_err(|error| StartError::AccessLog(log.clone(), error))
    };
    log.map(start).transpose()
}

fn start_traces(config: &Config, metrics: &Metrics) -> Result<Option<(Tracer, ExporterThread)>, StartError> {
    let about = || About {
        cluster: config.cluster.to_string(),
        clusterset: config.clusterset.to_string(),
        gateway: config.mux.settings.about.gateway.to_string(),
    };
    let start =
        |traces: &Traces| Tracer::start(traces, &about(), metrics.control().clone()).map_err(StartError::Traces);
    config.traces.as_ref().map(start).transpose()
}

/// See [`Gateway::handle`].
#[derive(Clone)]
pub struct Handle(Arc<Common>);

impl Handle {
    /// Opens an exchange with one of a cluster's gateways.
    ///
    /// # Errors
    /// There is no tunnel, or it is too busy.
    pub fn open_exchange(&self, cluster: &ClusterName, gateway: GatewayId) -> io::Result<UnixStream> {
        exchange::open(&self.0.board, &self.0.mailboxes, cluster, gateway)
    }

    /// Which clusters and gateways have live tunnels, and every change of it.
    pub fn tunnels(&self) -> watch::Receiver<Tunnels> {
        self.0.board.subscribe()
    }

    /// Whether the gateway is ready, and every change of it.
    pub fn ready(&self) -> watch::Receiver<Readiness> {
        self.0.ready.subscribe()
    }

    /// Asks a core how it fares. A core whose mailbox is full does not answer.
    pub fn ask(&self, core: usize, query: CoreQuery) {
        if let Some(mailbox) = self.0.mailboxes.get(core) {
            drop(mailbox.try_send(Mail::Report(query)));
        }
    }

    /// Has a core open streams. One whose mailbox is full does not answer.
    pub fn probe(&self, core: usize, asked: CoreProbe) {
        if let Some(mailbox) = self.0.mailboxes.get(core) {
            drop(mailbox.try_send(Mail::Probe(asked)));
        }
    }

    /// Where the console gets records of streams.
    pub fn records(&self) -> console::Records {
        console::Records(Some(self.0.tap.clone()))
    }

    /// Ends the drain's patience: what still runs is cut off.
    pub fn end_now(&self) {
        self.0.ending.cancel();
    }
}

fn start_core(
    id: usize,
    common: Arc<Common>,
    letters: mpsc::Receiver<Mail>,
    tables: watch::Receiver<Prepared>,
) -> io::Result<JoinHandle<()>> {
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name(POOL)
            .build_local(Default::default());
        let runtime: LocalRuntime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let _ = ready.send(Ok(()));
        runtime.block_on(Core::run(id, common, letters, tables));
        // Lookups of DNS names may hang in their threads: a drain does not wait for them.
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name(format!("core-{id}")).spawn(run)?;
    is_ready.recv().map_err(|_| io::Error::other("the core's thread ended"))??;
    Ok(thread)
}

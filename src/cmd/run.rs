//! `isthmus run`: gateway and control in one process, and the glue between them.

mod glue;
mod joins;
mod kubernetes;
mod names;
mod quota;
mod report;

use super::Failure;
use isthmus_certs::{Directory, IdentityStore};
use isthmus_control::{AccessLog, Config, Control};
use isthmus_control_api::GatewayId;
use isthmus_gateway::{
    Gateway, Limits, MuxConfig,
    admin::{self, AdminSources},
    metrics::Metrics,
};
use std::{net::TcpListener, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Run a cluster's gateway, with its control, from a configuration file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration (docs/configuration.md)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    log: crate::log::LogFormat,
}

/// Runs until SIGTERM or SIGINT, then drains; a second one ends it at once.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let config = Config::load(&args.config)?.with_links();
    config.check_files()?;
    crate::log::init(args.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config));
    // Lookups of DNS names may hang in their threads: nothing waits for them.
    runtime.shutdown_background();
    result
}

async fn serve(config: Config) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let admin = TcpListener::bind(config.admin)
        .map_err(|e| Failure::failed(format!("admin: cannot listen on {}: {e}", config.admin)))?;
    let (identity, renewal) = IdentityStore::open(Directory::new(&config.identity))?;
    belongs(&config, &identity)?;
    let id = gateway_id();
    let gateway_config = gateway_config(&config, id);
    let metrics = Metrics::new(gateway_config.cores);
    metrics.memory_limit.set(gateway_config.limits.memory as u64);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let zone = names::serve(&config, &mut tasks, &stop)?;
    let (registry, reports) = kubernetes::registry(&config, id, zone).await?;
    let (control, handles) = Control::new(config.cluster.clone(), config.state.clone(), registry);
    let cores = gateway_config.cores;
    let mut gateway = Gateway::start(gateway_config, identity.clone(), &handles.table, metrics.clone())?;

    // The admin address answers during the drain as well: /readyz has to say so.
    let admin_stop = CancellationToken::new();
    let handle = gateway.handle();
    let events = glue::events(&mut tasks, &handle, gateway.take_incoming(), &stop);
    let control = JoinSet::from_iter([control.run(Arc::new(glue::Tunnels(handle.clone())), events, stop.clone())]);
    tasks.spawn(renewal.run());
    if let Some(joining) = gateway.take_joining() {
        let host = joins::Inviting::new(&config, identity.clone(), handles.table.clone());
        tasks.spawn(joins::serve(joining, Arc::new(host), metrics.clone()));
    }
    tasks.spawn(report::count_reloads(handles.status.clone(), metrics.clone()));
    let ask = handle.clone();
    let sources = AdminSources {
        metrics,
        cores,
        ask: Arc::new(move |core, query| ask.ask(core, query)),
        ready: handle.ready(),
        extra: report::extra(&config, identity.clone(), handles.clone(), id),
    };
    if let Some(to) = reports {
        tasks.spawn(kubernetes::report_links(to, sources.clone(), handles.status, identity));
    }
    let served = admin::serve(admin, sources, admin_stop.clone());
    tasks.spawn(async {
        if let Err(error) = served.await {
            tracing::error!(%error, "the admin address is not served any more");
        }
    });
    let accept = gateway.accept()?;
    tracing::info!(cluster = %config.cluster, tunnel = %config.tunnel.listen, admin = %config.admin, "running");
    tokio::select! {
        () = accept => {}
        signal = signals.next() => tracing::info!(signal, seconds = config.drain.as_secs(), "draining"),
    }
    tokio::select! {
        () = gateway.drain() => tracing::info!("drained"),
        signal = signals.next() => tracing::warn!(signal, "ending at once"),
    }
    stop.cancel();
    admin_stop.cancel();
    // A control that is stuck is left: what it wrote last is good.
    let _ = tokio::time::timeout(LAST_WORDS, control.join_all()).await;
    Ok(())
}

/// For control's last write.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What ends the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The identity must be that of the cluster that the configuration names.
pub(super) fn belongs(config: &Config, identity: &IdentityStore) -> Result<(), Failure> {
    let current = identity.current();
    let expected = format!("{}.{}", config.cluster, config.clusterset);
    let found = current.id().trust_domain();
    if found == expected {
        return Ok(());
    }
    let (path, directory) = (config.path.display(), config.identity.display());
    let message =
        format!("{path}: identity: {directory} holds the identity of {found:?}, expected that of {expected:?}");
    Err(Failure::failed(message))
}

/// Which of its cluster's gateways this process is: drawn anew at each start, and never 0.
fn gateway_id() -> GatewayId {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    GatewayId(random | 1)
}

fn gateway_config(config: &Config, id: GatewayId) -> isthmus_gateway::Config {
    let available = || std::thread::available_parallelism().map_or(1, Into::into);
    let cores = config.cores.map_or_else(available, Into::into);
    let limits = Limits {
        connections: config.limits.connections,
        streams_per_tunnel: u32::try_from(config.limits.streams_per_peer).unwrap_or(u32::MAX),
        handshakes: config.limits.handshakes,
        udp_flows: config.limits.udp_flows,
        memory: usize::try_from(config.limits.memory).unwrap_or(usize::MAX),
    };
    isthmus_gateway::Config {
        cluster: config.cluster.clone(),
        clusterset: config.clusterset.clone(),
        tunnel_listen: Some(config.tunnel.listen),
        cores,
        busy_poll: config.busy_poll.unwrap_or_else(|| !quota::applies()),
        limits,
        mux: MuxConfig::new(&limits, cores, id),
        handshake_timeout: config.limits.handshake_timeout,
        connect_timeout: config.limits.connect_timeout,
        udp_idle: config.udp.idle_timeout,
        drain: config.drain,
        access_log: match &config.access_log {
            AccessLog::Off => None,
            AccessLog::Stdout => Some(isthmus_gateway::AccessLog::Stdout),
            AccessLog::File(path) => Some(isthmus_gateway::AccessLog::File(path.clone())),
        },
    }
}

//! The gateway at work inside a process.

use super::{Process, Signals, quota, report, report::Extra};
use crate::cmd::Failure;
use isthmus_control::{AccessLog, Config};
use isthmus_control_api::{Cidr, GatewayId, Table};
use isthmus_gateway::{
    Gateway, Handle, Limits, MuxConfig,
    admin::{AdminSources, Readiness},
    balance::near::Place,
    console::Settings,
    memory,
    metrics::Metrics,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::watch;

/// A gateway that runs, and takes nothing from peers yet.
pub(in crate::cmd) struct Carrying {
    pub(in crate::cmd) gateway: Gateway,
    pub(in crate::cmd) handle: Handle,
    pub(in crate::cmd) metrics: Arc<Metrics>,
    cores: usize,
    drain: Duration,
    token_file: Option<PathBuf>,
    transparent_sources: Arc<[Cidr]>,
}

impl Carrying {
    /// Starts the gateway `id` with the tables of `table`.
    pub(in crate::cmd) fn start(
        process: &Process,
        id: GatewayId,
        table: &watch::Receiver<Arc<Table>>,
    ) -> Result<Self, Failure> {
        let config = gateway_config(&process.config, id);
        let (cores, drain) = (config.cores, config.drain);
        let metrics = Metrics::new(cores);
        metrics.memory_limit.set(config.limits.memory as u64);
        let gateway = Gateway::start(config, process.identity.clone(), table, metrics.clone())?;
        let token_file = process.config.console.token_file.clone();
        let transparent_sources = process.config.transparent_sources.as_slice().into();
        Ok(Self { handle: gateway.handle(), gateway, metrics, cores, drain, token_file, transparent_sources })
    }

    /// Whether it is ready, as its cores know it.
    pub(in crate::cmd) fn ready(&self) -> watch::Receiver<Readiness> {
        self.handle.ready()
    }

    /// What its admin address answers from.
    pub(in crate::cmd) fn sources(&self, ready: watch::Receiver<Readiness>, extra: Extra) -> AdminSources {
        let (handle, probing) = (self.handle.clone(), self.handle.clone());
        let console = Settings {
            token_file: self.token_file.clone(),
            records: handle.records(),
            tunnels: Some(handle.tunnels()),
        };
        AdminSources {
            metrics: self.metrics.clone(),
            cores: self.cores,
            ask: Arc::new(move |core, query| handle.ask(core, query)),
            probe: Arc::new(move |core, asked| probing.probe(core, asked)),
            ready,
            extra,
            console,
            transparent_sources: self.transparent_sources.clone(),
        }
    }

    /// How it fares, cores and all, as the admin address would say.
    pub(in crate::cmd) fn reports(&self) -> report::Reports {
        report::Reports { handle: self.handle.clone(), cores: self.cores }
    }

    /// Takes peers and serves until a signal, then drains; a second one ends it at once.
    pub(in crate::cmd) async fn serve(mut self, signals: &mut Signals) -> Result<(), Failure> {
        let accept = self.gateway.accept()?;
        tokio::select! {
            () = accept => {}
            () = settle(self.ready()) => {}
            signal = signals.next() => tracing::info!(signal, seconds = self.drain.as_secs(), "draining"),
        }
        tokio::select! {
            () = self.gateway.drain() => tracing::info!("drained"),
            signal = signals.next() => tracing::warn!(signal, "ending at once"),
        }
        Ok(())
    }
}

/// Gives back what the start has needed, once that is over; never returns.
async fn settle(mut ready: watch::Receiver<Readiness>) {
    // The gateway is there as long as this runs.
    if ready.wait_for(|now| now.problem().is_none()).await.is_ok() {
        memory::give_back();
    }
    std::future::pending::<()>().await;
}

/// Which of its cluster's gateways this process is: drawn anew at each start, and never 0.
pub(in crate::cmd) fn gateway_id() -> GatewayId {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    GatewayId(random | 1)
}

/// Where this process runs, as whoever starts it has put it there.
fn from_environment(name: &str) -> Option<Arc<str>> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Into::into)
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
        shared_listener: config.shared_listener,
        transparent_sources: config.transparent_sources.clone(),
        measurements: config.measurements,
        place: Place {
            zone: config.zone.clone().or_else(|| from_environment("ISTHMUS_ZONE")),
            node: config.node.clone().or_else(|| from_environment("ISTHMUS_NODE")),
        },
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
        traces: config.traces.as_ref().map(|traces| isthmus_gateway::Traces {
            endpoint: traces.endpoint.clone(),
            ca_file: traces.ca_file.clone(),
            per_million: traces.per_million,
        }),
    }
}

//! `isthmus run`: gateway and control in one process.

use super::Failure;
use isthmus_certs::Directory;
use isthmus_control::config::Config;
use isthmus_control_api::{Import, Table};
use isthmus_gateway::{Gateway, Limits, Metrics, MuxConfig};
use std::{path::PathBuf, sync::Arc};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

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

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    crate::log::init(args.log);
    let config = Config::load(&args.config)?;
    config.check_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), Failure> {
    let (identity, watch) = isthmus_certs::IdentityStore::open(Directory::new(&config.identity))?;
    let table = Table {
        version: 1,
        imports: config
            .imports
            .iter()
            .map(|(listen, import)| {
                (*listen, Import {
                    service: import.service.clone(),
                    affinity: import.affinity,
                    clusters: config.links.keys().map(|name| (name.clone(), 1)).collect(),
                })
            })
            .collect(),
        exports: config.exports.clone(),
        links: config.links.clone(),
    };
    let (_keep, table) = watch::channel(Arc::new(table));
    let cores = config.cores.map_or_else(|| std::thread::available_parallelism().map_or(1, Into::into), Into::into);
    let limits = Limits::default();
    let gateway_config = isthmus_gateway::Config {
        cluster: config.cluster.clone(),
        clusterset: config.clusterset.clone(),
        tunnel_listen: Some(config.tunnel.listen),
        cores,
        tunnels_per_core: 1,
        limits,
        mux: MuxConfig::new(&limits, cores),
        drain: config.drain,
    };
    let mut gateway = Gateway::start(gateway_config, identity, table, Arc::new(Metrics))?;
    let accept = gateway.accept().await?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        () = accept => {}
        () = watch.run() => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    gateway.drain().await;
    Ok(())
}

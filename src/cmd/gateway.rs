//! `isthmus gateway`: one of a cluster's gateways, whose control is a process of its own.

mod fits;
mod links;

use super::{
    Failure,
    serve::{
        self, Process,
        carry::{Carrying, gateway_id},
        joins, report, tunnels,
    },
};
use isthmus_certs::Role;
use isthmus_control::{
    ControlAt, keeper,
    store::{Kept, Store},
};
use isthmus_control_api::{GatewayId, PeerAddress};
use isthmus_gateway::{Handle, IncomingExchange, admin::Readiness, metrics::Metrics};
use isthmus_push::{Attachment, Client, ClientConfig, Incoming, Open, Tunnels};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::{info, warn};

/// Run one of a cluster's gateways, which is told by the cluster's control what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "Its control runs with `isthmus control`. docs/push.md says what passes between them.")]
pub(crate) struct Args {
    #[command(flatten)]
    serve: serve::Options,
}

/// Runs until SIGTERM or SIGINT, then drains; a second one ends it at once.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    serve::run(&args.serve, Role::Gateway, &serve::Compat::default(), run_gateway)
}

async fn run_gateway(mut process: Process) -> Result<(), Failure> {
    let config = process.config.clone();
    let Some(ControlAt::Address { control: address, joins }) = &config.control else {
        let path = config.path.display();
        let expected = "`control: {address: \"host:port\"}`, where its control is";
        return Err(Failure::failed(format!("{path}: control: found no address, expected {expected}")));
    };
    let id = gateway_id();
    let store = Store::of_gateway(config.state.clone());
    let client = Client::new(client_config(&process, address, id, kept(&store)))?;
    let mut carrying = Carrying::start(&process, id, &client.table())?;
    let (mut tasks, status) = (JoinSet::new(), client.status());
    let reached = tunnels::reached(&mut tasks, &carrying.handle);
    let extra = report::gateway(&config, process.identity.clone(), client.table(), status.clone(), id);
    let tunnels = Tunnels {
        links: links::watch(&mut tasks, carrying.reports(), carrying.ready(), extra.clone(), reached.clone()),
        reached,
        incoming: incoming(&mut tasks, carrying.gateway.take_incoming()),
        open: open(carrying.handle.clone()),
        fits: Arc::new(fits::check(&config)),
    };
    if let (Some(joining), Some(to)) = (carrying.gateway.take_joining(), joins) {
        process.tasks.spawn(joins::bring(joining, to.clone(), carrying.metrics.clone()));
    }
    tasks.spawn(count(status.clone(), carrying.metrics.clone()));
    let ready = ready(&mut tasks, carrying.ready(), status);
    let mut keeping = JoinSet::new();
    keeping.spawn(keeper::keep(store, client.newest(), process.stop.clone()));
    tasks.spawn(client.run(tunnels, process.stop.clone()));
    process.admin(carrying.sources(ready, extra));
    info!(cluster = %config.cluster, control = %address, tunnel = %config.tunnel.listen, admin = %config.admin, "running");
    carrying.serve(&mut process.signals).await?;
    process.stop.cancel();
    // With the client its newest table goes, and with that the keeper, once it is written.
    tasks.shutdown().await;
    let _ = tokio::time::timeout(LAST_WRITE, keeping.join_all()).await;
    Ok(())
}

/// For the last table to be written.
const LAST_WRITE: Duration = Duration::from_secs(5);
/// Streams of the exchange that wait for the client to take them.
const EXCHANGES: usize = 64;

/// What was kept from before; nothing where that cannot be used.
fn kept(store: &Store) -> Kept {
    let kept = store.load().unwrap_or_else(|error| {
        warn!(%error, "the last table is not used; waiting for control");
        None
    });
    kept.inspect(|kept| info!(version = kept.table.version, "serving by the last table until control is there"))
        .unwrap_or_default()
}

fn client_config(process: &Process, address: &PeerAddress, gateway: GatewayId, kept: Kept) -> ClientConfig {
    // For people only: without it the address has to do.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    ClientConfig {
        address: address.clone(),
        gateway,
        name: format!("{} {}", host.trim(), process.config.tunnel.listen),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        identity: process.identity.clone(),
        kept: (Arc::new(kept.table), kept.term),
    }
}

fn open(handle: Handle) -> Open {
    Arc::new(move |cluster, gateway| handle.open_exchange(cluster, gateway))
}

/// What peers open, as the client knows it.
fn incoming(tasks: &mut JoinSet<()>, from: Option<mpsc::Receiver<IncomingExchange>>) -> mpsc::Receiver<Incoming> {
    let (to_client, incoming) = mpsc::channel(EXCHANGES);
    tasks.spawn(async move {
        let Some(mut from) = from else { return };
        while let Some(IncomingExchange { cluster, gateway, stream }) = from.recv().await {
            if to_client.send(Incoming { cluster, gateway, stream }).await.is_err() {
                return;
            }
        }
    });
    incoming
}

/// Ready is a gateway that has a table: of control, or from before.
fn ready(
    tasks: &mut JoinSet<()>,
    mut cores: watch::Receiver<Readiness>,
    mut control: watch::Receiver<Attachment>,
) -> watch::Receiver<Readiness> {
    let now = |cores: &watch::Receiver<Readiness>, control: &watch::Receiver<Attachment>| {
        let (cores, has_table) = (*cores.borrow(), control.borrow().term > 0);
        Readiness { table_applied: cores.table_applied && has_table, ..cores }
    };
    let (all, ready) = watch::channel(now(&cores, &control));
    tasks.spawn(async move {
        loop {
            all.send_replace(now(&cores, &control));
            tokio::select! {
                Ok(()) = cores.changed() => {}
                Ok(()) = control.changed() => {}
                else => return,
            }
        }
    });
    ready
}

/// Follows the client into the counters.
async fn count(mut status: watch::Receiver<Attachment>, metrics: Arc<Metrics>) {
    let (mut snapshots, mut deltas) = (0, 0);
    loop {
        let now = status.borrow_and_update().clone();
        let push = &metrics.push;
        push.attached(now.attached);
        push.snapshots_taken.add(now.snapshots.saturating_sub(snapshots));
        push.deltas_taken.add(now.deltas.saturating_sub(deltas));
        (snapshots, deltas) = (now.snapshots, now.deltas);
        if status.changed().await.is_err() {
            return;
        }
    }
}

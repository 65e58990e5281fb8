//! `isthmus run`: gateway and control in one process.

use super::{
    Failure,
    serve::{
        self, Process,
        carry::{Carrying, gateway_id},
        joins, kubernetes, report,
        rule::{self, Made, Ruling},
        tunnels,
    },
};
use isthmus_certs::Role;
use std::sync::Arc;

/// Run a cluster's gateway, with its control, from a configuration file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    serve: serve::Options,
    #[command(flatten)]
    compat: serve::Compat,
}

/// Runs until SIGTERM or SIGINT, then drains; a second one ends it at once.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    serve::run(&args.serve, Role::Gateway, &args.compat, run_both)
}

async fn run_both(mut process: Process) -> Result<(), Failure> {
    let config = process.config.clone();
    if config.control.is_some() {
        let path = config.path.display();
        let expected =
            "none for `isthmus run`, which is gateway and control: see `isthmus control` and `isthmus gateway`";
        return Err(Failure::failed(format!("{path}: control: found where the two meet, expected {expected}")));
    }
    let id = gateway_id();
    let Made { control, handles, reports, untrusted, .. } = rule::control(&mut process, id).await?;
    let mut carrying = Carrying::start(&process, id, &handles.table)?;
    let peers = Arc::new(tunnels::Tunnels(carrying.handle.clone()));
    let incoming = carrying.gateway.take_incoming();
    let events = tunnels::events(&mut process.tasks, id, &carrying.handle, incoming, &process.stop);
    let ruling = Ruling::start(&process, control, peers, events);
    if let Some(joining) = carrying.gateway.take_joining() {
        let host = joins::Inviting::new(&config, process.identity.clone(), handles.table.clone()).await?;
        process.tasks.spawn(joins::serve(joining, Arc::new(host), carrying.metrics.clone()));
    }
    process.tasks.spawn(report::count(handles.status.clone(), carrying.metrics.clone()));
    let control = handles.status.clone();
    let extra = report::both(&config, process.identity.clone(), handles, id);
    let sources = carrying.sources(carrying.ready(), extra);
    if let Some(to) = reports {
        let look = kubernetes::of_gateway(sources.clone());
        process.tasks.spawn(kubernetes::report_links(to, look, control, process.identity.clone(), untrusted));
    }
    process.admin(sources);
    tracing::info!(cluster = %config.cluster, tunnel = %config.tunnel.listen, admin = %config.admin, "running");
    carrying.serve(&mut process.signals).await?;
    process.stop.cancel();
    ruling.end().await;
    Ok(())
}

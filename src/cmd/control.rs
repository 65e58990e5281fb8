//! `isthmus control`: a cluster's control, whose gateways are processes of their own.

use super::{
    Failure,
    serve::{
        self, Process,
        carry::gateway_id,
        joins, kubernetes, report,
        rule::{self, Made, Ruling},
    },
};
use isthmus_certs::Role;
use isthmus_control::ControlAt;
use isthmus_gateway::{
    admin::{AdminSources, Readiness},
    console::Settings,
    metrics::{Metrics, reasons::Bound},
};
use isthmus_push::{Meter, PushKind, Refused, Server, ServerConfig};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// Run a cluster's control, which tells the cluster's gateways what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "Its gateways run with `isthmus gateway`. docs/push.md says what passes between them.")]
pub(crate) struct Args {
    #[command(flatten)]
    serve: serve::Options,
    #[command(flatten)]
    compat: serve::Compat,
}

/// Runs until SIGTERM or SIGINT. Its gateways go on without it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    serve::run(&args.serve, Role::Control, &args.compat, run_control)
}

async fn run_control(mut process: Process) -> Result<(), Failure> {
    let config = process.config.clone();
    let Some(ControlAt::Listen { gateways: listen, joins }) = config.control else {
        let path = config.path.display();
        let expected = "`control: {listen: \"ip:port\"}`, where its gateways come";
        return Err(Failure::failed(format!("{path}: control: found no listen, expected {expected}")));
    };
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|e| Failure::failed(format!("control.listen: cannot listen on {listen}: {e}")))?;
    let Made { control, handles, term, needed, reports, untrusted } = rule::control(&mut process, gateway_id()).await?;
    let metrics = Metrics::new(0);
    if let Some(joins) = joins {
        process.tasks.spawn(joins::at_control(&config, joins, handles.table.clone(), metrics.clone()).await?);
    }
    let (server, events) = Server::new(ServerConfig {
        identity: process.identity.clone(),
        handles: handles.clone(),
        term,
        needed,
        meter: Arc::new(Counting(metrics.clone())),
    })?;
    let ruling = Ruling::start(&process, control, server.peers(), events);
    process.tasks.spawn(report::count(handles.status.clone(), metrics.clone()));
    if let Some(to) = reports {
        let look = kubernetes::of_gateways(server.status());
        process.tasks.spawn(kubernetes::report_links(
            to,
            look,
            handles.status.clone(),
            process.identity.clone(),
            untrusted,
        ));
    }
    let extra = report::control(&config, process.identity.clone(), handles, server.status());
    let always = Readiness { table_applied: true, listeners_bound: true, draining: false };
    let (_readiness, ready) = watch::channel(always);
    let console = Settings { token_file: config.console.token_file.clone(), ..Settings::default() };
    process.admin(AdminSources {
        metrics,
        cores: 0,
        ask: Arc::new(|_, _| {}),
        probe: Arc::new(|_, _| {}),
        ready,
        extra,
        console,
        transparent_sources: Default::default(),
    });
    let serving = JoinSet::from_iter([server.run(listener, process.stop.clone())]);
    tracing::info!(cluster = %config.cluster, %listen, admin = %config.admin, "control is running");
    let signal = process.signals.next().await;
    tracing::info!(signal, "ending; gateways go on with the table that they have");
    process.stop.cancel();
    let _ = tokio::time::timeout(GOODBYE, serving.join_all()).await;
    ruling.end().await;
    Ok(())
}

/// For the connections to be closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// Puts what the server counts among the process's metrics.
struct Counting(Arc<Metrics>);

impl Meter for Counting {
    fn attached(&self, gateways: usize) {
        self.0.push.gateways.set(gateways as u64);
    }

    fn pushed(&self, kind: PushKind, bytes: usize) {
        let push = &self.0.push;
        match kind {
            PushKind::Snapshot => push.snapshots_sent.add(1),
            PushKind::Delta => push.deltas_sent.add(1),
        }
        push.bytes.add(bytes as u64);
    }

    fn rejected(&self) {
        self.0.push.rejected.add(1);
    }

    fn propagated(&self, took: Duration) {
        self.0.push.propagated(took);
    }

    fn refused(&self, what: Refused) {
        self.0.control().refused(match what {
            Refused::Gateways => Bound::Gateways,
            Refused::Handshakes => Bound::Handshakes,
        });
    }
}

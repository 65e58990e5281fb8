//! The registry that the configuration asks for, and what one of Kubernetes is told of the links.

use crate::cmd::Failure;
use isthmus_certs::IdentityStore;
use isthmus_control::{Config, ControlStatus, FileRegistry, Registry, app::SyncState};
use isthmus_control_api::{ClusterName, GatewayId};
use isthmus_control_kube::{
    connect,
    lead::Times,
    mcs::Settings,
    registry::{KubeRegistry, LinkReport, LinkReports, Options},
    watch::Scope,
};
use isthmus_gateway::{
    admin::{self, AdminSources},
    status::{LinkStatus, LinkWord},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};

/// Between two looks at the links.
const LOOK: Duration = Duration::from_secs(2);

/// Where what is known of the links goes, if anybody is to be told.
pub(super) type Reports = Option<watch::Sender<Arc<LinkReports>>>;

/// The registry of `config`.
pub(super) async fn registry(config: &Config, id: GatewayId) -> Result<(Box<dyn Registry>, Reports), Failure> {
    let file = Box::new(FileRegistry::new(config.clone()));
    let Some(kubernetes) = &config.kubernetes else { return Ok((file, None)) };
    let found = connect::client(kubernetes.kubeconfig.as_deref(), kubernetes.context.as_deref()).await;
    let (client, url) =
        found.map_err(|error| Failure::failed(format!("{}: registry.kubernetes: {error}", config.path.display())))?;
    tracing::info!(%url, "the registry is Kubernetes");
    // A pod's name is its host's.
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| config.cluster.to_string());
    let options = Options {
        settings: Settings {
            cluster: config.cluster.clone(),
            clusterset: config.clusterset.clone(),
            ports: kubernetes.ports.clone(),
            mirrored: BTreeSet::new(),
        },
        scope: Scope { namespace: kubernetes.namespace.clone(), gateways: kubernetes.gateway_selector.clone() },
        identity: format!("{host}_{id}"),
        times: Times::default(),
    };
    let (to, reports) = watch::channel(Arc::default());
    Ok((Box::new(KubeRegistry::new(client, options, file, reports)), Some(to)))
}

/// Tells the registry how the links fare, for ever.
pub(super) async fn report_links(
    to: watch::Sender<Arc<LinkReports>>,
    sources: AdminSources,
    control: watch::Receiver<Arc<ControlStatus>>,
    identity: IdentityStore,
) {
    loop {
        let status = admin::look(&sources).await;
        let control = control.borrow().clone();
        let reports = status.links.iter().filter_map(|link| {
            let cluster: ClusterName = link.cluster.parse().ok()?;
            let report = report(link, &cluster, &control, &identity);
            Some((cluster, report))
        });
        let reports: LinkReports = reports.collect();
        to.send_if_modified(|known| {
            let differs = **known != reports;
            *known = Arc::new(reports);
            differs
        });
        sleep(LOOK).await;
    }
}

fn report(link: &LinkStatus, cluster: &ClusterName, control: &ControlStatus, identity: &IdentityStore) -> LinkReport {
    let is_trusted = identity.current().bundle(cluster).is_some();
    let peer = control.peers.get(cluster);
    let is_synced = |state| matches!(state, SyncState::Synced | SyncState::Stated);
    LinkReport {
        established: link.state == LinkWord::Up,
        message: link.message.clone(),
        transport: link.transport.clone(),
        direction: link.direction.as_deref().map(|direction| match direction {
            "dialled" => "out".into(),
            "accepted" => "in".into(),
            _ => "both".into(),
        }),
        // A round trip is nowhere near the bound.
        rtt_ms: link.rtt_ms.map(|rtt| rtt.round().clamp(0.0, f64::from(u32::MAX)) as u32),
        untrusted: (!is_trusted)
            .then(|| format!("there is no trust bundle of {cluster}: isthmus join, or isthmus identity trust")),
        synced: peer.is_some_and(|peer| is_synced(peer.received) && is_synced(peer.sent)),
        imported: peer.map_or(0, |peer| peer.imported),
        exported: peer.map_or(0, |peer| peer.exported),
    }
}

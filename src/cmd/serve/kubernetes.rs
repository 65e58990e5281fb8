//! The registry that is a cluster of Kubernetes, and what it is told of the links.

use super::secrets::Untrusted;
use crate::cmd::Failure;
use isthmus_certs::IdentityStore;
use isthmus_control::{Config, ControlStatus, Registry, app::SyncState, config::Kubernetes};
use isthmus_control_api::{ClusterName, GatewayId};
use isthmus_control_dns::Zone;
use isthmus_control_kube::{
    connect,
    lead::{Times, driver::Leadership},
    mcs::{ObjectKey, PublicAddresses, Quota, Settings},
    optional::OptionalKind,
    registry::{KubeRegistry, LinkReport, LinkReports, Options},
    watch::Scope,
};
use isthmus_gateway::{
    admin::{self, AdminSources},
    status::{LinkStatus, LinkWord},
};
use isthmus_push::ServerStatus;
use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

/// Between two looks at the links while nothing happens to them.
const LOOK: Duration = Duration::from_secs(2);
/// From a link's coming up or going down to the look: its gateway says how it fares a moment later.
const SOON: Duration = Duration::from_millis(400);
/// Terms of leaders begin here: beyond those of a control that is alone, which are times, so that a gateway follows from one to the other.
const LEADERS: u64 = 1 << 48;
/// And end here: a gateway that says it has a table of a later one is not believed.
const LAST: u64 = LEADERS << 1;

/// Where what is known of the links goes.
pub(in crate::cmd) type Reports = watch::Sender<Arc<LinkReports>>;

/// Says how the links fare.
pub(in crate::cmd) type Look = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Fares>> + Send>> + Send + Sync>;

/// How a link fares, as gateways say.
pub(in crate::cmd) struct Fares {
    cluster: String,
    up: bool,
    message: Option<String>,
    transport: Option<String>,
    direction: Option<String>,
    rtt_ms: Option<f64>,
}

/// The registry that the configuration names, beside `file` for links.
pub(super) async fn registry(
    config: &Config,
    kubernetes: &Kubernetes,
    id: GatewayId,
    file: Box<dyn Registry>,
    zone: watch::Sender<Arc<Zone>>,
) -> Result<(KubeRegistry, Reports), Failure> {
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
            quota: Quota { ports: kubernetes.ports_per_cluster, addresses: kubernetes.addresses_per_cluster },
            mirrored: BTreeSet::new(),
            compat: kubernetes.compat.clone(),
            external_dns: kubernetes.external_dns.as_ref().map(|of| PublicAddresses {
                service: ObjectKey::new(&kubernetes.namespace, &of.service),
                fixed: of.addresses.clone(),
            }),
        },
        scope: Scope {
            namespace: kubernetes.namespace.clone(),
            gateways: kubernetes.gateway_selector.clone(),
            optional: OptionalKind::of(&kubernetes.compat, kubernetes.external_dns.is_some()),
        },
        identity: format!("{host}_{id}"),
        times: Times::default(),
        pod_identity: kubernetes.pod_identity,
    };
    let (to, reports) = watch::channel(Arc::default());
    Ok((KubeRegistry::new(client, options, file, reports, zone), to))
}

/// The terms in which this replica leads, each until it ends: gateways are not to stay with a leader that cannot write any more. Who
/// leads says the Lease; that its terms count, `needed` sees to: gateways can have tables of terms that no Lease tells of any more.
pub(super) fn terms(
    tasks: &mut JoinSet<()>,
    mut leadership: watch::Receiver<Leadership>,
    mut needed: watch::Receiver<u64>,
) -> watch::Receiver<Option<u64>> {
    let (to, terms) = watch::channel(None);
    tasks.spawn(async move {
        loop {
            let term = leadership.borrow_and_update().term.filter(|term| Instant::now() < term.until);
            let needs = *needed.borrow_and_update();
            let number = term.map(|term| number(term.epoch, needs));
            to.send_if_modified(|known| std::mem::replace(known, number) != number);
            let over = async {
                match term {
                    Some(term) => sleep_until(term.until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => {}
                Ok(()) = needed.changed() => {}
                changed = leadership.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    });
    terms
}

/// The term of an epoch of the Lease, where gateways need at least `needed`.
fn number(epoch: i32, needed: u64) -> u64 {
    let of_lease = LEADERS + u64::from(epoch.unsigned_abs());
    if needed < LAST { of_lease.max(needed) } else { of_lease }
}

/// What the gateway in this process says.
pub(in crate::cmd) fn of_gateway(sources: AdminSources) -> Look {
    Box::new(move || {
        let sources = sources.clone();
        Box::pin(async move { admin::look(&sources).await.links.iter().map(Fares::of_link).collect() })
    })
}

/// What the gateways that are attached say.
pub(in crate::cmd) fn of_gateways(status: impl Fn() -> ServerStatus + Send + Sync + 'static) -> Look {
    Box::new(move || {
        let said = status().gateways.into_iter().flat_map(|gateway| gateway.links).map(Fares::of_report);
        let said: Vec<_> = said.collect();
        Box::pin(std::future::ready(said))
    })
}

/// Tells the registry how the links fare, for ever.
pub(in crate::cmd) async fn report_links(
    to: Reports,
    look: Look,
    mut control: watch::Receiver<Arc<ControlStatus>>,
    identity: IdentityStore,
    untrusted: Untrusted,
) {
    loop {
        // Before the question: what changes meanwhile is a reason to ask again.
        let known = control.borrow_and_update().clone();
        let (said, untrusted) = (look().await, untrusted.borrow().clone());
        let mut reports = LinkReports::new();
        for fares in &said {
            let Ok(cluster) = fares.cluster.parse::<ClusterName>() else { continue };
            let report = report(fares, &cluster, &known, &identity, untrusted.get(&cluster));
            // Of several gateways one that is up, or the first.
            if report.established || !reports.contains_key(&cluster) {
                reports.insert(cluster, report);
            }
        }
        to.send_if_modified(|known| {
            let differs = **known != reports;
            *known = Arc::new(reports);
            differs
        });
        wait(&mut control, &known).await;
    }
}

/// Waits for the next look: until a link has come up or gone down, or until it is time.
async fn wait(control: &mut watch::Receiver<Arc<ControlStatus>>, known: &ControlStatus) {
    let differs = |now: &Arc<ControlStatus>| !up(now).eq(up(known));
    let has_changed = timeout(LOOK, control.wait_for(differs)).await.map(|change| change.is_ok());
    match has_changed {
        Ok(true) => sleep(SOON).await,
        // Control has ended: there is nothing new any more.
        Ok(false) => sleep(LOOK).await,
        Err(_) => {}
    }
}

/// The peers to which a tunnel is live.
fn up(control: &ControlStatus) -> impl Iterator<Item = &ClusterName> {
    control.peers.iter().filter(|(_, peer)| peer.up).map(|(cluster, _)| cluster)
}

impl Fares {
    fn of_link(link: &LinkStatus) -> Self {
        Self {
            cluster: link.cluster.clone(),
            up: link.state == LinkWord::Up,
            message: link.message.clone(),
            transport: link.transport.clone(),
            direction: link.direction.clone(),
            rtt_ms: link.rtt_ms,
        }
    }

    fn of_report(link: isthmus_push::LinkReport) -> Self {
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            up: link.state == LinkWord::Up.as_str(),
            cluster: link.cluster,
            message: text(link.message),
            transport: text(link.transport),
            direction: text(link.direction),
            rtt_ms: (link.rtt_micros > 0).then(|| Duration::from_micros(link.rtt_micros).as_secs_f64() * 1e3),
        }
    }
}

fn report(
    fares: &Fares,
    cluster: &ClusterName,
    control: &ControlStatus,
    identity: &IdentityStore,
    wrong: Option<&String>,
) -> LinkReport {
    let is_trusted = identity.current().bundle(cluster).is_some();
    let peer = control.peers.get(cluster);
    let is_synced = |state| matches!(state, SyncState::Synced | SyncState::Stated);
    LinkReport {
        established: fares.up,
        message: fares.message.clone(),
        transport: fares.transport.clone(),
        direction: fares.direction.as_deref().map(|direction| match direction {
            "dialled" => "out".into(),
            "accepted" => "in".into(),
            _ => "both".into(),
        }),
        // A round trip is nowhere near the bound.
        rtt_ms: fares.rtt_ms.map(|rtt| rtt.round().clamp(0.0, f64::from(u32::MAX)) as u32),
        untrusted: wrong.cloned().or_else(|| {
            (!is_trusted)
                .then(|| format!("there is no trust bundle of {cluster}: isthmus join, or isthmus identity trust"))
        }),
        synced: peer.is_some_and(|peer| is_synced(peer.received) && is_synced(peer.sent)),
        imported: peer.map_or(0, |peer| peer.imported),
        exported: peer.map_or(0, |peer| peer.exported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control::app::PeerStatus;

    #[tokio::test(start_paused = true)]
    async fn a_link_that_comes_up_is_looked_at_soon_and_what_else_happens_in_time() {
        let (to, mut control) = watch::channel(Arc::<ControlStatus>::default());
        let (known, began) = (control.borrow().clone(), tokio::time::Instant::now());
        to.send_modify(|status| Arc::make_mut(status).table_version += 1);
        wait(&mut control, &known).await;
        assert_eq!(began.elapsed(), LOOK);

        let peer = PeerStatus {
            up: true,
            known: false,
            received: SyncState::Down,
            sent: SyncState::Down,
            last_received_ms: None,
            last_sent_ms: None,
            imported: 0,
            exported: 0,
            error: None,
        };
        to.send_modify(|status| drop(Arc::make_mut(status).peers.insert("east".parse().unwrap(), peer)));
        wait(&mut control, &known).await;
        assert_eq!(began.elapsed(), LOOK + SOON);

        let known = control.borrow().clone();
        drop(to);
        wait(&mut control, &known).await;
        assert_eq!(began.elapsed(), LOOK + SOON + LOOK, "who says nothing any more is no reason to look all the time");
    }

    #[test]
    fn a_term_is_that_of_the_lease_or_what_gateways_need() {
        assert_eq!(number(3, 0), LEADERS + 3);
        assert_eq!(number(3, 1_800_000_000_000), LEADERS + 3, "from a control that was alone");
        assert_eq!(number(1, LEADERS + 8), LEADERS + 8);
        assert_eq!(number(9, LEADERS + 8), LEADERS + 9);
        assert_eq!(number(3, u64::MAX), LEADERS + 3);
    }
}

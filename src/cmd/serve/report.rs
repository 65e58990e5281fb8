//! What control and identity add to the gateway's status and metrics.

use isthmus_certs::IdentityStore;
use isthmus_control::{Config, ControlStatus, Handles};
use isthmus_control_api::{ClusterName, GatewayId, Table};
use isthmus_gateway::{
    Handle,
    metrics::Metrics,
    status::{CoreQuery, CoreReport, ExtraStatus, IdentityReport, LinkExtra, LinkWord, Timestamp},
};
use isthmus_push::{Attachment, ServerStatus};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::{oneshot, watch};

/// What `/status` says beyond what the cores know, as of each request.
pub(in crate::cmd) type Extra = Arc<dyn Fn() -> ExtraStatus + Send + Sync>;

/// Of a process that is both.
pub(in crate::cmd) fn both(config: &Config, identity: IdentityStore, handles: Handles, gateway: GatewayId) -> Extra {
    let base = base(config, identity.clone());
    Arc::new(move || {
        let (control, now) = (handles.status.borrow().clone(), SystemTime::now());
        ExtraStatus {
            gateway,
            table: handles.table.borrow().clone(),
            table_age: Some(control.table_age(now)),
            links: links(&control, &identity, now),
            control: serde_json::to_value(&*control).unwrap_or_default(),
            ..base()
        }
    })
}

/// Of a control, whose gateways are elsewhere.
pub(in crate::cmd) fn control(
    config: &Config,
    identity: IdentityStore,
    handles: Handles,
    gateways: impl Fn() -> ServerStatus + Send + Sync + 'static,
) -> Extra {
    #[derive(Serialize)]
    struct Both<'a> {
        #[serde(flatten)]
        control: &'a ControlStatus,
        push: ServerStatus,
    }
    let base = base(config, identity.clone());
    Arc::new(move || {
        let (control, now) = (handles.status.borrow().clone(), SystemTime::now());
        let word = |cluster| match control.peers.get(cluster) {
            Some(peer) if peer.up => LinkWord::Up,
            _ => LinkWord::Down,
        };
        let mut links = links(&control, &identity, now);
        links.iter_mut().for_each(|(cluster, link)| link.state = Some(word(cluster)));
        ExtraStatus {
            table: handles.table.borrow().clone(),
            table_age: Some(control.table_age(now)),
            links,
            control: serde_json::to_value(Both { control: &control, push: gateways() }).unwrap_or_default(),
            ..base()
        }
    })
}

/// Of a gateway, whose control is elsewhere.
pub(in crate::cmd) fn gateway(
    config: &Config,
    identity: IdentityStore,
    table: watch::Receiver<Arc<Table>>,
    attachment: watch::Receiver<Attachment>,
    gateway: GatewayId,
) -> Extra {
    #[derive(Serialize)]
    struct Attached {
        attachment: Attachment,
    }
    let base = base(config, identity.clone());
    Arc::new(move || {
        let (attachment, now) = (attachment.borrow().clone(), SystemTime::now());
        let table = table.borrow().clone();
        let link = |cluster: &ClusterName| {
            (cluster.clone(), LinkExtra { refused: refused(&identity, cluster, now), ..LinkExtra::default() })
        };
        ExtraStatus {
            gateway,
            table_age: attachment.taken_ms.map(|at| since(at, now)),
            links: table.links.keys().map(link).collect(),
            control: serde_json::to_value(Attached { attachment }).unwrap_or_default(),
            table,
            ..base()
        }
    })
}

/// What all of them say.
fn base(config: &Config, identity: IdentityStore) -> impl Fn() -> ExtraStatus + Send + Sync + use<> {
    let (cluster, clusterset) = (config.cluster.to_string(), config.clusterset.to_string());
    move || ExtraStatus {
        cluster: cluster.clone(),
        clusterset: clusterset.clone(),
        identity: identity_report(&identity),
        ..ExtraStatus::default()
    }
}

/// How the cores fare, asked as the admin address asks them.
pub(in crate::cmd) struct Reports {
    pub(super) handle: Handle,
    pub(super) cores: usize,
}

/// For the cores' answers.
const CORES: Duration = Duration::from_secs(1);

impl Reports {
    /// What each core says; `None` of one that does not answer in time.
    pub(in crate::cmd) async fn ask(&self) -> Vec<Option<CoreReport>> {
        let deadline = tokio::time::Instant::now() + CORES;
        let ask = |core| {
            let (to, answer) = oneshot::channel();
            self.handle.ask(core, CoreQuery(to, None));
            answer
        };
        let answers: Vec<_> = (0..self.cores).map(ask).collect();
        let mut reports = Vec::with_capacity(answers.len());
        for answer in answers {
            reports.push(tokio::time::timeout_at(deadline, answer).await.ok().and_then(Result::ok));
        }
        reports
    }
}

/// Follows control's status, and what its registry counts, into the metrics, for ever.
pub(in crate::cmd) async fn count(mut status: watch::Receiver<Arc<ControlStatus>>, metrics: Arc<Metrics>) {
    let (mut ok, mut refused) = (0, 0);
    loop {
        let control = status.borrow_and_update().clone();
        metrics.reloads_ok.add(control.reloads.saturating_sub(ok));
        metrics.reloads_failed.add(control.refused_reloads.saturating_sub(refused));
        metrics.exports_untold.set(control.untold.len() as u64);
        (ok, refused) = (control.reloads, control.refused_reloads);
        if let Some(counts) = control.registry_counts {
            let registry = &metrics.registry;
            registry.plans.set(counts.plans);
            registry.plan_micros.set(counts.plan_micros);
            registry.written.set(counts.written);
            registry.failed.set(counts.failed);
            registry.unwatched.set(counts.unwatched);
            registry.services.set(counts.services);
            registry.lacking.set(counts.lacking);
            registry.appear();
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// How long a refused handshake says something of how things are.
const REFUSED: Duration = Duration::from_mins(1);

fn links(control: &ControlStatus, identity: &IdentityStore, now: SystemTime) -> BTreeMap<ClusterName, LinkExtra> {
    let extra = control.peers.iter().map(|(cluster, peer)| {
        let sync_age = peer.last_received_ms.map(|at| since(at, now));
        let refused = refused(identity, cluster, now);
        (cluster.clone(), LinkExtra { sync_age, refused, message: peer.error.clone(), state: None })
    });
    extra.collect()
}

/// From a moment, in milliseconds since 1970, to `now`.
fn since(at_ms: u64, now: SystemTime) -> Duration {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(at_ms))
}

/// Why somebody was refused of late who claimed to be of the cluster.
fn refused(identity: &IdentityStore, cluster: &ClusterName, now: SystemTime) -> Option<String> {
    let refused = identity.refused(cluster);
    let refused = refused.filter(|refused| now.duration_since(refused.at).is_ok_and(|ago| ago < REFUSED));
    refused.map(|refused| refused.why.to_string())
}

fn identity_report(identity: &IdentityStore) -> IdentityReport {
    let (current, status) = (identity.current(), identity.status());
    let directory = identity.directory();
    IdentityReport {
        id: Some(current.id().to_string()),
        not_after: Some(Timestamp::from(current.validity().not_after)),
        renews_at: status.renewal_due.map(Timestamp::from),
        last_error: status.last_error.clone(),
        message: isthmus_certs::overdue(current.validity(), status.renewal_due.is_some(), SystemTime::now()),
        trusts: current.bundles().keys().map(ToString::to_string).collect(),
        directory: directory.map(|directory| directory.path().display().to_string()),
        bundles: directory.map(|directory| directory.bundles_path().display().to_string()),
    }
}

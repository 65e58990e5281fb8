//! What control and identity add to the gateway's status and metrics.

use isthmus_certs::IdentityStore;
use isthmus_control::{Config, ControlStatus, Handles};
use isthmus_control_api::GatewayId;
use isthmus_gateway::{
    metrics::Metrics,
    status::{ExtraStatus, IdentityReport, LinkExtra, Timestamp},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// What `/status` says beyond what the cores know, as of each request.
pub(super) fn extra(
    config: &Config,
    identity: IdentityStore,
    handles: Handles,
    gateway: GatewayId,
) -> Arc<dyn Fn() -> ExtraStatus + Send + Sync> {
    let (cluster, clusterset) = (config.cluster.to_string(), config.clusterset.to_string());
    Arc::new(move || {
        let control = handles.status.borrow().clone();
        let now = SystemTime::now();
        ExtraStatus {
            cluster: cluster.clone(),
            clusterset: clusterset.clone(),
            gateway,
            table: handles.table.borrow().clone(),
            table_age: Some(control.table_age(now)),
            links: links(&control, &identity, now),
            identity: identity_report(&identity),
            control: serde_json::to_value(&*control).unwrap_or_default(),
        }
    })
}

/// Follows control's reloads into the counters, for ever.
pub(super) async fn count_reloads(mut status: watch::Receiver<Arc<ControlStatus>>, metrics: Arc<Metrics>) {
    let (mut ok, mut refused) = (0, 0);
    loop {
        let control = status.borrow_and_update().clone();
        metrics.reloads_ok.add(control.reloads.saturating_sub(ok));
        metrics.reloads_failed.add(control.refused_reloads.saturating_sub(refused));
        (ok, refused) = (control.reloads, control.refused_reloads);
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// How long a refused handshake says something of how things are.
const REFUSED: Duration = Duration::from_mins(1);

fn links(
    control: &ControlStatus,
    identity: &IdentityStore,
    now: SystemTime,
) -> BTreeMap<isthmus_control_api::ClusterName, LinkExtra> {
    let now_ms =
        u64::try_from(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
    let extra = control.peers.iter().map(|(cluster, peer)| {
        let sync_age = peer.last_received_ms.map(|at| Duration::from_millis(now_ms.saturating_sub(at)));
        let refused = identity.refused(cluster);
        let refused = refused.filter(|refused| now.duration_since(refused.at).is_ok_and(|ago| ago < REFUSED));
        let refused = refused.map(|refused| refused.why.to_string());
        (cluster.clone(), LinkExtra { sync_age, refused, message: peer.error.clone() })
    });
    extra.collect()
}

fn identity_report(identity: &IdentityStore) -> IdentityReport {
    let (current, status) = (identity.current(), identity.status());
    IdentityReport {
        id: Some(current.id().to_string()),
        not_after: Some(Timestamp::from(current.validity().not_after)),
        renews_at: status.renewal_due.map(Timestamp::from),
        last_error: status.last_error.clone(),
        message: isthmus_certs::overdue(current.validity(), status.renewal_due.is_some(), SystemTime::now()),
        trusts: current.bundles().keys().map(ToString::to_string).collect(),
    }
}

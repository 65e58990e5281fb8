//! Makes the probes of the plan, so many at once, and tells the cores what they come to.

use super::{
    plan::Asked,
    probe::{self, Tls},
};
use crate::{core::Core, metrics::reasons::Bound};
use isthmus_control_api::Table;
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Probes at once. Beyond it those that are due wait for one to end, and are counted.
const MOST: usize = 64;
/// What changes within this is told together.
const TOGETHER: Duration = Duration::from_millis(10);

/// Checks what core 0's table wants checked, until the gateway drains.
pub(crate) async fn run(core: Rc<Core>) {
    let Ok(tls) = Tls::new().inspect_err(|error| tracing::error!(%error, "no health checks")) else { return };
    let mut probes: JoinSet<(Asked, Option<Result<(), String>>)> = JoinSet::new();
    let mut table: Arc<Table> = Arc::default();
    let mut tell_at: Option<Instant> = None;
    let mut late = false;
    loop {
        let changed = core.changed.notified();
        let now = Instant::now();
        if !Arc::ptr_eq(&table, &core.table.borrow()) {
            table = core.table.borrow().clone();
            core.checks.borrow_mut().reconcile(&table, now, || core.random());
            tell_at = Some(now);
        }
        while probes.len() < MOST
            && let Some(asked) = core.checks.borrow_mut().take(now)
        {
            let tls = tls.clone();
            probes.spawn_local(async move {
                let result = probe::run(&asked.check, asked.place.1, asked.header, &tls).await;
                (asked, result)
            });
        }
        let next_due = core.checks.borrow().next_due();
        let is_full = probes.len() >= MOST;
        if is_full && !late && next_due.is_some_and(|due| due <= now) {
            core.counters.refused(Bound::HealthChecks);
        }
        late = is_full;
        tokio::select! {
            () = changed => {}
            () = core.common.draining.cancelled() => return,
            () = sleep_until(next_due), if !is_full => {}
            () = sleep_until(tell_at) => {
                tell_at = None;
                let findings = &core.common.findings;
                let down = core.checks.borrow().down(&findings.now());
                findings.tell(down);
            }
            Some(Ok((asked, result))) = probes.join_next() => {
                let Some(result) = result else {
                    core.counters.refused(Bound::Sockets);
                    core.checks.borrow_mut().unasked(&asked, Instant::now(), core.random());
                    continue;
                };
                core.counters.checked(result.is_ok());
                if note(&core, &asked, result) {
                    tell_at = tell_at.or_else(|| Some(Instant::now() + TOGETHER));
                }
            }
        }
    }
}

/// Notes what a probe has found; whether the endpoint's state has changed.
fn note(core: &Core, asked: &Asked, result: Result<(), String>) -> bool {
    let error = result.as_ref().err().cloned();
    let changed = core.checks.borrow_mut().done(asked, result, Instant::now(), core.random());
    if changed {
        let (service, address) = &*asked.place;
        match error {
            Some(error) => tracing::warn!(%service, %error, "an endpoint is down, by its check"),
            None => tracing::info!(%service, "an endpoint is up, by its check"),
        }
        tracing::debug!(%service, %address, "its address");
    }
    changed
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

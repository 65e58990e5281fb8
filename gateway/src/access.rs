//! Who may use what: a core's view of policies and sources, made once for all cores, and what it asks of them for each stream.

pub(crate) mod prepare;

use crate::{
    core::Core,
    meter::StreamMeter,
    metrics::policy::RuleMetrics,
    policy::{Caller, Decision, Policies},
    source::KnownSources,
    tunnel::{Refusal, RefusalReason, Source},
};
use isthmus_control_api::{ClusterName, ServicePort};
use std::{cell::RefCell, collections::HashMap, net::SocketAddr, sync::Arc};

/// What all cores decide by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    policies: Arc<Policies>,
    sources: Arc<KnownSources>,
}

/// A core's [`Access`], and what it counts of its decisions.
#[derive(Debug, Default)]
pub(crate) struct CoreAccess {
    now: RefCell<Access>,
    handles: RefCell<HashMap<Arc<str>, Arc<RuleMetrics>>>,
}

impl Core {
    /// Takes over what cores are to decide by. Streams that may not go on are told. Returns what they have decided by before.
    pub(crate) fn apply_access(&self, access: &Access) -> Access {
        let before = self.access.now.replace(access.clone());
        if !Arc::ptr_eq(&before.policies, &access.policies) {
            self.access.handles.borrow_mut().clear();
            self.guards.review(|cluster, source, service| {
                let decision = access.policies.decide(&caller(cluster, source), service);
                let by = decision.by.filter(|_| !decision.allowed)?;
                self.rule(by).denied.add(1);
                Some(by.clone())
            });
        }
        before
    }

    /// On whose behalf a local client's stream is opened: its workload's, or this gateway's where nothing is known of it.
    pub(crate) fn source(&self, from: Option<SocketAddr>) -> Source {
        let access = self.access.now.borrow();
        let known = from.and_then(|from| access.sources.of(from.ip()));
        let id = known.map_or_else(|| self.common.identity.current().id().clone(), |known| known.id.clone());
        Source { id, pod: known.and_then(|known| known.pod.clone()), address: from }
    }

    /// Decides whether a stream on behalf of `source`, which comes from `cluster`, may use `service`: counted, and noted with `meter`.
    ///
    /// # Errors
    /// It may not.
    pub(crate) fn check_access(
        &self,
        cluster: &ClusterName,
        source: &Source,
        service: &ServicePort,
        meter: &mut StreamMeter<'_>,
    ) -> Result<(), Refusal> {
        let access = self.access.now.borrow();
        let decision = access.policies.decide(&caller(cluster, source), service);
        self.count(&decision);
        meter.decided(&decision);
        let Some(by) = decision.by.filter(|_| !decision.allowed) else { return Ok(()) };
        tracing::debug!(%service, %cluster, source = %source.id, policy = %by, "denied");
        Err(Refusal { reason: RefusalReason::Denied, message: "an access policy denies it".into(), retry: false })
    }

    fn count(&self, decision: &Decision<'_>) {
        if let Some(by) = decision.by {
            let rule = self.rule(by);
            if decision.allowed { &rule.allowed } else { &rule.denied }.add(1);
        }
        if let Some(by) = decision.otherwise {
            let rule = self.rule(by);
            if decision.allowed { &rule.would_deny } else { &rule.would_allow }.add(1);
        }
    }

    fn rule(&self, name: &Arc<str>) -> Arc<RuleMetrics> {
        let mut handles = self.access.handles.borrow_mut();
        if let Some(rule) = handles.get(name) {
            return rule.clone();
        }
        let rule = self.common.metrics.policies.get(name);
        handles.insert(name.clone(), rule.clone());
        rule
    }
}

fn caller<'a>(cluster: &'a ClusterName, source: &'a Source) -> Caller<'a> {
    Caller::new(cluster, &source.id, source.address.map(|address| address.ip()))
}

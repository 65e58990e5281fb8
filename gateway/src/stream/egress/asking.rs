//! Where a client's stream, or a flow, is opened: one upstream after the other until one accepts.

use super::{
    chosen::{Chosen, with_shares, with_sides},
    open::{Accepted, OpenFailed, Read, gives_way, is_of_source, open},
};
use crate::{
    balance::{
        Standing, client,
        locality::{self, Candidates, Choice},
    },
    close::Closed,
    core::Core,
    meter::StreamMeter,
    metrics::streams::Side,
    stream::{
        early::Early,
        guard::Guard,
        record::{self, choice::Candidate},
    },
    tunnel::{OpenRequest, Refusal, RefusalReason},
    upstream::{Asker, Opening},
};
use isthmus_control_api::{Algorithm, ClusterName, Import, Listen, ServicePort};
use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a stream waits for a tunnel, where there is none: a lost one is mostly replaced within this.
const WAIT_FOR_TUNNEL: Duration = Duration::from_secs(2);

/// A client's stream, or a flow, that is being opened. What the client sends meanwhile comes along.
pub(crate) struct Asking<'c, 'a> {
    core: &'c Rc<Core>,
    /// Where the import listens: what it is known by.
    listen: &'a Listen,
    import: &'a Import,
    read: Read<'a>,
    request: OpenRequest,
    /// What the client has sent, and the cluster that accepts has been sent, or is to be.
    pub(crate) early: Early,
    tried: locality::Tried,
    deadline: Instant,
    last: Option<RefusalReason>,
    /// The first cluster that has given way to others, as its endpoints were late.
    gave_way: Option<ClusterName>,
}

/// An upstream that is to be used.
pub(crate) enum Established<'c> {
    /// A cluster that has accepted.
    Cluster(ClusterName, Accepted),
    /// An endpoint here, which access policies allow: the caller connects to it, and says with [`Asking::refused`] if there is none.
    Local(Guard<'c>),
}

/// Where to try next.
enum Next<'c, 'a> {
    Local,
    Cluster(Chosen<'c, 'a>),
    Nowhere,
}

impl<'c, 'a> Asking<'c, 'a> {
    /// For the import at `listen`, on behalf of the client at `from`.
    pub(crate) fn new(
        core: &'c Rc<Core>,
        (listen, import): (&'a Listen, &'a Import),
        from: Option<SocketAddr>,
        read: Read<'a>,
        meter: &mut StreamMeter<'_>,
    ) -> Self {
        let sticky = import.sticky || import.policy.balance == Algorithm::SourceAddress;
        let request = request(core, import.service.clone(), from, sticky);
        meter.request(&request);
        let deadline = Instant::now() + WAIT_FOR_TUNNEL;
        let (early, tried) = (Early::default(), locality::Tried::default());
        Self { core, listen, import, read, request, early, tried, deadline, last: None, gave_way: None }
    }

    /// The next upstream.
    ///
    /// # Errors
    /// There is none, or the client has gone.
    pub(crate) async fn establish(&mut self, meter: &mut StreamMeter<'_>) -> Result<Established<'c>, Closed> {
        loop {
            let mut next = self.next(meter);
            let refused = match (self.last, &next) {
                (None, _) => None,
                (Some(last), Next::Nowhere) => Some(last),
                // A lost tunnel says nothing of the service.
                (Some(RefusalReason::TunnelLost), _) => {
                    meter.retry();
                    None
                }
                (Some(last), _) => (!meter.may_retry(Side::Egress)).then_some(last),
            };
            if let Some(last) = refused {
                // Who has given way for others to serve the stream is waited for after all.
                let Some(cluster) = self.gave_way.take() else { return Err(Closed::Refused(last)) };
                self.request.elsewhere = false;
                next = Next::Cluster(Chosen::new(self.core, &self.import.service, cluster));
            }
            let refusal = match next {
                Next::Local => {
                    meter.peer(None);
                    let (own, OpenRequest { source, service, .. }) = (&self.core.common.config.cluster, &self.request);
                    match self.core.check_access(own, source, service, meter) {
                        Ok(()) => {
                            let guard = Guard::new(self.core, own.clone(), source.clone(), service.clone());
                            return Ok(Established::Local(guard));
                        }
                        Err(refusal) => refusal,
                    }
                }
                Next::Cluster(chosen) => {
                    meter.peer(Some(&chosen.cluster));
                    let opened = self.open(&chosen.cluster, meter).await;
                    let cluster = self.learn(chosen, opened.as_ref().map(drop));
                    if opened.as_ref().is_err_and(|failed| gives_way(&self.request, failed)) {
                        self.gave_way.get_or_insert_with(|| cluster.clone());
                    }
                    match opened {
                        Ok(accepted) => return Ok(Established::Cluster(cluster, accepted)),
                        Err(OpenFailed::Client) => return Err(Closed::ResetLocal),
                        Err(OpenFailed::Refused(refusal)) => refusal,
                    }
                }
                Next::Nowhere if self.change_before_deadline().await => continue,
                Next::Nowhere => return Err(Closed::Refused(RefusalReason::NoEndpoint)),
            };
            self.refused(&refusal)?;
        }
    }

    /// Opens the stream to a cluster, within the import's own time if it has one.
    async fn open(&mut self, cluster: &ClusterName, meter: &mut StreamMeter<'_>) -> Result<Accepted, OpenFailed> {
        if self.request.traceparent.is_none() {
            self.request.traceparent = meter.traceparent();
        }
        let mut may_retry = || meter.may_retry(Side::Egress);
        let opening = open(self.core, (cluster, None), &self.request, self.read, &mut self.early, &mut may_retry);
        let Some(connect) = self.import.policy.timeouts.connect else { return opening.await };
        tokio::time::timeout(connect, opening).await.unwrap_or_else(|_| {
            let message = format!("{cluster} did not answer within {} ms", connect.as_millis());
            Err(Refusal { reason: RefusalReason::Timeout, message, retry: true }.into())
        })
    }

    /// An upstream has refused.
    ///
    /// # Errors
    /// It says that others would, too.
    pub(crate) fn refused(&mut self, refusal: &Refusal) -> Result<(), Closed> {
        tracing::debug!(service = %self.import.service, %refusal, "refused");
        if !refusal.retry {
            return Err(Closed::Refused(refusal.reason));
        }
        self.last = Some(refusal.reason);
        Ok(())
    }

    /// Who is to stay with its cluster and its endpoint.
    fn client(&self) -> Option<client::Client> {
        self.asker().client.filter(|_| self.request.sticky)
    }

    /// On whose behalf endpoints are chosen.
    pub(crate) fn asker(&self) -> Asker {
        Asker::of(&self.request)
    }

    /// What an endpoint here is to take.
    pub(crate) fn here(&self) -> Opening<'_> {
        Opening { request: &self.request, cluster: &self.core.common.config.cluster }
    }

    fn next(&mut self, meter: &mut StreamMeter<'_>) -> Next<'c, 'a> {
        let (core, service, now) = (self.core, &self.import.service, Instant::now());
        // The table may have changed since the client came: what is ready now counts.
        let table = core.table.borrow();
        let is_same =
            |import: &&Arc<Import>| import.service == self.import.service && import.weights == self.import.weights;
        let clusters = table.imports.get(self.listen).filter(is_same);
        let standing = standing(core, service, now);
        let candidates = Candidates {
            affinity: self.import.affinity,
            local: u32::try_from(standing.total).unwrap_or(u32::MAX),
            clusters: clusters.map_or(&self.import.clusters, |import| &import.clusters),
            weights: self.import.weights.as_ref(),
        };
        let links = |name: &ClusterName| core.peers.is_live(name).then(|| core.peers.round_trip(name));
        let how = (&self.tried, core.draw(self.client()));
        let noted = meter.notes_choices().then(|| {
            let known = with_sides(core, service, |sides| sides.snapshot(now));
            let own = core.common.config.cluster.as_str();
            Candidate::clusters(own, (&candidates, standing), links, &known, |of| self.tried.has(of))
        });
        let choice = with_sides(core, service, |sides| {
            with_shares(core, self.listen, |shares| {
                sides.choose((shares, &self.import.policy), (&candidates, standing), &links, how, now)
            })
        });
        let Some(choice) = choice else { return Next::Nowhere };
        if let Some(noted) = noted {
            let chosen = if let Choice::Cluster(name) = &choice { name } else { &core.common.config.cluster };
            let total = noted.len();
            meter.chose(record::choice::Choice::new(chosen.to_string(), noted, total));
        }
        self.tried.insert(&choice);
        self.request.elsewhere =
            with_sides(core, service, |sides| sides.has_another((&candidates, standing), &links, &self.tried, now));
        match choice {
            Choice::Local => Next::Local,
            Choice::Cluster(name) => Next::Cluster(Chosen::new(core, service, name.clone())),
        }
    }

    /// A cluster has answered, or its tunnel has gone: what that says of the next stream's chances there.
    fn learn(&self, chosen: Chosen<'_, '_>, opened: Result<(), &OpenFailed>) -> ClusterName {
        let (policy, now) = (&self.import.policy, Instant::now());
        chosen.learn(|sides, cluster| match opened {
            Ok(()) => sides.accepted(cluster, now),
            // Of a source that no endpoint takes: the next stream, another client's maybe, finds out in its place.
            Err(failed) if is_of_source(failed) => sides.gave_up(cluster),
            Err(failed) if gives_way(&self.request, failed) => sides.late(cluster, policy, now),
            Err(OpenFailed::Refused(refusal)) if says_of_endpoints(refusal) => sides.refused(cluster, policy, now),
            Err(_) => sides.gave_up(cluster),
        })
    }

    /// Waits for the table or a tunnel to change; false at the deadline.
    async fn change_before_deadline(&self) -> bool {
        tokio::time::timeout_at(self.deadline.into(), self.core.changed.notified()).await.is_ok()
    }
}

/// A core that has a tunnel, where this one has none and only a tunnel will do.
pub(crate) fn better_core(core: &Core, import: &Import) -> Option<usize> {
    let healthy = standing(core, &import.service, Instant::now()).healthy;
    let here = healthy > 0 || import.clusters.keys().any(|name| core.peers.is_live(name));
    if here {
        return None;
    }
    let there = import.clusters.keys().find_map(|name| core.common.board.core_for(name, core.random()));
    there.filter(|&there| there != core.id)
}

/// How this cluster's own endpoints fare.
fn standing(core: &Core, service: &ServicePort, now: Instant) -> Standing {
    core.balancers.borrow_mut().get_mut(service).map_or_else(Standing::default, |balancer| balancer.standing(now))
}

/// Whether a refusal says that the cluster's endpoints do not serve, and others' may.
fn says_of_endpoints(refusal: &Refusal) -> bool {
    refusal.retry && matches!(refusal.reason, RefusalReason::NoEndpoint | RefusalReason::Timeout)
}

/// What is asked of a cluster for the client at `from`.
pub(super) fn request(core: &Core, service: ServicePort, from: Option<SocketAddr>, sticky: bool) -> OpenRequest {
    OpenRequest { service, source: core.source(from), sticky, elsewhere: false, traceparent: None }
}

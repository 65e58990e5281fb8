//! ● One endpoint, as one core's balancer knows it.

use super::{
    health::{Health, HealthStatus, Why},
    load::{Cost, Load},
    near::Distance,
    outlier::Slowness,
    ramp::Ramp,
};
use isthmus_control_api::{Endpoint, ServicePolicy};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Tells nodes apart, in all balancers of the process.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// What `/status` and `isthmus trace` say of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointStatus {
    /// Where it listens.
    pub address: SocketAddr,
    /// Streams chosen for it and not over yet.
    pub in_flight: u32,
    /// What connecting takes; `None` before the first time.
    pub connect_time: Option<Duration>,
    /// What answering takes; `None` before the first time.
    pub answer_time: Option<Duration>,
    /// Failures to connect in a row.
    pub failures: u32,
    /// Streams in a row that it reset before its first byte.
    pub resets: u32,
    /// Whether it is chosen.
    pub health: HealthStatus,
    /// Why it is not, or should not be.
    pub why: Option<Why>,
    /// What one more stream would cost there: of two, the cheaper takes it.
    pub cost: Cost,
    /// Its share while it is new, 0.1 to 1.
    pub share: f64,
    /// Where it is, seen from this gateway.
    pub distance: Distance,
}

#[cfg(test)]
impl EndpointStatus {
    /// Of one that nothing has been sent to.
    pub(crate) fn unused(address: SocketAddr) -> Self {
        Node::new(&Endpoint::at(address), Ramp::default()).status(Instant::now(), &ServicePolicy::default())
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) address: SocketAddr,
    /// Tells this node from one that had its address before, or its index.
    pub(super) key: u64,
    pub(super) load: Load,
    pub(super) health: Health,
    pub(super) ramp: Ramp,
    pub(super) distance: Distance,
    /// Streams that are finding out whether it takes connections.
    pub(super) trying: u32,
    /// Of a turn in round robin, how much it has; below 1 it is passed over.
    pub(super) turn: f64,
    pub(super) slowness: Slowness,
    /// Whether anything was measured since the last look for slow ones.
    pub(super) measured: bool,
}

impl Node {
    pub(super) fn new(endpoint: &Endpoint, ramp: Ramp) -> Self {
        Self {
            address: endpoint.address,
            // Never used twice: a stream may outlive its balancer, and end when the service is back.
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            load: Load::default(),
            health: Health::default(),
            ramp,
            distance: Distance::default(),
            trying: 0,
            turn: 0.0,
            slowness: Slowness::default(),
            measured: false,
        }
    }

    /// What one more stream would cost here, what it is new or unwell for included.
    pub(super) fn cost(&self, now: Instant, policy: &ServicePolicy, heed_health: bool) -> Cost {
        let penalty = if heed_health { self.health.penalty(now) } else { 1.0 };
        let cost = self.load.cost(now);
        Cost { streams: cost.streams * penalty / self.ramp.share(now, policy.slow_start), ..cost }
    }

    pub(super) fn status(&self, now: Instant, policy: &ServicePolicy) -> EndpointStatus {
        EndpointStatus {
            address: self.address,
            in_flight: self.load.in_flight(),
            connect_time: self.load.connect_time(),
            answer_time: self.load.answer_time(),
            failures: self.health.failures(),
            resets: self.health.resets(),
            health: self.health.status(now),
            why: self.health.why(),
            cost: self.cost(now, policy, true),
            share: self.ramp.share(now, policy.slow_start),
            distance: self.distance,
        }
    }
}

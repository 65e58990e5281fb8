//! What passes between a control and its gateways, where they are processes of their own.

use super::counter::{Counter, Gauge, Histogram, LATENCY};
use std::time::Duration;

/// Counted on the control thread of either.
#[derive(Debug)]
pub struct PushMetrics {
    /// Control: gateways that are attached.
    pub gateways: Gauge,
    /// Control: whole tables sent.
    pub snapshots_sent: Counter,
    /// Control: changes sent.
    pub deltas_sent: Counter,
    /// Control: bytes of both, before HTTP/2 and TLS.
    pub bytes: Counter,
    /// Control: tables that a gateway has refused.
    pub rejected: Counter,
    /// Control: from a change's publication to a gateway's word that it has taken it.
    pub propagation: Histogram,
    /// Gateway: whole tables taken.
    pub snapshots_taken: Counter,
    /// Gateway: changes taken.
    pub deltas_taken: Counter,
    attached: Gauge,
}

impl Default for PushMetrics {
    fn default() -> Self {
        Self {
            gateways: Gauge::default(),
            snapshots_sent: Counter::default(),
            deltas_sent: Counter::default(),
            bytes: Counter::default(),
            rejected: Counter::default(),
            propagation: Histogram::new(&LATENCY),
            snapshots_taken: Counter::default(),
            deltas_taken: Counter::default(),
            attached: Gauge::default(),
        }
    }
}

impl PushMetrics {
    /// Gateway: whether it is attached to its control.
    pub fn attached(&self, attached: bool) {
        self.attached.set(1 + u64::from(attached));
    }

    /// Control: a change was taken so long after it was published.
    pub fn propagated(&self, took: Duration) {
        self.propagation.observe(took);
    }

    /// 1 or 0; none in a process that has no control elsewhere.
    pub(super) fn is_attached(&self) -> Option<u64> {
        self.attached.get().checked_sub(1)
    }
}

//! What is noted of each stream while it lives; the counters are in [`crate::metrics`].

use crate::{
    close::Closed,
    core::Core,
    metrics::streams::{Side, StreamKey, StreamMetrics},
};
use isthmus_control_api::{ClusterName, ServicePort};
use std::{collections::HashMap, sync::Arc, time::Instant};

/// One core's handles on the counters of its streams, each looked up once.
#[derive(Debug, Default)]
pub(crate) struct Handles(HashMap<StreamKey, Arc<StreamMetrics>>);

/// One stream's notes, until it closes.
pub(crate) struct StreamMeter<'a> {
    core: &'a Core,
    key: StreamKey,
    begun: Instant,
    counters: Option<Arc<StreamMetrics>>,
    retries: u64,
}

impl Handles {
    fn get(&mut self, core: &Core, key: &StreamKey) -> Arc<StreamMetrics> {
        if let Some(counters) = self.0.get(key) {
            return counters.clone();
        }
        // The registry bounds how many there are; here it is services times peers, which the table bounds.
        let counters = core.common.metrics.streams(core.id, key);
        self.0.insert(key.clone(), counters.clone());
        counters
    }

    /// Forgets those of services that are gone.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&ServicePort) -> bool) {
        self.0.retain(|key, _| is_there(&key.service));
    }
}

impl<'a> StreamMeter<'a> {
    /// A stream begins.
    pub(crate) fn new(core: &'a Core, side: Side, service: ServicePort) -> Self {
        let key = StreamKey { service, peer: None, side };
        Self { core, key, begun: Instant::now(), counters: None, retries: 0 }
    }

    /// The other cluster, as far as it is known by now.
    pub(crate) fn peer(&mut self, cluster: Option<&ClusterName>) {
        self.key.peer = cluster.cloned();
    }

    /// Another upstream is tried.
    pub(crate) fn retry(&mut self) {
        self.retries += 1;
    }

    /// The upstream has taken it.
    pub(crate) fn connected(&mut self) {
        let took = self.begun.elapsed();
        self.counters().connected(took);
    }

    /// Bytes went from the client towards the endpoint.
    pub(crate) fn up(&mut self, bytes: u64) {
        self.counters().moved_up(bytes);
    }

    /// Bytes went from the endpoint towards the client.
    pub(crate) fn down(&mut self, bytes: u64) {
        self.counters().moved_down(bytes);
    }

    /// Bytes went from the local socket into the stream.
    pub(crate) fn sent(&mut self, bytes: u64) {
        match self.key.side {
            Side::Egress => self.up(bytes),
            Side::Ingress => self.down(bytes),
        }
    }

    /// Bytes went from the stream into the local socket.
    pub(crate) fn received(&mut self, bytes: u64) {
        match self.key.side {
            Side::Egress => self.down(bytes),
            Side::Ingress => self.up(bytes),
        }
    }

    /// When the endpoint's first byte was there.
    pub(crate) fn first_byte(&mut self, at: Option<Instant>) {
        if let Some(at) = at {
            let took = at.saturating_duration_since(self.begun);
            self.counters().first_byte(took);
        }
    }

    /// The stream is over.
    pub(crate) fn close(mut self, how: Closed) {
        let (lived, retries) = (self.begun.elapsed(), self.retries);
        let counters = self.counters();
        (0..retries).for_each(|_| counters.retried());
        counters.closed(how, lived);
        self.counters = None;
    }

    fn counters(&mut self) -> &StreamMetrics {
        self.counters.get_or_insert_with(|| {
            let counters = self.core.handles.borrow_mut().get(self.core, &self.key);
            counters.opened();
            counters
        })
    }
}

/// A stream whose task was dropped, at the drain's deadline, has not said how it closed.
impl Drop for StreamMeter<'_> {
    fn drop(&mut self) {
        if let Some(counters) = &self.counters {
            counters.closed(Closed::Drained, self.begun.elapsed());
        }
    }
}

//! What a core notes of its streams: counters while they live, an access record when they end.
//!
//! A stream is counted once, at the upstream that it ends up with: when that accepts it, or when it ends without. Attempts that
//! failed before are that stream's retries, counted at the upstream that failed.

use crate::{
    close::Closed,
    metrics::{
        CoreMetrics, Metrics,
        streams::{Far, Side, StreamKey, StreamMetrics},
    },
    record::{Record, Recorder},
    tunnel::OpenRequest,
};
use isthmus_certs::SpiffeId;
use isthmus_control_api::{ClusterName, ServicePort, Table};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    net::SocketAddr,
    ops::Deref,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// One core's counters, and what it has got from [`Metrics::streams`] so far.
#[derive(Debug, Clone)]
pub struct CoreMeters(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    core: usize,
    metrics: Arc<Metrics>,
    counters: Arc<CoreMetrics>,
    recorder: Option<Recorder>,
    /// What the table has: only these become labels.
    services: RefCell<HashSet<ServicePort>>,
    families: RefCell<HashMap<StreamKey, Arc<StreamMetrics>>>,
}

/// Bytes that a stream has moved.
#[derive(Debug, Default, Clone)]
pub struct Moved {
    /// From the local socket to the other side.
    pub sent: u64,
    /// From the other side to the local socket.
    pub received: u64,
    counted: Option<Counted>,
}

/// Where moved bytes are counted, and how many are.
#[derive(Debug, Clone)]
struct Counted {
    streams: Arc<StreamMetrics>,
    side: Side,
    sent: u64,
    received: u64,
}

/// One stream's notes, until [`Self::close`].
#[derive(Debug)]
pub struct StreamMeter {
    shared: Rc<Shared>,
    /// Bytes moved so far.
    pub moved: Moved,
    key: StreamKey,
    begun: Instant,
    /// When the attempt at the present upstream began.
    attempt: Instant,
    source: Option<SpiffeId>,
    client: Option<SocketAddr>,
    endpoint: Option<SocketAddr>,
    traceparent: Option<String>,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    retries: u32,
}

impl CoreMeters {
    /// The meters of core `core`.
    pub fn new(metrics: &Arc<Metrics>, core: usize, recorder: Option<Recorder>) -> Self {
        let (counters, metrics) = (metrics.core(core).clone(), metrics.clone());
        let (services, families) = (RefCell::default(), RefCell::default());
        Self(Rc::new(Shared { core, metrics, counters, recorder, services, families }))
    }

    /// A new table: its services are counted apart from now on, and what it does not have any more need not be kept.
    pub fn table_applied(&self, table: &Table) {
        let imports = table.imports.values().map(|import| &import.service);
        let services: HashSet<ServicePort> = imports.chain(table.exports.keys()).cloned().collect();
        self.0.families.borrow_mut().retain(|key, _| services.contains(&key.service));
        *self.0.services.borrow_mut() = services;
    }

    /// A stream of a client at `client` begins.
    pub fn stream(&self, side: Side, service: ServicePort, client: Option<SocketAddr>) -> StreamMeter {
        let begun = Instant::now();
        StreamMeter {
            shared: self.0.clone(),
            moved: Moved::default(),
            key: StreamKey { service, far: Far::Nowhere, side },
            begun,
            attempt: begun,
            source: None,
            client,
            endpoint: None,
            traceparent: None,
            connect: None,
            first_byte: None,
            retries: 0,
        }
    }
}

impl Deref for CoreMeters {
    type Target = CoreMetrics;

    fn deref(&self) -> &CoreMetrics {
        &self.0.counters
    }
}

impl Shared {
    fn family(&self, key: &StreamKey) -> Arc<StreamMetrics> {
        if let Some(streams) = self.families.borrow().get(key) {
            return streams.clone();
        }
        if !self.services.borrow().contains(&key.service) {
            return self.metrics.other_streams(self.core, key.side);
        }
        let streams = self.metrics.streams(self.core, key);
        self.families.borrow_mut().insert(key.clone(), streams.clone());
        streams
    }
}

impl StreamMeter {
    /// The cluster at the other end: the one that opened it, or the one that is tried now.
    pub fn peer(&mut self, cluster: &ClusterName) {
        self.key.far = Far::Cluster(cluster.clone());
        self.attempt = Instant::now();
    }

    /// What the peer says of it.
    pub fn source(&mut self, request: &OpenRequest) {
        self.source = Some(request.source.id.clone());
        self.traceparent.clone_from(&request.traceparent);
    }

    /// The local endpoint that is tried now.
    pub fn endpoint(&mut self, address: SocketAddr) {
        if self.key.side == Side::Egress {
            self.key.far = Far::Local;
        }
        self.endpoint = Some(address);
        self.attempt = Instant::now();
    }

    /// The upstream has accepted it.
    pub fn connected(&mut self) {
        let took = self.attempt.elapsed();
        self.connect = Some(took);
        self.counted().connected(took);
    }

    /// The attempt failed, and another one follows.
    pub fn retry(&mut self) {
        self.retries += 1;
        self.shared.family(&self.key).retried();
        self.endpoint = None;
        self.attempt = Instant::now();
    }

    /// When the first byte from the endpoint was there, if ever.
    pub fn first_byte(&mut self, at: Option<Instant>) {
        let Some(at) = at else { return };
        let took = at.saturating_duration_since(self.begun);
        self.first_byte = Some(took);
        self.counted().first_byte(took);
    }

    /// It has ended.
    pub fn close(mut self, how: Closed) {
        let lived = self.begun.elapsed();
        self.counted().closed(how, lived);
        self.moved.flush();
        let shared = self.shared.clone();
        if let Some(recorder) = &shared.recorder {
            recorder.record(self.record(how, lived), &shared.counters);
        }
    }

    /// Where it is counted, from now on if it has not been.
    fn counted(&mut self) -> &StreamMetrics {
        let (shared, key) = (&self.shared, &self.key);
        let counted = self.moved.counted.get_or_insert_with(|| {
            let streams = shared.family(key);
            streams.opened();
            Counted { streams, side: key.side, sent: 0, received: 0 }
        });
        &counted.streams
    }

    fn record(self, closed: Closed, duration: Duration) -> Record {
        let (bytes_up, bytes_down) = match self.key.side {
            Side::Egress => (self.moved.sent, self.moved.received),
            Side::Ingress => (self.moved.received, self.moved.sent),
        };
        Record {
            time: SystemTime::now() - duration,
            service: self.key.service,
            side: self.key.side,
            peer: self.key.far.cluster().cloned(),
            source: self.source,
            client: self.client,
            endpoint: self.endpoint,
            bytes_up,
            bytes_down,
            duration,
            connect: self.connect,
            first_byte: self.first_byte,
            closed,
            retries: self.retries,
            traceparent: self.traceparent,
        }
    }
}

impl Moved {
    /// Adds what has moved since the last time to the counters, so that a long stream shows while it lives. It costs two
    /// additions: call it after a round of moving, not after each move.
    pub fn flush(&mut self) {
        let Some(counted) = &mut self.counted else { return };
        let (sent, received) = (self.sent - counted.sent, self.received - counted.received);
        (counted.sent, counted.received) = (self.sent, self.received);
        let (up, down) = match counted.side {
            Side::Egress => (sent, received),
            Side::Ingress => (received, sent),
        };
        counted.streams.moved_up(up);
        counted.streams.moved_down(down);
    }
}

#[cfg(test)]
mod tests;

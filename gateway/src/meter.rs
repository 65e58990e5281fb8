//! What is noted of each stream while it lives: its counters ([`crate::metrics`]) and, where they are wanted, its access record.
//!
//! A stream is counted once, at the upstream that it ends up with: when that takes it, or when it ends without.

use crate::{
    balance::{Balancer, PickId},
    close::Closed,
    core::Core,
    limit::{Comer, held::Held},
    metrics::{
        reasons::{Bound, Dropped},
        streams::{Side, StreamKey, StreamMetrics},
    },
    policy::Decision,
    stream::record::{
        Record,
        choice::{CHOICES, Choice},
    },
    traces::{
        Begun, Ended,
        context::{Context, Root},
    },
    tunnel::{OpenRequest, Source},
};
use isthmus_control_api::{ClusterName, ServicePolicy, ServicePort};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// One core's handles on the counters of its streams, each looked up once.
#[derive(Debug, Default)]
pub(crate) struct Handles(HashMap<StreamKey, Arc<StreamMetrics>>);

/// One stream's notes, until it closes.
pub(crate) struct StreamMeter<'a> {
    core: &'a Core,
    key: StreamKey,
    begun: Instant,
    counters: Option<Arc<StreamMetrics>>,
    retries: u32,
    /// Whether the first byte from the endpoint has been noted.
    first_byte: bool,
    /// The endpoint here that has taken it, until its first byte.
    watched: Option<Watched>,
    /// Its share of its service's limits; given back when it is over.
    pub(crate) held: Held,
    /// The trace that begins with it and is not sampled.
    unsampled: Option<Root>,
    /// What only its access record and its span want; `None` where there are none.
    notes: Option<Box<Notes>>,
}

/// An endpoint whose first byte is waited for.
struct Watched {
    id: PickId,
    /// When it has taken the stream.
    since: Instant,
    /// When the client has first said something.
    asked: Option<Instant>,
}

#[derive(Default)]
struct Notes {
    /// Its place in a trace, if it is sampled.
    context: Option<Context>,
    source: Option<Source>,
    policy: Option<Arc<str>>,
    dry_run: Option<Arc<str>>,
    endpoint: Option<SocketAddr>,
    choices: Vec<Choice>,
    /// What it was opened with, if that is not of `context`.
    traceparent: Option<String>,
    up: u64,
    down: u64,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
}

impl Handles {
    fn get(&mut self, core: &Core, key: &StreamKey) -> Arc<StreamMetrics> {
        if let Some(counters) = self.0.get(key) {
            return counters.clone();
        }
        // A peer may ask for any name, and a label that it can make up has no bound.
        if key.side == Side::Ingress && !core.table.borrow().exports.contains_key(&key.service) {
            return core.common.metrics.other_streams(core.id, key.side);
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

/// Datagrams from local clients were dropped that belong to no flow.
pub(crate) fn datagrams_dropped(core: &Core, service: &ServicePort, why: Dropped, count: u64) {
    if count > 0 {
        let key = StreamKey { service: service.clone(), peer: None, side: Side::Egress };
        core.handles.borrow_mut().get(core, &key).datagrams.dropped(why, count);
    }
}

impl<'a> StreamMeter<'a> {
    /// A stream begins.
    pub(crate) fn new(core: &'a Core, side: Side, service: ServicePort) -> Self {
        let key = StreamKey { service, peer: None, side };
        // A trace begins where the client is; the other side is told.
        let tracer = core.common.tracer.as_ref().filter(|_| side == Side::Egress);
        let (context, unsampled) = match tracer.map(|tracer| tracer.begin(&core.span_ids)) {
            Some(Begun::Sampled(context)) => (Some(context), None),
            Some(Begun::Unsampled(root)) => (None, Some(root)),
            None => (None, None),
        };
        let wanted = context.is_some() || core.common.recorder.is_some() || core.common.tap.wants(&key.service);
        let notes = wanted.then(|| Box::new(Notes { context, ..Notes::default() }));
        Self {
            core,
            key,
            begun: Instant::now(),
            counters: None,
            retries: 0,
            first_byte: false,
            watched: None,
            held: Held::default(),
            unsampled,
            notes,
        }
    }

    /// Lets the stream in at one side, by that side's policy.
    ///
    /// # Errors
    /// The bound that was reached; it is counted.
    pub(crate) fn admit(&mut self, side: Side, policy: &Arc<ServicePolicy>, comer: Comer<'_>) -> Result<(), Bound> {
        self.held.admit(self.core, (&self.key.service, side), policy, comer)
    }

    /// Whether the stream may be tried again at another upstream of that side, by its service's budget. It is counted as tried.
    pub(crate) fn may_retry(&mut self, side: Side) -> bool {
        let may = self.held.may_retry(self.core, side);
        if may {
            self.retry();
        }
        may
    }

    /// What it is for.
    pub(crate) fn service(&self) -> &ServicePort {
        &self.key.service
    }

    /// What OPEN says of its trace: also that it is not sampled, so that the peer does not sample by itself.
    pub(crate) fn traceparent(&mut self) -> Option<String> {
        if let Some(context) = self.notes.as_ref().and_then(|notes| notes.context.as_ref()) {
            return Some(context.traceparent());
        }
        let told = self.core.span_ids.unsampled(self.unsampled?);
        if let Some(notes) = &mut self.notes {
            notes.traceparent = Some(told.clone());
        }
        Some(told)
    }

    /// A peer has opened it, and says this of its trace.
    pub(crate) fn follow(&mut self, traceparent: Option<&str>) {
        let tracer = self.core.common.tracer.as_ref();
        if let Some(context) = tracer.and_then(|tracer| tracer.follow(traceparent, &self.core.span_ids)) {
            self.notes.get_or_insert_default().context = Some(context);
        }
    }

    /// What it was opened with.
    pub(crate) fn request(&mut self, request: &OpenRequest) {
        if let Some(notes) = &mut self.notes {
            notes.source = Some(request.source.clone());
            notes.traceparent.clone_from(&request.traceparent);
        }
    }

    /// What access policies say of it.
    pub(crate) fn decided(&mut self, decision: &Decision<'_>) {
        if let Some(notes) = &mut self.notes {
            notes.policy = decision.by.cloned();
            notes.dry_run = decision.otherwise.cloned();
        }
    }

    /// It was open, and this rule denies it now.
    pub(crate) fn denied(&mut self, by: Arc<str>) {
        if let Some(notes) = &mut self.notes {
            notes.policy = Some(by);
        }
    }

    /// The other cluster, as far as it is known by now.
    pub(crate) fn peer(&mut self, cluster: Option<&ClusterName>) {
        self.key.peer = cluster.cloned();
        self.endpoint(None);
    }

    /// The local endpoint that is tried now.
    pub(crate) fn endpoint(&mut self, address: Option<SocketAddr>) {
        if let Some(notes) = &mut self.notes {
            notes.endpoint = address;
        }
    }

    /// Whether somebody wants to know whom there was to choose from.
    pub(crate) fn notes_choices(&self) -> bool {
        self.core.common.recorder.is_some() && self.notes.as_ref().is_some_and(|notes| notes.choices.len() < CHOICES)
    }

    /// Where it is sent now, and whom else there was.
    pub(crate) fn chose(&mut self, choice: Choice) {
        if let Some(notes) = &mut self.notes {
            notes.choices.push(choice);
        }
    }

    /// An endpoint here has taken it: what its first byte says, or its reset before that, the balancer is told.
    pub(crate) fn watch(&mut self, id: Option<PickId>) {
        self.watched = id.map(|id| Watched { id, since: Instant::now(), asked: None });
    }

    /// The client has first said something at that time, if it has.
    pub(crate) fn asked(&mut self, at: Option<Instant>) {
        if let (Some(watched), Some(at)) = (&mut self.watched, at) {
            watched.asked.get_or_insert(at);
        }
    }

    /// The endpoint has reset it. Before its first byte that says something of the endpoint.
    pub(crate) fn endpoint_reset(&mut self) {
        if let Some(watched) = self.watched.take() {
            self.tell(|balancer| balancer.reset(watched.id, Instant::now()));
        }
    }

    /// Another upstream is tried.
    pub(crate) fn retry(&mut self) {
        self.retries = self.retries.saturating_add(1);
    }

    /// The upstream has taken it.
    pub(crate) fn connected(&mut self) {
        let took = self.begun.elapsed();
        self.counters().connected(took);
        self.held.taken(self.core);
        if let Some(notes) = &mut self.notes {
            notes.connect = Some(took);
        }
    }

    /// Bytes went from the client towards the endpoint.
    pub(crate) fn up(&mut self, bytes: u64) {
        self.counters().moved_up(bytes);
        self.held.moved(bytes, 0);
        // Out of a tunnel, bytes may be counted late: it knows better when they came.
        if self.key.side == Side::Egress && bytes > 0 && self.watched.is_some() {
            self.asked(Some(Instant::now()));
        }
        if let Some(notes) = &mut self.notes {
            notes.up += bytes;
        }
    }

    /// Bytes went from the endpoint towards the client.
    pub(crate) fn down(&mut self, bytes: u64) {
        self.counters().moved_down(bytes);
        self.held.moved(0, bytes);
        if bytes > 0 {
            self.answers();
        }
        if let Some(notes) = &mut self.notes {
            notes.down += bytes;
        }
    }

    /// The endpoint has said something, now.
    pub(crate) fn answers(&mut self) {
        // Through a tunnel, the tunnel knows better when it was there.
        let from_endpoint = self.key.side == Side::Ingress || self.key.peer.is_none();
        if from_endpoint && !self.first_byte {
            let now = Instant::now();
            self.first_byte(Some(now));
            if let Some(Watched { id, since, asked }) = self.watched.take() {
                // How long a server is silent that nobody has asked anything is its own affair.
                let took = asked.map(|asked| now.saturating_duration_since(asked.max(since)));
                self.tell(|balancer| balancer.answered(id, took, now));
            }
        }
    }

    /// The socket that it begins at in this gateway has said something, now, which may wait before it goes on; its other end, if
    /// `is_far`.
    pub(crate) fn said(&mut self, is_far: bool) {
        match (self.key.side, is_far) {
            (Side::Egress, false) => self.asked(Some(Instant::now())),
            (Side::Egress, true) | (Side::Ingress, false) => self.answers(),
            // The tunnel knows better when it came.
            (Side::Ingress, true) => {}
        }
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

    /// A datagram of a UDP flow went from the client towards the endpoint.
    pub(crate) fn datagram_up(&mut self, bytes: usize) {
        self.counters().datagrams.up();
        self.held.charge(bytes);
        self.up(bytes as u64);
    }

    /// A datagram of a UDP flow went from the endpoint towards the client.
    pub(crate) fn datagram_down(&mut self, bytes: usize) {
        self.counters().datagrams.down();
        self.held.charge(bytes);
        self.down(bytes as u64);
        if !self.first_byte {
            self.first_byte(Some(Instant::now()));
        }
    }

    /// A datagram of a UDP flow was too large for a datagram of its tunnel.
    pub(crate) fn datagram_framed(&mut self) {
        self.counters().datagrams.framed();
    }

    /// Datagrams of a UDP flow were dropped.
    pub(crate) fn datagrams_dropped(&mut self, why: Dropped, count: u64) {
        if count > 0 {
            self.counters().datagrams.dropped(why, count);
        }
    }

    /// When the endpoint's first byte was there.
    pub(crate) fn first_byte(&mut self, at: Option<Instant>) {
        let Some(at) = at else { return };
        self.first_byte = true;
        let took = at.saturating_duration_since(self.begun);
        self.counters().first_byte(took);
        if let Some(notes) = &mut self.notes {
            notes.first_byte = Some(took);
        }
    }

    /// The stream is over.
    pub(crate) fn close(mut self, how: Closed) {
        // One that found no upstream counts as well.
        self.counters();
        self.end(how);
    }

    fn tell(&self, tell: impl FnOnce(&mut Balancer)) {
        if let Some(balancer) = self.core.balancers.borrow_mut().get_mut(&self.key.service) {
            tell(balancer);
        }
    }

    fn counters(&mut self) -> &StreamMetrics {
        self.counters.get_or_insert_with(|| {
            let counters = self.core.handles.borrow_mut().get(self.core, &self.key);
            counters.opened();
            counters
        })
    }

    /// Counts and records the end, once.
    fn end(&mut self, how: Closed) {
        let Some(counters) = self.counters.take() else { return };
        let lived = self.begun.elapsed();
        counters.retried(u64::from(self.retries));
        counters.closed(how, lived);
        let Some(mut notes) = self.notes.take() else { return };
        let context = notes.context.take();
        if let Some(context) = &context {
            notes.traceparent = Some(context.traceparent());
        }
        let record = self.record(*notes, how, lived);
        let common = &self.core.common;
        common.tap.take(&record);
        if let Some((tracer, context)) = common.tracer.as_ref().zip(context) {
            tracer.take(Ended { record: record.clone(), context }, &self.core.counters);
        }
        if let Some(recorder) = &common.recorder {
            recorder.record(record, &self.core.counters);
        }
    }

    fn record(&self, notes: Notes, closed: Closed, duration: Duration) -> Record {
        let source = notes.source;
        Record {
            time: SystemTime::now() - duration,
            service: self.key.service.clone(),
            side: self.key.side,
            peer: self.key.peer.clone(),
            client: source.as_ref().and_then(|source| source.address),
            source,
            policy: notes.policy,
            dry_run: notes.dry_run,
            endpoint: notes.endpoint,
            bytes_up: notes.up,
            bytes_down: notes.down,
            duration,
            connect: notes.connect,
            first_byte: notes.first_byte,
            closed,
            retries: self.retries,
            choices: notes.choices,
            traceparent: notes.traceparent,
        }
    }
}

/// A stream whose task was dropped, at the drain's deadline, has not said how it closed.
impl Drop for StreamMeter<'_> {
    fn drop(&mut self) {
        self.end(Closed::Drained);
    }
}

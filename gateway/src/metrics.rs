//! What is counted: one row of counters a core, summed when somebody asks.
//!
//! ```text
//! core 0 ─▶ CoreMetrics, StreamMetrics ─┐
//! core 1 ─▶ CoreMetrics, StreamMetrics ─┼─ summed ─▶ GET /metrics
//! control ▶ CoreMetrics ────────────────┘
//! ```
//!
//! A core counts with relaxed additions on cache lines that no other core writes: no lock, no allocation, no hashing. What is
//! counted by service and peer goes through a [`StreamMetrics`] that a core gets from [`Metrics::streams`] when its table
//! changes, and then keeps. [`definitions`] has every metric's name and meaning; docs/metrics.md is made from it.

pub mod counter;
pub mod datagrams;
pub mod definitions;
pub mod policy;
pub mod process;
pub mod push;
pub mod reasons;
pub mod registry;
pub mod scrape;
pub mod streams;

use crate::{relay::pairs::Pairs, tunnel::Direction};
use counter::{Counter, Gauge};
use isthmus_certs::HandshakeRefusal;
use reasons::{Bound, DialFailure, EndpointSource, Hedge, HelloRefusal, JoinResult, PunchResult, SpanDropped};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use streams::{Families, Side, StreamKey, StreamMetrics, StreamTotals};

/// A core that has not stamped its heartbeat for so long is stuck.
pub const STUCK: Duration = Duration::from_secs(10);

/// Every counter of the process.
#[derive(Debug)]
pub struct Metrics {
    cores: Vec<Arc<CoreMetrics>>,
    /// The control thread's own row.
    control: Arc<CoreMetrics>,
    families: Families,
    started: SystemTime,
    /// The limit of the memory budget, in bytes.
    pub memory_limit: Gauge,
    /// Configurations or tables that were taken.
    pub reloads_ok: Counter,
    /// Configurations or tables that were refused, so that the last good one stays.
    pub reloads_failed: Counter,
    /// Exported services that linked clusters cannot be told of, since there is no room for them.
    pub exports_untold: Gauge,
    joins: [Counter; JoinResult::ALL.len()],
    /// What passes between control and gateways.
    pub push: push::PushMetrics,
    /// What the registry counts, where it writes.
    pub registry: registry::RegistryMetrics,
    /// What access policies have decided.
    pub policies: policy::PolicyMetrics,
    /// What this gateway relays between others.
    pub(crate) relays: Pairs,
}

impl Metrics {
    /// Counters of `cores` cores, all zero.
    pub fn new(cores: usize) -> Arc<Self> {
        let born = Instant::now();
        Arc::new(Self {
            cores: (0..cores).map(|_| Arc::new(CoreMetrics::new(born))).collect(),
            control: Arc::new(CoreMetrics::new(born)),
            families: Families::new(cores, streams::MOST_FAMILIES),
            started: SystemTime::now(),
            memory_limit: Gauge::default(),
            reloads_ok: Counter::default(),
            reloads_failed: Counter::default(),
            exports_untold: Gauge::default(),
            joins: Default::default(),
            push: push::PushMetrics::default(),
            registry: registry::RegistryMetrics::default(),
            policies: policy::PolicyMetrics::default(),
            relays: Pairs::new(),
        })
    }

    /// The row of core `core`; of one that does not exist the control thread's.
    pub fn core(&self, core: usize) -> &Arc<CoreMetrics> {
        self.cores.get(core).unwrap_or(&self.control)
    }

    /// The control thread's row.
    pub fn control(&self) -> &Arc<CoreMetrics> {
        &self.control
    }

    /// What core `core` counts for `key`. It takes a lock and may allocate: call it when the table changes, or for the first
    /// stream, and keep the result as long as there may be another stream.
    pub fn streams(&self, core: usize, key: &StreamKey) -> Arc<StreamMetrics> {
        self.families.get(core, key)
    }

    /// What core `core` counts for services that the table does not have: peers may ask for any name.
    pub fn other_streams(&self, core: usize, side: Side) -> Arc<StreamMetrics> {
        self.families.other(core, side)
    }

    /// The cores that have not stamped their heartbeat for [`STUCK`], with how long.
    pub fn stuck_cores(&self, now: Instant) -> Vec<(usize, Duration)> {
        let ages = self.cores.iter().map(|core| core.silence(now)).enumerate();
        ages.filter(|&(_, silence)| silence >= STUCK).collect()
    }

    /// Somebody came with an invitation.
    pub fn joined(&self, result: JoinResult) {
        self.joins[result as usize].add(1);
    }

    /// What was counted of streams so far, in a stable order.
    pub(crate) fn stream_totals(&self) -> Vec<StreamTotals> {
        self.families.totals()
    }

    /// What became of handshakes and dialling so far.
    pub(crate) fn handshake_counts(&self) -> HandshakeCounts {
        let sum = |of: &dyn Fn(&CoreMetrics) -> u64| self.rows().map(of).sum::<u64>();
        let refused = HandshakeRefusal::ALL
            .iter()
            .map(|&why| (why.as_str(), sum(&|row| row.handshakes_refused[why as usize].get())));
        let failed =
            DialFailure::ALL.iter().map(|&why| (why.as_str(), sum(&|row| row.dial_failures[why as usize].get())));
        HandshakeCounts {
            dialled: sum(&|row| row.handshakes[direction_index(Direction::Dialled)].get()),
            accepted: sum(&|row| row.handshakes[direction_index(Direction::Accepted)].get()),
            refused: refused.filter(|&(_, count)| count > 0).collect(),
            dial_failures: failed.filter(|&(_, count)| count > 0).collect(),
        }
    }

    fn rows(&self) -> impl Iterator<Item = &CoreMetrics> {
        self.cores.iter().chain([&self.control]).map(AsRef::as_ref)
    }
}

/// What became of handshakes and dialling, all cores together; reasons that did not occur are left out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct HandshakeCounts {
    dialled: u64,
    accepted: u64,
    refused: BTreeMap<&'static str, u64>,
    dial_failures: BTreeMap<&'static str, u64>,
}

/// What one core counts. No other core writes to it, and it shares no cache line with another's.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreMetrics {
    born: Instant,
    /// Milliseconds from `born` to the last heartbeat.
    heartbeat: Gauge,
    /// Tunnel handshakes that succeeded, by who dialled: this gateway, the peer.
    handshakes: [Counter; 2],
    handshakes_refused: [Counter; HandshakeRefusal::ALL.len()],
    dial_failures: [Counter; DialFailure::ALL.len()],
    refusals: [Counter; Bound::ALL.len()],
    punches: [Counter; PunchResult::ALL.len()],
    hedges: [Counter; Hedge::ALL.len()],
    endpoint_sources: [Counter; EndpointSource::ALL.len()],
    hellos_refused: [Counter; HelloRefusal::ALL.len()],
    /// Checks of endpoints that failed, and those that did not.
    checks: [Counter; 2],
    /// Endpoints left out after failures in a row.
    pub endpoint_ejections: Counter,
    /// Connections that accept(2) failed to hand over, for want of descriptors or memory.
    pub accept_errors: Counter,
    /// Times that the core asked its reactor again after work, instead of sleeping.
    pub busy_polls: Counter,
    /// Access records that the writer was too slow for.
    pub access_records_dropped: Counter,
    /// Spans that the collector has taken.
    pub spans_exported: Counter,
    spans_dropped: [Counter; SpanDropped::ALL.len()],
    /// Attempts to hand spans to the collector that failed.
    pub span_exports_failed: Counter,
    /// Bytes that went between local sockets by splice(2).
    pub spliced_bytes: Counter,
    /// Pipes that they go through now.
    pub splice_pipes: Gauge,
    /// Bytes of the memory budget that this core has granted as credit or holds in buffers.
    pub memory_granted: Gauge,
}

impl CoreMetrics {
    fn new(born: Instant) -> Self {
        Self {
            born,
            heartbeat: Gauge::default(),
            handshakes: Default::default(),
            handshakes_refused: Default::default(),
            dial_failures: Default::default(),
            refusals: Default::default(),
            punches: Default::default(),
            hedges: Default::default(),
            endpoint_sources: Default::default(),
            hellos_refused: Default::default(),
            checks: Default::default(),
            endpoint_ejections: Counter::default(),
            accept_errors: Counter::default(),
            busy_polls: Counter::default(),
            access_records_dropped: Counter::default(),
            spans_exported: Counter::default(),
            spans_dropped: Default::default(),
            span_exports_failed: Counter::default(),
            spliced_bytes: Counter::default(),
            splice_pipes: Gauge::default(),
            memory_granted: Gauge::default(),
        }
    }

    /// A tunnel's handshake succeeded.
    pub fn handshake(&self, direction: Direction) {
        self.handshakes[direction_index(direction)].add(1);
    }

    /// A tunnel's handshake did not come about.
    pub fn handshake_refused(&self, reason: HandshakeRefusal) {
        self.handshakes_refused[reason as usize].add(1);
    }

    /// An attempt to dial a peer failed.
    pub fn dial_failed(&self, reason: DialFailure) {
        self.dial_failures[reason as usize].add(1);
    }

    /// A direct path was tried, beside a relayed one.
    pub fn punched(&self, result: PunchResult) {
        self.punches[result as usize].add(1);
    }

    /// A connection that was begun beside one that was late has come to its end.
    pub fn hedged(&self, result: Hedge) {
        self.hedges[result as usize].add(1);
    }

    /// An endpoint whose export lets it see clients' own addresses is connected to, or did not answer one.
    pub fn endpoint_source(&self, source: EndpointSource) {
        self.endpoint_source_times(source, 1);
    }

    /// The same of so many.
    pub fn endpoint_source_times(&self, source: EndpointSource, count: u64) {
        self.endpoint_sources[source as usize].add(count);
    }

    /// A client that was to say whom it wants was refused.
    pub fn hello_refused(&self, reason: HelloRefusal) {
        self.hellos_refused[reason as usize].add(1);
    }

    /// So many spans will not be at the collector.
    pub fn span_dropped(&self, why: SpanDropped, count: u64) {
        self.spans_dropped[why as usize].add(count);
    }

    /// Spans that will not be at the collector for this reason.
    #[cfg(test)]
    pub(crate) fn spans_dropped(&self, why: SpanDropped) -> u64 {
        self.spans_dropped[why as usize].get()
    }

    /// An endpoint was checked.
    pub fn checked(&self, well: bool) {
        self.checks[usize::from(well)].add(1);
    }

    /// Something was refused because a bound was reached.
    pub fn refused(&self, bound: Bound) {
        self.refusals[bound as usize].add(1);
    }

    /// The same, so many times.
    pub fn refused_times(&self, bound: Bound, times: u64) {
        self.refusals[bound as usize].add(times);
    }

    /// Says that this core is alive.
    pub fn beat(&self, now: Instant) {
        let age = now.saturating_duration_since(self.born).as_millis();
        self.heartbeat.set(u64::try_from(age).unwrap_or(u64::MAX));
    }

    /// How long ago the last heartbeat was; before the first one, how long this row exists.
    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born).saturating_sub(Duration::from_millis(self.heartbeat.get()))
    }
}

fn direction_index(direction: Direction) -> usize {
    match direction {
        Direction::Dialled => 0,
        Direction::Accepted => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_stops_beating_is_stuck() {
        let metrics = Metrics::new(2);
        let now = Instant::now() + STUCK;
        assert_eq!(metrics.stuck_cores(Instant::now()), []);
        metrics.core(0).beat(now);
        let stuck = metrics.stuck_cores(now);
        assert_eq!(stuck.iter().map(|&(core, _)| core).collect::<Vec<_>>(), [1]);
        assert!(metrics.stuck_cores(now + STUCK).len() == 2);
    }

    #[test]
    fn rows_share_no_cache_line() {
        assert_eq!(align_of::<CoreMetrics>(), 128);
        assert_eq!(align_of::<StreamMetrics>(), 128);
    }
}

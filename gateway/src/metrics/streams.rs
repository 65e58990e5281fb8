//! What is counted by service, peer and direction, and the limit on how many of those there are.

use super::{
    counter::{Counter, Histogram, HistogramSum, LATENCY, LIFETIME},
    datagrams::{DatagramMetrics, DatagramTotals},
};
use crate::close::Closed;
use isthmus_control_api::{ClusterName, ServicePort};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How many combinations of service, peer and direction are counted apart. When there is no room, combinations that no core
/// holds any more are forgotten; if that makes none, further ones are counted together as service and peer [`OTHER`].
pub const MOST_FAMILIES: usize = 1_000;

/// The label of what is beyond [`MOST_FAMILIES`], and of what was asked for and is not in the table: no DNS label has an
/// underscore.
pub const OTHER: &str = "_other";
/// The label of streams that stay in their own cluster.
pub const LOCAL: &str = "_local";

/// Which side of a stream this gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The client's: the stream entered through a listener here.
    Egress,
    /// The service's: a peer opened it.
    Ingress,
}

/// What streams are counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// What the stream is for.
    pub service: ServicePort,
    /// The cluster at the other end; `None` if it stays in this one.
    pub peer: Option<ClusterName>,
    /// Which side this gateway is.
    pub side: Side,
}

/// What one core counts for one [`StreamKey`].
#[derive(Debug)]
#[repr(align(128))]
pub struct StreamMetrics {
    opened: Counter,
    up: Counter,
    down: Counter,
    retries: Counter,
    closed: [Counter; Closed::ALL.len()],
    connect: Histogram,
    first_byte: Histogram,
    lifetime: Histogram,
    /// Of UDP flows.
    pub datagrams: DatagramMetrics,
}

impl Side {
    /// The word for metrics and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

impl StreamMetrics {
    fn new() -> Self {
        Self {
            opened: Counter::default(),
            up: Counter::default(),
            down: Counter::default(),
            retries: Counter::default(),
            closed: Default::default(),
            connect: Histogram::new(&LATENCY),
            first_byte: Histogram::new(&LATENCY),
            lifetime: Histogram::new(&LIFETIME),
            datagrams: DatagramMetrics::default(),
        }
    }

    /// A stream begins. [`Self::closed`] has to follow, once.
    pub fn opened(&self) {
        self.opened.add(1);
    }

    /// It ended so, after `lived`.
    pub fn closed(&self, how: Closed, lived: Duration) {
        self.closed[how.index()].add(1);
        self.lifetime.observe(lived);
    }

    /// Bytes moved from the client towards the endpoint.
    pub fn moved_up(&self, bytes: u64) {
        self.up.add(bytes);
    }

    /// Bytes moved from the endpoint towards the client.
    pub fn moved_down(&self, bytes: u64) {
        self.down.add(bytes);
    }

    /// The upstream took the stream after `took`: an endpoint its connection, or a peer the stream.
    pub fn connected(&self, took: Duration) {
        self.connect.observe(took);
    }

    /// The first byte from the endpoint was there after `took`.
    pub fn first_byte(&self, took: Duration) {
        self.first_byte.observe(took);
    }

    /// Attempts at an upstream failed, and another one followed.
    pub fn retried(&self, times: u64) {
        self.retries.add(times);
    }
}

/// All [`StreamMetrics`] of all cores, by what they count.
#[derive(Debug)]
pub(super) struct Families {
    cores: usize,
    most: usize,
    /// Locked when a core's table changes and while a scrape copies the list, never for a stream.
    by_key: Mutex<HashMap<StreamKey, Family>>,
    /// What is beyond the limit: egress, ingress.
    other: [Family; 2],
}

/// One combination's counters, one a core that has asked for them.
#[derive(Debug, Clone)]
struct Family(Vec<Option<Arc<StreamMetrics>>>);

impl Families {
    pub(super) fn new(cores: usize, most: usize) -> Self {
        let other = || Family((0..cores).map(|_| Some(Arc::new(StreamMetrics::new()))).collect());
        Self { cores, most, by_key: Mutex::default(), other: [other(), other()] }
    }

    pub(super) fn get(&self, core: usize, key: &StreamKey) -> Arc<StreamMetrics> {
        let core = core.min(self.cores.saturating_sub(1));
        // The map is whole after every step, so a panic elsewhere while it was locked broke nothing.
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = by_key.get_mut(key) {
            return family.core(core);
        }
        if by_key.len() >= self.most {
            by_key.retain(|_, family| family.is_held());
        }
        if by_key.len() >= self.most {
            return self.other(core, key.side);
        }
        by_key.entry(key.clone()).or_insert_with(|| Family(vec![None; self.cores])).core(core)
    }

    /// What is counted for no service in particular.
    pub(super) fn other(&self, core: usize, side: Side) -> Arc<StreamMetrics> {
        self.other[side as usize].clone().core(core.min(self.cores.saturating_sub(1)))
    }

    /// What was counted so far, in a stable order.
    pub(super) fn totals(&self) -> Vec<StreamTotals> {
        let mut families: Vec<(Option<StreamKey>, Side, Family)> = {
            let by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
            by_key.iter().map(|(key, family)| (Some(key.clone()), key.side, family.clone())).collect()
        };
        families.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        let other = [Side::Egress, Side::Ingress].into_iter().zip(&self.other);
        let counted = other.filter(|(_, family)| family.0.iter().flatten().any(|core| core.opened.get() > 0));
        families.extend(counted.map(|(side, family)| (None, side, family.clone())));
        families.into_iter().map(|(key, side, family)| StreamTotals::new(key, side, &family)).collect()
    }
}

impl Family {
    fn core(&mut self, core: usize) -> Arc<StreamMetrics> {
        match self.0.get_mut(core) {
            Some(slot) => slot.get_or_insert_with(|| Arc::new(StreamMetrics::new())).clone(),
            // A gateway without cores has nobody to count.
            None => Arc::new(StreamMetrics::new()),
        }
    }

    /// Whether a core may still count with it.
    fn is_held(&self) -> bool {
        self.0.iter().flatten().any(|counters| Arc::strong_count(counters) > 1)
    }
}

/// What all cores together have counted for one [`StreamKey`].
#[derive(Debug, Clone)]
pub(crate) struct StreamTotals {
    /// `None`: what is beyond the limit.
    pub(crate) key: Option<StreamKey>,
    pub(crate) side: Side,
    pub(crate) opened: u64,
    pub(crate) closed: [u64; Closed::ALL.len()],
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) retries: u64,
    pub(crate) connect: HistogramSum,
    pub(crate) first_byte: HistogramSum,
    pub(crate) lifetime: HistogramSum,
    pub(super) datagrams: DatagramTotals,
}

impl StreamTotals {
    fn new(key: Option<StreamKey>, side: Side, family: &Family) -> Self {
        let (connect, first_byte) = (HistogramSum::new(&LATENCY), HistogramSum::new(&LATENCY));
        let (closed, lifetime) = ([0; Closed::ALL.len()], HistogramSum::new(&LIFETIME));
        let datagrams = DatagramTotals::default();
        let mut totals =
            Self { key, side, opened: 0, closed, up: 0, down: 0, retries: 0, connect, first_byte, lifetime, datagrams };
        family.0.iter().flatten().for_each(|core| totals.add(core));
        totals
    }

    fn add(&mut self, core: &StreamMetrics) {
        // Ends before beginnings: a stream that ends in between must not count as closed and never opened.
        for (sum, counter) in self.closed.iter_mut().zip(&core.closed) {
            *sum += counter.get();
        }
        self.opened += core.opened.get();
        self.up += core.up.get();
        self.down += core.down.get();
        self.retries += core.retries.get();
        self.connect.add(&core.connect);
        self.first_byte.add(&core.first_byte);
        self.lifetime.add(&core.lifetime);
        self.datagrams.add(&core.datagrams);
    }

    /// Streams that have not ended.
    pub(crate) fn active(&self) -> u64 {
        self.opened.saturating_sub(self.closed.iter().sum())
    }

    /// Streams that were refused, timed out or were cut off.
    pub(crate) fn failed(&self) -> u64 {
        Closed::ALL.iter().zip(&self.closed).filter(|(how, _)| how.is_failure()).map(|(_, count)| count).sum()
    }

    /// The label `service`.
    pub(crate) fn service(&self) -> String {
        self.key.as_ref().map_or_else(|| OTHER.to_owned(), |key| key.service.to_string())
    }

    /// The label `peer`.
    pub(crate) fn peer(&self) -> String {
        match self.key.as_ref().map(|key| &key.peer) {
            None => OTHER.to_owned(),
            Some(None) => LOCAL.to_owned(),
            Some(Some(cluster)) => cluster.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(service: &str) -> StreamKey {
        let service = ServicePort::tcp(service.parse().unwrap(), 80);
        StreamKey { service, peer: Some("east".parse().unwrap()), side: Side::Egress }
    }

    #[test]
    fn cores_are_summed() {
        let families = Families::new(2, 10);
        for core in 0..2 {
            let streams = families.get(core, &key("shop/api"));
            streams.opened();
            streams.opened();
            streams.moved_up(7);
            streams.closed(Closed::Fin, Duration::from_secs(1));
        }
        let totals = families.totals();
        assert_eq!(totals.len(), 1);
        assert_eq!((totals[0].opened, totals[0].active(), totals[0].up), (4, 2, 14));
        assert_eq!((totals[0].closed[Closed::Fin.index()], totals[0].lifetime.count()), (2, 2));
        assert_eq!((totals[0].service(), totals[0].peer()), ("shop/api:80".into(), "east".into()));
    }

    #[test]
    fn a_core_gets_the_same_counters_again() {
        let families = Families::new(2, 10);
        assert!(Arc::ptr_eq(&families.get(1, &key("a/a")), &families.get(1, &key("a/a"))));
        assert!(!Arc::ptr_eq(&families.get(0, &key("a/a")), &families.get(1, &key("a/a"))));
    }

    #[test]
    fn beyond_the_limit_all_count_as_other() {
        let families = Families::new(1, 2);
        let held = [families.get(0, &key("a/a")), families.get(0, &key("b/b"))];
        families.get(0, &key("c/c")).opened();
        families.get(0, &key("d/d")).opened();
        held[0].opened();
        let totals = families.totals();
        let services: Vec<_> = totals.iter().map(|total| (total.service(), total.opened)).collect();
        assert_eq!(services, [("a/a:80".into(), 1), ("b/b:80".into(), 0), (OTHER.into(), 2)]);
    }

    #[test]
    fn what_no_core_holds_makes_room() {
        let families = Families::new(1, 2);
        let held = families.get(0, &key("a/a"));
        families.get(0, &key("gone/gone")).opened();
        families.get(0, &key("b/b")).opened();
        let services: Vec<_> = families.totals().iter().map(StreamTotals::service).collect();
        assert_eq!(services, ["a/a:80", "b/b:80"]);
        drop(held);
    }
}

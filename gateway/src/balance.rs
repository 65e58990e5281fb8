//! ● Which endpoint serves a stream: power of two choices on load and latency, among the healthy.
//!
//! A [`Balancer`] belongs to one core and one service port. Of two endpoints taken at random it chooses the one that costs
//! less: streams in flight times what connecting and answering take ([`load`], [`latency`]); or as the export's policy has it
//! ([`choose`]), or a client stays with one ([`client`]). Nearer ones are preferred where that is wanted ([`near`]). Endpoints that fail
//! are left out for a while ([`health`]), but never too many at once ([`outlier`]); those that are new begin slowly ([`ramp`]).
//! [`locality`] and [`sides`] decide before, between clusters.
//!
//! Nothing here allocates on the way of a stream; only [`Balancer::update`], [`Balancer::beat`] and [`Balancer::snapshot`] do.

mod choose;
pub mod client;
pub mod health;
pub mod latency;
pub mod load;
pub mod locality;
pub mod near;
mod node;
pub mod outlier;
mod pick;
pub mod ramp;
pub mod returning;
pub mod rotation;
mod sample;
pub mod shares;
pub mod sides;

pub use node::EndpointStatus;
pub use pick::{MAX_TRIED, Pick, PickId, Tried};

use client::{Draw, Seat};
use health::{Checked, Health};
use isthmus_control_api::{Algorithm, Endpoint, ServicePolicy};
use near::{Distance, Place};
use node::Node;
use ramp::Ramp;
use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// The endpoints of one service port, as one core knows them.
#[derive(Debug, Default, Clone)]
pub struct Balancer {
    /// In the order of their distance.
    nodes: Vec<Node>,
    /// What tells them apart for clients that stay with one, by the same index: together, since each such stream looks at all.
    seats: Vec<Seat>,
    /// Where the nodes of each distance end.
    ends: [usize; Distance::ALL.len()],
    /// Where round robin goes on, at each distance.
    turns: [usize; Distance::ALL.len()],
    tally: Tally,
    policy: Arc<ServicePolicy>,
    /// No endpoint that is unwell wants to be tried before.
    due: Option<Instant>,
    /// Endpoints left out since somebody asked.
    ejections: u64,
}

/// How the endpoints fare together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many there are.
    pub total: usize,
    /// How many of them are well.
    pub healthy: usize,
    /// Whether one that is not wants a stream that finds out.
    pub is_due: bool,
}

/// How many nodes are in a bad way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    /// Failing, ejected or not.
    failing: usize,
    ejected: usize,
}

impl Balancer {
    /// All of `endpoints`, each without load and taken to be healthy.
    pub fn new(endpoints: &[Endpoint], policy: &Arc<ServicePolicy>, here: &Place, now: Instant) -> Self {
        let mut balancer = Self::default();
        balancer.update(endpoints, policy, here, now);
        // What was there from the beginning is not new.
        balancer.nodes.iter_mut().for_each(|node| node.ramp = Ramp::default());
        balancer
    }

    /// Takes a new list; an endpoint that stays keeps its state. An address that is there twice counts once.
    pub fn update(&mut self, endpoints: &[Endpoint], policy: &Arc<ServicePolicy>, here: &Place, now: Instant) {
        let mut known: HashMap<SocketAddr, Node> = self.nodes.drain(..).map(|node| (node.address, node)).collect();
        let mut seen = HashSet::with_capacity(endpoints.len());
        for endpoint in endpoints.iter().filter(|endpoint| seen.insert(endpoint.address)) {
            let node = known.remove(&endpoint.address).unwrap_or_else(|| Node::new(endpoint, Ramp::begin(now)));
            self.nodes.push(Node { distance: Distance::of(endpoint, here, policy.near), ..node });
        }
        self.nodes.sort_by_key(|node| node.distance);
        self.seats = self.nodes.iter().map(|node| Seat::of_endpoint(node.address)).collect();
        self.ends = Distance::ALL.map(|distance| self.nodes.partition_point(|node| node.distance <= distance));
        self.policy = policy.clone();
        self.tally = self.nodes.iter().fold(Tally::default(), |tally, node| tally.with(&node.health));
        self.due = self.nodes.iter().filter_map(|node| node.health.due_at(now)).min();
    }

    /// Whether each client stays with its endpoint, whatever its streams ask for.
    pub fn is_by_client(&self) -> bool {
        self.policy.balance == Algorithm::SourceAddress
    }

    /// Leaves out the endpoints of `down`, which checks have found not to be well: those first that are out already, and never more than
    /// may be. Those beyond are chosen where there is no better one.
    pub fn leave_out(&mut self, down: Option<&HashSet<SocketAddr>>) {
        if down.is_none() && self.nodes.iter().all(|node| node.health.checked() == Checked::Well) {
            return;
        }
        let was_out: Vec<bool> = self.nodes.iter().map(|node| node.health.checked() == Checked::Out).collect();
        for node in &mut self.nodes {
            let is_down = down.is_some_and(|down| down.contains(&node.address));
            node.health.set_checked(if is_down { Checked::Failing } else { Checked::Well });
        }
        let most = outlier::most_ejected(self.nodes.len(), self.policy.outliers.max_ejected);
        let mut ejected = self.nodes.iter().filter(|node| node.health.is_ejected()).count();
        for already in [true, false] {
            for (node, _) in self.nodes.iter_mut().zip(&was_out).filter(|(_, was_out)| **was_out == already) {
                let health = &mut node.health;
                if health.checked() == Checked::Failing && (health.is_ejected() || ejected < most) {
                    ejected += usize::from(!health.is_ejected());
                    health.set_checked(Checked::Out);
                }
            }
        }
        self.tally = self.nodes.iter().fold(Tally::default(), |tally, node| tally.with(&node.health));
    }

    /// How many endpoints there are, healthy or not.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no endpoint at all.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Chooses an endpoint that is not in `tried`; `None` if there is none to be had. A client stays with its own one for as long
    /// as that is healthy, whatever its load.
    ///
    /// Ejected endpoints are candidates only while hardly any is healthy (it is then likelier that the fault is elsewhere), or once
    /// every other one was tried: a stream rather tries a bad endpoint than fails. But only one stream at a time tries an endpoint
    /// that is failing: an endpoint that swallows connections is not to hold up every stream for as long as connecting may take.
    pub fn pick(&mut self, now: Instant, draw: Draw, tried: &Tried) -> Option<Pick> {
        if tried.is_full() {
            return None;
        }
        let index = self.choose(now, draw, tried)?;
        let node = &mut self.nodes[index];
        node.load.started();
        node.trying = node.trying.saturating_add(1);
        let probe = node.health.picked(now, &self.policy.outliers);
        let id = PickId { key: node.key, index };
        let usual = node.load.connect_time();
        Some(Pick { address: node.address, id, probe, settled: Cell::new(false), usual })
    }

    /// The endpoint took the connection after `took`. The pick stays in flight until [`Self::released`].
    pub fn connected(&mut self, pick: &Pick, took: Duration, now: Instant) {
        self.settle(pick);
        self.change(pick.id, now, |node, _| {
            node.load.connected(took, now);
            node.measured = true;
            node.health.succeeded(now);
        });
    }

    /// The endpoint's first byte came; `took`: so long after the client's first one, where there was one. A server that
    /// speaks first answers nothing.
    pub fn answered(&mut self, id: PickId, took: Option<Duration>, now: Instant) {
        self.change(id, now, |node, _| {
            if let Some(took) = took {
                node.load.answered(took, now);
                node.measured = true;
            }
            node.health.answered();
        });
    }

    /// The endpoint has reset the stream before its first byte.
    pub fn reset(&mut self, id: PickId, now: Instant) {
        self.change(id, now, |node, rules| node.health.reset(now, &rules.outliers, rules.may_eject));
    }

    /// The endpoint has said something, whenever that was: a datagram of a flow says nothing of how long an answer takes.
    pub fn heard(&mut self, pick: &Pick, now: Instant) {
        self.settle(pick);
        self.change(pick.id, now, |node, _| node.health.succeeded(now));
    }

    /// The endpoint of a flow has neither answered nor refused, so far.
    pub fn silent(&mut self, pick: &Pick, now: Instant) {
        self.settle(pick);
        self.change(pick.id, now, |node, rules| node.health.silent(now, pick.probe, &rules.outliers));
    }

    /// The endpoint has not answered within what it usually takes: others are preferred for a moment.
    pub fn late(&mut self, pick: &Pick, now: Instant) {
        self.change(pick.id, now, |node, rules| node.health.late(now, &rules.outliers));
    }

    /// The endpoint was late, and its stream does not wait for it any more. That is a failure until it is [`Self::connected`] after all.
    pub fn overtaken(&mut self, pick: &Pick, now: Instant) {
        self.settle(pick);
        self.change(pick.id, now, |node, rules| {
            node.health.failed(now, pick.probe, &rules.outliers, rules.may_eject);
        });
    }

    /// The endpoint refused the connection, or did not answer in time.
    #[expect(clippy::needless_pass_by_value, reason = "a pick ends once")]
    pub fn failed(&mut self, pick: Pick, now: Instant) {
        self.settle(&pick);
        self.change(pick.id, now, |node, rules| {
            node.load.ended();
            node.health.failed(now, pick.probe, &rules.outliers, rules.may_eject);
        });
    }

    /// The connection has failed, and nobody knows by whose fault: nothing is held against the endpoint, but one that is left out is so for as
    /// long again.
    #[expect(clippy::needless_pass_by_value, reason = "a pick ends once")]
    pub fn put_off(&mut self, pick: Pick, now: Instant) {
        let settled = self.settle(&pick);
        self.change(pick.id, now, |node, rules| {
            node.load.ended();
            node.health.put_off(now, pick.probe && !settled, &rules.outliers);
        });
    }

    /// The stream is over, or was given up before its endpoint answered.
    #[expect(clippy::needless_pass_by_value, reason = "a pick ends once")]
    pub fn released(&mut self, pick: Pick, now: Instant) {
        let settled = self.settle(&pick);
        self.change(pick.id, now, |node, _| {
            node.load.ended();
            // What was settled before has ended the probe, and another one may be under way.
            node.health.gave_up(pick.probe && !settled);
        });
    }

    /// How the endpoints fare together.
    pub fn standing(&mut self, now: Instant) -> Standing {
        if self.due.is_some_and(|due| due <= now) {
            self.due = self.nodes.iter().filter_map(|node| node.health.due_at(now)).min();
        }
        let total = self.nodes.len();
        Standing { total, healthy: total - self.tally.failing, is_due: self.due.is_some_and(|due| due <= now) }
    }

    /// Leaves out what is much slower than the others, if that is wanted. Every second.
    pub fn beat(&mut self, now: Instant) {
        let Some(slower_than) = self.policy.outliers.slower_than else { return };
        let seconds = |node: &Node| node.load.average();
        let mut all: Vec<f64> =
            self.nodes.iter().filter(|node| !node.health.is_failing()).filter_map(seconds).collect();
        let bound = outlier::bound(&mut all, slower_than).unwrap_or(f64::INFINITY);
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let measured = std::mem::take(&mut node.measured);
            if let (true, Some(seconds)) = (measured, node.load.average())
                && node.slowness.look(seconds, bound)
            {
                let id = PickId { key: node.key, index };
                self.change(id, now, |node, rules| node.health.slow(now, &rules.outliers, rules.may_eject));
            }
        }
    }

    /// How many endpoints were left out since this was asked last.
    pub fn take_ejections(&mut self) -> u64 {
        std::mem::take(&mut self.ejections)
    }

    /// Every endpoint's state at `now`, the nearest first, and otherwise in the order of the last [`Self::update`].
    pub fn snapshot(&self, now: Instant) -> Vec<EndpointStatus> {
        self.nodes.iter().map(|node| node.status(now, &self.policy)).collect()
    }

    /// Up to `most` endpoints, and whether each is in `tried`: those that are not well before the others.
    pub fn candidates(&self, tried: &Tried, most: usize, now: Instant) -> Vec<(EndpointStatus, bool)> {
        let of = |is_well: bool| {
            let wanted = move |node: &&Node| (!node.health.is_failing() && !tried.contains(node.key)) == is_well;
            self.nodes.iter().filter(wanted)
        };
        let status = |node: &Node| (node.status(now, &self.policy), tried.contains(node.key));
        of(false).chain(of(true)).take(most).map(status).collect()
    }

    /// It is known whether the endpoint of `pick` takes connections. Whether it was before.
    fn settle(&mut self, pick: &Pick) -> bool {
        let settled = pick.settled.replace(true);
        if !settled && let Some(index) = self.index_of(pick.id) {
            let trying = &mut self.nodes[index].trying;
            *trying = trying.saturating_sub(1);
        }
        settled
    }

    /// Changes the node that was picked, if it is still there, and keeps the tally.
    fn change(&mut self, id: PickId, now: Instant, change: impl FnOnce(&mut Node, &Rules)) {
        let Some(index) = self.index_of(id) else { return };
        let outliers = self.policy.outliers;
        let may_eject = self.tally.ejected < outlier::most_ejected(self.nodes.len(), outliers.max_ejected);
        let node = &mut self.nodes[index];
        let (others, was_ejected) = (self.tally.without(&node.health), node.health.is_ejected());
        change(node, &Rules { outliers, may_eject });
        self.tally = others.with(&node.health);
        match (was_ejected, node.health.is_ejected()) {
            (false, true) => self.ejections += 1,
            (true, false) => node.ramp = Ramp::begin(now),
            _ => {}
        }
        if let Some(due) = node.health.due_at(now) {
            self.due = Some(self.due.map_or(due, |known| known.min(due)));
        }
    }

    fn index_of(&self, id: PickId) -> Option<usize> {
        let there = self.nodes.get(id.index).is_some_and(|node| node.key == id.key);
        if there { Some(id.index) } else { self.nodes.iter().position(|node| node.key == id.key) }
    }
}

/// By what a node is judged at a moment.
struct Rules {
    outliers: isthmus_control_api::Outliers,
    /// Whether one more endpoint may be ejected.
    may_eject: bool,
}

impl Tally {
    fn with(self, health: &Health) -> Self {
        let (failing, ejected) = (usize::from(health.is_failing()), usize::from(health.is_ejected()));
        Self { failing: self.failing + failing, ejected: self.ejected + ejected }
    }

    /// The opposite of [`Self::with`], for a node that was counted.
    fn without(self, health: &Health) -> Self {
        let (failing, ejected) = (usize::from(health.is_failing()), usize::from(health.is_ejected()));
        Self { failing: self.failing - failing, ejected: self.ejected - ejected }
    }
}

#[cfg(test)]
mod tests;

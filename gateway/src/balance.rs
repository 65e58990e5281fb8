//! ● Which endpoint serves a stream: power of two choices on load and connect time, among the healthy.
//!
//! A [`Balancer`] belongs to one core and one service port. Of two endpoints taken at random it chooses the one that costs
//! less: streams in flight times what connecting takes ([`load`]); or a client stays with one ([`client`]). Endpoints that refuse connections are left out for a
//! while ([`health`]), but never too many at once ([`outlier`]). [`locality`] decides before, between clusters.
//!
//! Nothing here allocates on the way of a stream; only [`Balancer::update`] and [`Balancer::snapshot`] do.

pub mod client;
pub mod health;
pub mod load;
pub mod locality;
pub mod outlier;
mod sample;

use client::{Client, Draw, Seat};
use health::{Checked, Health, HealthStatus};
use isthmus_control_api::Endpoint;
use load::Load;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Tells nodes apart, in all balancers of the process.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// How many endpoints one stream may try: the first and three more.
pub const MAX_TRIED: usize = 4;

/// The endpoints of one service port, as one core knows them.
#[derive(Debug, Default)]
pub struct Balancer {
    nodes: Vec<Node>,
    tally: Tally,
}

/// An endpoint chosen for one stream, until that stream is over. It ends in exactly one of [`Balancer::failed`] and
/// [`Balancer::released`]; one that is dropped otherwise counts as in flight for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "end it with Balancer::failed or Balancer::released"]
pub struct Pick {
    /// Where to connect.
    pub address: SocketAddr,
    key: u64,
    /// Where the node was when it was picked: still there unless an update came between.
    index: usize,
    /// The one stream that finds out whether an ejected endpoint is back.
    probe: bool,
}

/// The endpoints that one stream has tried already.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    keys: [u64; MAX_TRIED],
    len: usize,
}

/// What `/status` says of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Where it listens.
    pub address: SocketAddr,
    /// Streams chosen for it and not over yet.
    pub in_flight: u32,
    /// The peak-sensitive average of what connecting took; `None` before the first.
    pub connect_time: Option<Duration>,
    /// Failures to connect in a row.
    pub failures: u32,
    /// Whether it is chosen.
    pub health: HealthStatus,
}

#[derive(Debug)]
struct Node {
    address: SocketAddr,
    seat: Seat,
    /// Tells this node from one that had its address before, or its index.
    key: u64,
    load: Load,
    health: Health,
}

/// How many nodes are in a bad way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    /// Failing, ejected or not.
    failing: usize,
    ejected: usize,
}

impl Tried {
    /// Notes that `pick` has been tried. Beyond [`MAX_TRIED`] it is not noted: [`Self::is_full`] tells when to give up.
    pub fn insert(&mut self, pick: &Pick) {
        if !self.is_full() && !self.contains(pick.key) {
            self.keys[self.len] = pick.key;
            self.len += 1;
        }
    }

    /// Whether the stream has had all its attempts.
    pub fn is_full(&self) -> bool {
        self.len == MAX_TRIED
    }

    fn contains(&self, key: u64) -> bool {
        self.keys[..self.len].contains(&key)
    }
}

impl Balancer {
    /// All of `endpoints`, each without load and taken to be healthy.
    pub fn new(endpoints: &[Endpoint]) -> Self {
        let mut balancer = Self::default();
        balancer.update(endpoints);
        balancer
    }

    /// Takes a new list; an endpoint that stays keeps its state. An address that is there twice counts once.
    pub fn update(&mut self, endpoints: &[Endpoint]) {
        let mut known: HashMap<SocketAddr, Node> = self.nodes.drain(..).map(|node| (node.address, node)).collect();
        let mut seen = HashSet::with_capacity(endpoints.len());
        for endpoint in endpoints.iter().filter(|endpoint| seen.insert(endpoint.address)) {
            let node = known.remove(&endpoint.address).unwrap_or_else(|| {
                // Never used twice: a stream may outlive its balancer, and end when the service is back.
                Node::new(endpoint.address, NEXT_KEY.fetch_add(1, Ordering::Relaxed))
            });
            self.nodes.push(node);
        }
        self.tally = self.nodes.iter().fold(Tally::default(), |tally, node| tally.with(&node.health));
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
        let most = outlier::most_ejected(self.nodes.len());
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

    /// Chooses an endpoint that is not in `tried`; `None` if there is none, healthy or not. A client stays with its own one for as long
    /// as that is healthy, whatever its load.
    ///
    /// Ejected endpoints are candidates only while all are failing (it is then likelier that the fault is elsewhere), or once
    /// every other one was tried: a stream rather tries a bad endpoint than fails.
    pub fn pick(&mut self, now: Instant, draw: Draw, tried: &Tried) -> Option<Pick> {
        if tried.is_full() {
            return None;
        }
        let untried = |node: &Node| !tried.contains(node.key);
        let all_failing = self.tally.failing == self.nodes.len();
        let healthy = |node: &Node| untried(node) && (all_failing || node.health.admits(now));
        let index = match draw {
            Draw::For(client) => self.own(client, healthy).or_else(|| self.own(client, untried))?,
            Draw::Random(random) => {
                let two = |fits: &dyn Fn(&Node) -> bool| sample::two(&self.nodes, random, fits);
                let (one, other) = two(&healthy).or_else(|| two(&untried))?;
                let cost = |index: usize| {
                    let node = &self.nodes[index];
                    node.load.cost(now) * if all_failing { 1.0 } else { node.health.penalty(now) }
                };
                if cost(other) < cost(one) { other } else { one }
            }
        };
        let node = &mut self.nodes[index];
        node.load.started();
        let probe = node.health.picked(now);
        Some(Pick { address: node.address, key: node.key, index, probe })
    }

    /// A client's own one, of those that fit.
    fn own(&self, client: Client, fits: impl Fn(&Node) -> bool) -> Option<usize> {
        let fitting = self.nodes.iter().enumerate().filter(|(_, node)| fits(node));
        fitting.max_by_key(|(_, node)| client.score(node.seat)).map(|(index, _)| index)
    }

    /// The endpoint took the connection after `took`. The pick stays in flight until [`Self::released`].
    pub fn connected(&mut self, pick: &Pick, took: Duration, now: Instant) {
        self.change(pick, |node, _| {
            node.load.observe(took, now);
            node.health.succeeded(now);
        });
    }

    /// The endpoint has said something, whenever that was: a datagram of a flow says nothing of how long an answer takes.
    pub fn heard(&mut self, pick: &Pick, now: Instant) {
        self.change(pick, |node, _| node.health.succeeded(now));
    }

    /// The endpoint of a flow has neither answered nor refused, so far.
    pub fn silent(&mut self, pick: &Pick, now: Instant) {
        self.change(pick, |node, _| node.health.silent(now, pick.probe));
    }

    /// The endpoint refused the connection, or did not answer in time.
    #[expect(clippy::needless_pass_by_value, reason = "a pick ends once")]
    pub fn failed(&mut self, pick: Pick, now: Instant) {
        self.change(&pick, |node, may_eject| {
            node.load.ended();
            node.health.failed(now, pick.probe, may_eject);
        });
    }

    /// The stream is over, or was given up before its endpoint answered.
    #[expect(clippy::needless_pass_by_value, reason = "a pick ends once")]
    pub fn released(&mut self, pick: Pick) {
        self.change(&pick, |node, _| {
            node.load.ended();
            node.health.gave_up(pick.probe);
        });
    }

    /// Every endpoint's state at `now`, in the order of the last [`Self::update`].
    pub fn snapshot(&self, now: Instant) -> Vec<EndpointStatus> {
        let status = |node: &Node| EndpointStatus {
            address: node.address,
            in_flight: node.load.in_flight(),
            connect_time: node.load.connect_time(),
            failures: node.health.failures(),
            health: node.health.status(now),
        };
        self.nodes.iter().map(status).collect()
    }

    /// Changes the node of `pick`, if it is still there, and keeps the tally. `change` is told whether one more endpoint may be
    /// ejected.
    fn change(&mut self, pick: &Pick, change: impl FnOnce(&mut Node, bool)) {
        let Some(index) = self.index_of(pick) else { return };
        let may_eject = self.tally.ejected < outlier::most_ejected(self.nodes.len());
        let node = &mut self.nodes[index];
        let others = self.tally.without(&node.health);
        change(node, may_eject);
        self.tally = others.with(&node.health);
    }

    fn index_of(&self, pick: &Pick) -> Option<usize> {
        let there = self.nodes.get(pick.index).is_some_and(|node| node.key == pick.key);
        if there { Some(pick.index) } else { self.nodes.iter().position(|node| node.key == pick.key) }
    }
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

impl Node {
    fn new(address: SocketAddr, key: u64) -> Self {
        Self { address, seat: Seat::of_endpoint(address), key, load: Load::default(), health: Health::default() }
    }
}

#[cfg(test)]
mod tests;

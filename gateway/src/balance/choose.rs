//! ● The algorithms: which of the endpoints that may be chosen is.

use super::{
    Balancer, Tried,
    client::{Client, Draw},
    near,
    node::Node,
    sample,
};
use isthmus_control_api::Algorithm;
use std::{ops::Range, time::Instant};

/// Times that round robin goes round before it gives up: an endpoint that is new has a turn in each tenth.
const ROUNDS: usize = 11;

impl Balancer {
    /// The index of the node that is to have the next stream.
    pub(super) fn choose(&mut self, now: Instant, draw: Draw, tried: &Tried) -> Option<usize> {
        let panics = self.panics();
        let may_try = |node: &Node| !tried.contains(node.key) && (node.trying == 0 || !node.health.is_failing());
        let healthy = |node: &Node| {
            if panics { may_try(node) } else { !tried.contains(node.key) && node.health.admits(now) }
        };
        self.among(now, draw, !panics, &healthy).or_else(|| self.among(now, draw, !panics, &may_try))
    }

    /// Whether an endpoint is left that is not in `tried` and, for all that is known at `now`, well. Looks at all of them, if need be.
    pub fn has_another_well(&self, tried: &Tried, now: Instant) -> bool {
        self.nodes.iter().any(|node| !tried.contains(node.key) && node.health.is_well(now))
    }

    /// Whether so few are healthy that health is not heeded.
    fn panics(&self) -> bool {
        let (total, healthy) = (self.nodes.len(), self.nodes.len() - self.tally.failing);
        healthy * 100 <= total * usize::try_from(self.policy.failover.panic).unwrap_or(0)
    }

    /// The best one of those that fit.
    fn among(&mut self, now: Instant, draw: Draw, heed: bool, fits: &dyn Fn(&Node) -> bool) -> Option<usize> {
        let random = match draw {
            Draw::For(client) => return self.own(client, fits),
            Draw::Random(random) => random,
        };
        let (mut best, mut begin) = (None, 0);
        for distance in 0..self.ends.len() {
            let range = begin..self.ends[distance];
            begin = range.end;
            if range.is_empty() {
                continue;
            }
            let found = match self.policy.balance {
                Algorithm::LeastRequest => self.cheaper_of_two(now, random, range, heed, fits),
                Algorithm::RoundRobin => self.next(now, distance, range, fits),
                Algorithm::Random | Algorithm::SourceAddress => self.any(now, random, range, fits),
            };
            let Some(found) = found else { continue };
            let cost = |index: usize| self.nodes[index].cost(now, &self.policy, heed);
            let seconds = self.nodes[found].load.average();
            if best.is_none_or(|best| near::gives_way(cost(best), cost(found), seconds)) {
                best = Some(found);
            }
        }
        best
    }

    fn cheaper_of_two(
        &self,
        now: Instant,
        random: u64,
        range: Range<usize>,
        heed: bool,
        fits: &dyn Fn(&Node) -> bool,
    ) -> Option<usize> {
        let nodes = &self.nodes[range.clone()];
        let (one, other) = sample::two(nodes, random, fits)?;
        let cost = |index: usize| nodes[index].cost(now, &self.policy, heed);
        let cheaper = if one != other && cost(other).is_less(cost(one)) { other } else { one };
        Some(range.start + cheaper)
    }

    /// The next one in turn.
    fn next(
        &mut self,
        now: Instant,
        distance: usize,
        range: Range<usize>,
        fits: &dyn Fn(&Node) -> bool,
    ) -> Option<usize> {
        let (len, slow_start) = (range.len(), self.policy.slow_start);
        let turn = &mut self.turns[distance];
        let mut any_fits = false;
        for step in 0..len * ROUNDS {
            if step == len && !any_fits {
                break;
            }
            *turn = if *turn + 1 < len { *turn + 1 } else { 0 };
            let index = range.start + *turn;
            let node = &mut self.nodes[index];
            if !fits(node) {
                continue;
            }
            any_fits = true;
            node.turn += node.ramp.share(now, slow_start);
            if node.turn >= 1.0 {
                node.turn = 0.0;
                return Some(index);
            }
        }
        None
    }

    /// Any one; of two, in proportion to their shares.
    fn any(&self, now: Instant, random: u64, range: Range<usize>, fits: &dyn Fn(&Node) -> bool) -> Option<usize> {
        let nodes = &self.nodes[range.clone()];
        let (one, other) = sample::two(nodes, random, fits)?;
        let share = |index: usize| nodes[index].ramp.share(now, self.policy.slow_start);
        let (mine, theirs) = (share(one), share(other));
        // What the draw has not used: 53 bits are a number between 0 and 1.
        let coin = (random.rotate_left(32) >> 11) as f64 / (1_u64 << 53) as f64;
        Some(range.start + if coin * (mine + theirs) < theirs { other } else { one })
    }

    /// A client's own one, of those that fit. Mostly that is its own one of all: whether a node fits costs more than its score.
    fn own(&self, client: Client, fits: &dyn Fn(&Node) -> bool) -> Option<usize> {
        let scores = || self.seats.iter().map(|seat| client.score(*seat)).zip(0..);
        let does_fit = |index: usize| self.nodes.get(index).is_some_and(fits);
        let (_, of_all) = scores().max()?;
        if does_fit(of_all) {
            return Some(of_all);
        }
        scores().filter(|(_, index)| does_fit(*index)).max().map(|(_, index)| index)
    }
}

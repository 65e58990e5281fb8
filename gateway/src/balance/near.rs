//! ● Where endpoints are, seen from this gateway: the nearer ones are preferred, as far as they can carry it.
//!
//! Endpoints lie in a list in the order of their distance. Each distance has its best one; a nearer one takes the stream unless it
//! costs [`SPILL`] times as much as a farther one. So a near endpoint that is busy, slow or failing gives way by as much as it has to.

use super::{
    latency::FLOOR,
    load::{ALIKE, Cost},
};
use isthmus_control_api::{Endpoint, Near, Table};
use std::sync::Arc;

/// A nearer endpoint gives way to a farther one that costs so many times less.
pub const SPILL: f64 = 3.0;

/// What an endpoint is taken to need that nothing is known of, in seconds: no more than others do, and no less than this.
const UNKNOWN: f64 = 0.010;

/// Where this gateway runs, as far as it was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Its node.
    pub node: Option<Arc<str>>,
}

impl Place {
    /// Learns the zone from an endpoint on the same node, where nothing else says it; whether it did.
    pub fn learn(&mut self, table: &Table) -> bool {
        if self.zone.is_some() || self.node.is_none() {
            return false;
        }
        let mut endpoints = table.exports.values().flat_map(|export| &export.endpoints);
        self.zone = endpoints
            .find(|endpoint| endpoint.node == self.node && endpoint.zone.is_some())
            .and_then(|of| of.zone.clone());
        self.zone.is_some()
    }
}

/// How far away an endpoint is, as far as that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distance {
    /// On the same node.
    Node,
    /// In the same zone.
    Zone,
    /// Anywhere.
    #[default]
    Far,
}

impl Distance {
    /// All of them, the nearest first.
    pub const ALL: [Self; 3] = [Self::Node, Self::Zone, Self::Far];

    /// Of an endpoint from `here`, where `near` says what counts. What is not known is far.
    pub fn of(endpoint: &Endpoint, here: &Place, near: Near) -> Self {
        let same = |one: &Option<Arc<str>>, other: &Option<Arc<str>>| one.is_some() && one == other;
        let in_zone = if same(&endpoint.zone, &here.zone) { Self::Zone } else { Self::Far };
        match near {
            Near::Off => Self::Far,
            Near::Zone => in_zone,
            Near::Node if same(&endpoint.node, &here.node) => Self::Node,
            Near::Node => in_zone,
        }
    }

    /// A word for status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Zone => "zone",
            Self::Far => "far",
        }
    }
}

/// Whether one that is nearer gives way to a farther one, which takes so many seconds as of the last time, if there was one. That a
/// farther one was not asked for long makes it no quicker.
pub fn gives_way(nearer: Cost, farther: Cost, seconds: Option<f64>) -> bool {
    let farther_seconds = seconds.unwrap_or_else(|| UNKNOWN.min(nearer.seconds)) + FLOOR.as_secs_f64();
    let ratio = nearer.seconds / farther_seconds;
    let ratio = if (1.0 / ALIKE..ALIKE).contains(&ratio) { 1.0 } else { ratio };
    nearer.streams * ratio > SPILL * farther.streams
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_one_gives_way_when_it_is_much_busier_or_much_slower() {
        let cost = |streams, seconds| Cost { streams, seconds };
        assert!(!gives_way(cost(3.0, 0.002), cost(1.0, 0.001), Some(0.002)));
        assert!(gives_way(cost(4.0, 0.002), cost(1.0, 0.001), Some(0.002)));
        assert!(
            gives_way(cost(1.0, 0.1), cost(1.0, 0.001), Some(0.002))
                && gives_way(cost(1.0, 0.1), cost(1.0, 0.001), None)
        );
        assert!(!gives_way(cost(1.0, 0.02), cost(1.0, 0.001), None), "what is not known is no reason");
        assert!(!gives_way(cost(4.0, 0.001), cost(1.0, 0.001), Some(0.05)), "nor one that takes longer");
    }

    #[test]
    fn a_node_is_where_its_endpoints_are() {
        let endpoint = Endpoint {
            zone: Some("a".into()),
            node: Some("n1".into()),
            ..Endpoint::at("10.0.0.2:80".parse().unwrap())
        };
        let export = isthmus_control_api::Export { endpoints: vec![endpoint], ..Default::default() };
        let port = isthmus_control_api::ServicePort::tcp("shop/api".parse().unwrap(), 80);
        let table = Table { exports: [(port, Arc::new(export))].into(), ..Table::default() };
        let on =
            |node: Option<&str>, zone: Option<&str>| Place { zone: zone.map(Into::into), node: node.map(Into::into) };
        let mut here = on(Some("n1"), None);
        assert!(!here.learn(&Table::default()) && here.learn(&table) && !here.learn(&table));
        assert_eq!(here, on(Some("n1"), Some("a")));
        for mut nothing in [on(None, None), on(Some("n2"), None), on(Some("n1"), Some("b"))] {
            assert!(!nothing.learn(&table));
        }
    }

    #[test]
    fn what_counts_is_what_was_asked_for() {
        let here = Place { zone: Some("a".into()), node: Some("n1".into()) };
        let at = |zone: Option<&str>, node: Option<&str>| {
            let endpoint = Endpoint::at("10.0.0.2:80".parse().unwrap());
            Endpoint { zone: zone.map(Into::into), node: node.map(Into::into), ..endpoint }
        };
        let all = [at(Some("a"), Some("n1")), at(Some("a"), Some("n2")), at(Some("b"), None), at(None, None)];
        let of = |near| all.clone().map(|endpoint| Distance::of(&endpoint, &here, near));
        use Distance::{Far, Node, Zone};
        assert_eq!(of(Near::Off), [Far; 4]);
        assert_eq!(of(Near::Zone), [Zone, Zone, Far, Far]);
        assert_eq!(of(Near::Node), [Node, Zone, Far, Far]);
        let nowhere = Place::default();
        assert!(all.iter().all(|endpoint| Distance::of(endpoint, &nowhere, Near::Node) == Far));
    }
}

//! ● What peers can make a gateway say is said once a minute, so that none of them fills its disk.

use isthmus_control_api::{ClusterName, ServicePort};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Between two lines of the same.
const EVERY: Duration = Duration::from_mins(1);
/// What may be said within that time. There are a few lines for each linked cluster, and one for a service that it may use.
const MOST: usize = 1000;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    /// A datagram was too large.
    TooLarge,
    /// A cluster asked for a way to another one, and does not get it.
    NotRelayed(ClusterName),
    /// Who came through a relay in the name of a cluster was refused.
    RefusedRelayed(ClusterName),
    /// A cluster has dialled too many tunnels.
    TooManyTunnels(ClusterName),
    /// A cluster spoke for another one.
    Forged(ClusterName),
    /// The gateway may not connect from clients' own addresses.
    NotTransparent,
    /// There is no descriptor, or no memory, for a client's connection.
    CannotAccept,
    /// There is no socket for an endpoint.
    OutOfSockets,
    /// Endpoints of a service take no connections from clients' own addresses.
    NoWayBack(ServicePort),
}

/// When each was said last, if that was a short time ago.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeMap<Line, Instant>);

impl Said {
    /// Whether it may be said now; then it has been.
    pub(super) fn may(&mut self, line: Line, now: Instant) -> bool {
        self.0.retain(|_, last| now.saturating_duration_since(*last) < EVERY);
        let may = self.0.len() < MOST && !self.0.contains_key(&line);
        if may {
            self.0.insert(line, now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once_a_minute() {
        let (mut said, now) = (Said::default(), Instant::now());
        let [west, north] = ["west", "north"].map(|name| Line::NotRelayed(name.parse().unwrap()));
        assert!(said.may(west.clone(), now) && said.may(north, now) && said.may(Line::TooLarge, now));
        for later in [Duration::ZERO, EVERY - Duration::from_nanos(1)] {
            assert!(!said.may(west.clone(), now + later));
        }
        assert!(said.may(west, now + EVERY));
    }

    #[test]
    fn however_many_there_are_it_is_bounded() {
        let (mut said, now) = (Said::default(), Instant::now());
        let mut may = |n| said.may(Line::NotRelayed(format!("c{n}").parse().unwrap()), now);
        assert_eq!((0..2 * MOST).filter(|n| may(*n)).count(), MOST);
    }
}

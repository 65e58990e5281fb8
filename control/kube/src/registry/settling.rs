//! ● When nothing is taken from a peer that has said nothing: as long as this replica does not lead, and for a while after it has begun to.
//! Gateways must come to it and peers speak first, and one that stood by has heard of none, however long it did.

use isthmus_control::peers::PeerViews;
use std::time::{Duration, Instant};

/// After this replica has begun to lead.
const SETTLING: Duration = Duration::from_secs(30);

/// Whether peers are waited for.
#[derive(Debug, Default)]
pub(super) enum Settling {
    /// Another leads, or nobody.
    #[default]
    StandingBy,
    /// This replica leads, and waits until then.
    Until(Instant),
    /// Who has said nothing is late.
    Settled,
}

impl Settling {
    /// This replica's term has begun at `now`, or it has none.
    pub(super) fn led(&mut self, leads: bool, now: Instant) {
        *self = if leads { Self::Until(now + SETTLING) } else { Self::StandingBy };
    }

    /// Whether the time is over since the last call.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let is_over = matches!(self, Self::Until(until) if *until <= now);
        if is_over {
            *self = Self::Settled;
        }
        is_over
    }

    /// Makes nobody late who may yet speak.
    pub(super) fn wait_for(&self, views: &mut PeerViews) {
        if !matches!(self, Self::Settled) {
            views.values_mut().for_each(|view| view.late = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcs::{
        PeerView, Plan,
        tests::{Cluster, summary, view},
    };

    /// West, which imports shop/api from east, after its process has ended: another has stood by for long, and hears of nobody.
    fn west() -> Cluster {
        let mut west = Cluster::new("west");
        west.link("east", view(&[("shop/api", summary(200, "http", 80, 3))]));
        west.settle();
        west.plan = Plan::default();
        west
    }

    fn plan(west: &mut Cluster, settling: &Settling) -> usize {
        west.link("east", PeerView { late: true, ..PeerView::default() });
        settling.wait_for(&mut west.peers);
        west.settle();
        west.slices("shop/api").len()
    }

    #[test]
    fn a_new_leader_waits_for_peers_before_it_takes_anything_from_them() {
        let (mut west, start) = (west(), Instant::now());
        let mut settling = Settling::default();
        assert!(!settling.is_over(start + SETTLING * 10));
        assert_eq!(plan(&mut west, &settling), 2, "it stands by");
        settling.led(true, start);
        assert!(!settling.is_over(start + SETTLING - Duration::from_millis(1)));
        assert_eq!(plan(&mut west, &settling), 2, "it leads, and has not heard of anybody");
        assert!(settling.is_over(start + SETTLING));
        assert!(!settling.is_over(start + SETTLING), "once");
        assert_eq!(plan(&mut west, &settling), 0, "who has said nothing by now is down");
        settling.led(false, start + SETTLING);
        settling.led(true, start + SETTLING * 2);
        assert!(!settling.is_over(start + SETTLING * 2), "the next term waits again");
    }
}

//! ● What belongs to one import alone: whose turn it is, and how much of this cluster's own part it sends here.
//!
//! Two imports of one service may have different shares and preferences, so neither may see the other's turns. Who is well is the same
//! for all of them: [`super::sides`].

use super::{Standing, locality::Candidates, returning::Returning, rotation::Rotation};
use isthmus_control_api::{Affinity, ServicePolicy};
use std::time::Instant;

/// How one core keeps one import to its shares.
#[derive(Debug, Default, Clone)]
pub struct Shares {
    local: Returning,
    pub(super) rotation: Rotation,
}

impl Shares {
    /// The part of this cluster's own streams that it gets, 0 to 1, as of the last stream.
    pub fn local_part(&self) -> f64 {
        self.local.part()
    }

    /// Lets this cluster's part follow how its endpoints fare.
    pub(super) fn grow(
        &mut self,
        standing: Standing,
        candidates: &Candidates<'_>,
        policy: &ServicePolicy,
        now: Instant,
    ) {
        if candidates.local > 0 {
            let shrinks = candidates.affinity == Affinity::Local && candidates.weights.is_none();
            let healthy = if shrinks { policy.failover.healthy } else { 0 };
            self.local.toward(target(standing, healthy), now, policy.failover.recovery);
        }
    }
}

/// The part of this cluster's streams that it should have, where it should have all while so many percent are healthy.
fn target(standing: Standing, healthy: u32) -> f64 {
    let (total, threshold) = (standing.total as f64, f64::from(healthy) / 100.0);
    let share = standing.healthy as f64 / total.max(1.0);
    if standing.healthy == 0 {
        0.0
    } else if share >= threshold {
        1.0
    } else {
        share / threshold
    }
}

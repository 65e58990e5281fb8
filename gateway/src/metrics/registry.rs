//! What a registry that writes has counted: control's plans for Kubernetes, and their writes.

use super::counter::Gauge;

/// As of the last word of it. Set by the control thread.
#[derive(Debug, Default)]
pub struct RegistryMetrics {
    /// 1 once there is such a registry.
    is_there: Gauge,
    /// Plans made.
    pub plans: Gauge,
    /// Microseconds that they took together.
    pub plan_micros: Gauge,
    /// Writes that were taken.
    pub written: Gauge,
    /// Writes that failed.
    pub failed: Gauge,
    /// Kinds that cannot be watched now.
    pub unwatched: Gauge,
    /// Services of the clusterset that are planned for.
    pub services: Gauge,
    /// Those of them that lack a gateway port or an address.
    pub lacking: Gauge,
}

impl RegistryMetrics {
    /// There is one: its numbers are shown.
    pub fn appear(&self) {
        self.is_there.set(1);
    }

    /// This, if there is such a registry.
    pub(super) fn get(&self) -> Option<&Self> {
        (self.is_there.get() == 1).then_some(self)
    }
}

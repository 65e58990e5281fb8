//! ● What a path loses, from counters that only grow.

use crate::tunnel::Packets;
use std::time::{Duration, Instant};

/// Packets that a loss is measured over.
pub(super) const SAMPLE: u64 = 100;
/// How long a measurement says how things are.
const FRESH: Duration = Duration::from_mins(1);

/// A loss, smoothed by halves.
#[derive(Debug)]
pub(crate) struct Loss {
    /// Packets that it is measured over, at least.
    sample: u64,
    counted: Packets,
    smoothed: Option<f64>,
    measured: Option<Instant>,
}

impl Default for Loss {
    fn default() -> Self {
        Self::over(SAMPLE)
    }
}

impl Loss {
    /// Measured over so many packets.
    pub(crate) fn over(sample: u64) -> Self {
        Self { sample, counted: Packets::default(), smoothed: None, measured: None }
    }

    /// The smoothed loss, 0 to 1, if enough was sent since it was last measured.
    pub(crate) fn measure(&mut self, packets: Packets, now: Instant) -> Option<f64> {
        if packets.sent < self.counted.sent || packets.lost < self.counted.lost {
            // A tunnel has gone, and its counters with it.
            self.counted = packets;
            return None;
        }
        let (sent, lost) = (packets.sent - self.counted.sent, packets.lost - self.counted.lost);
        if sent < self.sample {
            return None;
        }
        self.counted = packets;
        // Both fit 52 bits: they are packets of some seconds.
        let sample = (lost as f64 / sent as f64).min(1.0);
        let smoothed = self.smoothed.map_or(sample, |before| (before + sample) / 2.0);
        (self.smoothed, self.measured) = (Some(smoothed), Some(now));
        Some(smoothed)
    }

    /// Begins anew: what was counted so far says nothing of the path any more.
    pub(crate) fn forget(&mut self, packets: Packets) {
        *self = Self { counted: packets, ..Self::over(self.sample) };
    }

    /// What was measured last, whenever that was.
    pub(crate) fn smoothed(&self) -> Option<f64> {
        self.smoothed
    }

    /// What was measured within the last minute.
    pub(crate) fn recent(&self, now: Instant) -> Option<f64> {
        self.smoothed.filter(|_| self.measured.is_some_and(|at| now.saturating_duration_since(at) < FRESH))
    }
}

/// One carrier's path, each way.
#[derive(Debug, Default)]
pub(crate) struct PathLoss {
    /// Of what this side sends.
    pub(crate) out: Loss,
    /// Of what the peer sends, as it has counted.
    pub(crate) back: Loss,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_smoothed_and_grows_old() {
        let (mut loss, now) = (Loss::default(), Instant::now());
        let mut measure = |sent, lost| loss.measure(Packets { sent, lost }, now);
        assert_eq!(measure(99, 99), None);
        assert_eq!(measure(100, 10), Some(0.1));
        assert_eq!(measure(200, 40), Some(0.2));
        assert_eq!(measure(50, 0), None, "another tunnel's counters");
        assert_eq!(measure(250, 0), Some(0.1));
        assert_eq!((loss.recent(now), loss.recent(now + FRESH)), (Some(0.1), None));
        assert_eq!(loss.smoothed(), Some(0.1));
        loss.forget(Packets { sent: 300, lost: 40 });
        assert_eq!((loss.smoothed(), loss.recent(now)), (None, None));
        assert_eq!(loss.measure(Packets { sent: 400, lost: 42 }, now), Some(0.02));
    }
}

//! ● A share that goes at once and comes back gradually: whoever was unwell is not met by everybody at the moment that it is back.

use std::time::{Duration, Instant};

/// The part of its streams that somebody gets now, 0 to 1: all of them at first.
#[derive(Debug, Clone, Copy)]
pub struct Returning {
    part: f64,
    at: Option<Instant>,
}

impl Default for Returning {
    fn default() -> Self {
        Self { part: 1.0, at: None }
    }
}

impl Returning {
    /// The part now, where it should be `target`: no more than that, and no more above what it was than time has passed, of which the
    /// whole way takes `recovery`.
    pub fn toward(&mut self, target: f64, now: Instant, recovery: Duration) -> f64 {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let grown = self.part + passed.as_secs_f64() / recovery.as_secs_f64().max(f64::MIN_POSITIVE);
        self.part = target.clamp(0.0, 1.0).min(grown);
        self.at = Some(now);
        self.part
    }

    /// The part as of the last time.
    pub fn part(&self) -> f64 {
        self.part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_at_once_and_comes_back_in_its_time() {
        let (start, recovery) = (Instant::now(), Duration::from_secs(10));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut share = Returning::default();
        assert_eq!(share.toward(1.0, at(0), recovery), 1.0);
        assert_eq!(share.toward(0.0, at(1), recovery), 0.0);
        assert_eq!(share.toward(1.0, at(3), recovery), 0.2);
        assert_eq!(share.toward(0.1, at(4), recovery), 0.1);
        assert_eq!(share.toward(1.0, at(60), recovery), 1.0);
    }
}

//! ● Slow start: the share of an endpoint that is new, or back, grows from a tenth to the whole.

use std::time::{Duration, Instant};

/// The share that it begins with.
const LEAST: f64 = 0.1;

/// From when on an endpoint's share grows; `None`: it has it all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ramp(Option<Instant>);

impl Ramp {
    /// It begins at `now`.
    pub fn begin(now: Instant) -> Self {
        Self(Some(now))
    }

    /// Its share, 0.1 to 1, where the whole way takes `window`.
    pub fn share(self, now: Instant, window: Option<Duration>) -> f64 {
        let (Some(begun), Some(window)) = (self.0, window) else { return 1.0 };
        let part = now.saturating_duration_since(begun).as_secs_f64() / window.as_secs_f64().max(f64::MIN_POSITIVE);
        part.clamp(LEAST, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole() {
        let (now, window) = (Instant::now(), Some(Duration::from_secs(10)));
        let ramp = Ramp::begin(now);
        let shares = [0, 1, 5, 10, 20].map(|s| ramp.share(now + Duration::from_secs(s), window));
        assert_eq!(shares, [0.1, 0.1, 0.5, 1.0, 1.0]);
        assert_eq!(Ramp::default().share(now, window), 1.0);
        assert_eq!(ramp.share(now, None), 1.0);
    }
}

//! ● Tunnels that broke: their peer fell silent. What was closed by either side does not count.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a break is remembered.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Breaks that are counted apart; more are "at least".
const MOST: usize = 16;

/// What broke of one link's tunnels, on one core.
#[derive(Debug, Default)]
pub(crate) struct Breaks {
    at: VecDeque<Instant>,
    why: Option<Arc<str>>,
}

/// What is remembered of breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// How many there were.
    pub times: usize,
    /// How long ago the last one was.
    pub ago: Duration,
    /// Why, the last time, in one line.
    pub why: Arc<str>,
}

impl Breaks {
    /// A tunnel broke.
    pub(crate) fn note(&mut self, why: &str, now: Instant) {
        if self.at.len() == MOST {
            self.at.pop_front();
        }
        self.at.push_back(now);
        self.why = Some(why.into());
    }

    /// What is remembered at `now`.
    pub(crate) fn recent(&self, now: Instant) -> Option<Broken> {
        let recent = self.at.iter().filter(|at| now.saturating_duration_since(**at) < REMEMBERED);
        let ago = now.saturating_duration_since(*self.at.back()?);
        let times = recent.count();
        (times > 0).then(|| Broken { times, ago, why: self.why.clone().unwrap_or_else(|| "".into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_are_counted_and_forgotten() {
        let (mut breaks, now) = (Breaks::default(), Instant::now());
        assert_eq!(breaks.recent(now), None);
        for minute in 0..8 {
            breaks.note("silent", now + Duration::from_mins(minute));
        }
        let broken = breaks.recent(now + Duration::from_mins(12)).unwrap();
        assert_eq!((broken.times, broken.ago, &*broken.why), (5, Duration::from_mins(5), "silent"));
        assert_eq!(breaks.recent(now + Duration::from_mins(17)), None);
        (0..100).for_each(|_| breaks.note("silent", now));
        assert_eq!(breaks.recent(now).unwrap().times, MOST);
    }
}

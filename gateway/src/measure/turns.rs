//! ● Whose turn it is to measure: one peer at a time, and not for long.

use isthmus_control_api::ClusterName;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long a measurement may take, from its first stream's opening: round trips before the load are part of it.
pub(super) const LONGEST: Duration = Duration::from_secs(15);
/// Bytes that a measurement may move, all its streams together.
pub(super) const MOST_BYTES: u64 = 2 << 30;
/// Streams of a measurement at once.
pub(super) const MOST_STREAMS: usize = crate::status::measure::MOST_STREAMS;
/// In so long a time …
const WHILE: Duration = Duration::from_mins(10);
/// … there is so much time for measurements, …
const TIME: Duration = Duration::from_secs(60);
/// … and they may move so many bytes.
const BYTES: u64 = 8 << 30;

/// Which measurement is under way, and what there was of late.
#[derive(Debug, Default)]
pub(super) struct Turns {
    current: Option<Current>,
    /// What of a [`WHILE`] was used, of 1: the greater part of its time and its bytes.
    used: f64,
    /// When that was so.
    at: Option<Instant>,
}

#[derive(Debug)]
struct Current {
    cluster: ClusterName,
    id: u64,
    began: Instant,
    streams: usize,
    moved: Arc<AtomicU64>,
}

/// What a stream of a measurement is held to.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    /// Its end.
    pub(super) ends: Instant,
    /// What its measurement has moved.
    pub(super) moved: Arc<AtomicU64>,
}

/// Why a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Busy {
    #[error("another measurement is under way here: it is over within {0} s")]
    Another(u64),
    #[error("a measurement has {MOST_STREAMS} streams at most")]
    Streams,
    #[error("a measurement takes {} s at most", LONGEST.as_secs())]
    Long,
    #[error("enough was measured here in the last {minutes} minutes: again in {0} s", minutes = WHILE.as_secs() / 60)]
    Enough(u64),
}

impl Turns {
    /// A stream of a peer's measurement: the first one begins it. Whoever comes in calls [`Self::leave`] in the end.
    ///
    /// # Errors
    /// It is not its turn, or it has all that it may have.
    pub(super) fn enter(&mut self, cluster: &ClusterName, id: u64, now: Instant) -> Result<Turn, Busy> {
        if let Some(current) = &mut self.current {
            let ends = current.began + LONGEST;
            if (&current.cluster, current.id) != (cluster, id) {
                return Err(Busy::Another(whole_seconds(ends.saturating_duration_since(now))));
            }
            if now >= ends {
                return Err(Busy::Long);
            }
            if current.streams >= MOST_STREAMS {
                return Err(Busy::Streams);
            }
            current.streams += 1;
            return Ok(Turn { ends, moved: current.moved.clone() });
        }
        let used = self.used(now);
        if used >= 1.0 {
            return Err(Busy::Enough(whole_seconds(WHILE.mul_f64(used - 1.0))));
        }
        let moved = Arc::<AtomicU64>::default();
        self.current = Some(Current { cluster: cluster.clone(), id, began: now, streams: 1, moved: moved.clone() });
        Ok(Turn { ends: now + LONGEST, moved })
    }

    /// A stream that came in has ended.
    pub(super) fn leave(&mut self, now: Instant) {
        let Some(current) = &mut self.current else { return };
        current.streams -= 1;
        if current.streams > 0 {
            return;
        }
        let time = now.saturating_duration_since(current.began).as_secs_f64() / TIME.as_secs_f64();
        let bytes = current.moved.load(Relaxed) as f64 / BYTES as f64;
        self.used = self.used(now) + time.max(bytes);
        self.at = Some(now);
        self.current = None;
    }

    /// What is used falls to nothing in a [`WHILE`].
    fn used(&self, now: Instant) -> f64 {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (self.used - since.as_secs_f64() / WHILE.as_secs_f64()).max(0.0)
    }
}

/// At least one: who comes back at once is refused.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    #[test]
    fn one_peer_measures_at_a_time_with_so_many_streams() {
        let (mut turns, west, north, now) = (Turns::default(), name("west"), name("north"), Instant::now());
        for _ in 0..MOST_STREAMS {
            assert_eq!(turns.enter(&west, 1, now).unwrap().ends, now + LONGEST);
        }
        assert_eq!(turns.enter(&west, 1, now).unwrap_err(), Busy::Streams);
        assert_eq!(turns.enter(&west, 2, now).unwrap_err(), Busy::Another(16), "another one of the same peer");
        assert_eq!(turns.enter(&north, 1, now).unwrap_err(), Busy::Another(16), "another peer, by the same number");
        turns.leave(now);
        turns.enter(&west, 1, now + Duration::from_secs(5)).unwrap();
        turns.leave(now);
        assert_eq!(turns.enter(&west, 1, now + LONGEST).unwrap_err(), Busy::Long, "it does not begin anew");
        for _ in 1..MOST_STREAMS {
            turns.leave(now);
        }
        turns.enter(&north, 1, now).unwrap();
    }

    #[test]
    fn bytes_count_as_time_does() {
        let (mut turns, west, now) = (Turns::default(), name("west"), Instant::now());
        for _ in 0..4 {
            turns.enter(&west, 1, now).unwrap().moved.store(MOST_BYTES, Relaxed);
            turns.leave(now);
        }
        assert_eq!(turns.enter(&west, 1, now).unwrap_err(), Busy::Enough(1));
        turns.enter(&west, 1, now + Duration::from_secs(1)).unwrap();
    }

    proptest! {
        /// However often a peer asks, it has a tenth of the time, the burst and one measurement more.
        #[test]
        fn the_part_of_the_time_is_bounded(asks in prop::collection::vec((0u64..30_000, 0u64..15_000), 1..200)) {
            let (mut turns, west, begin) = (Turns::default(), name("west"), Instant::now());
            let (mut now, mut measured) = (begin, Duration::ZERO);
            for (pause, takes) in asks {
                now += Duration::from_millis(pause);
                if turns.enter(&west, 1, now).is_ok() {
                    now += Duration::from_millis(takes);
                    measured += Duration::from_millis(takes);
                    turns.leave(now);
                }
            }
            prop_assert!(measured <= TIME + LONGEST + (now - begin) / 10);
        }
    }
}

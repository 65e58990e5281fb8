//! ● When to work after changes: soon after the last of a burst, and never put off for long.

use std::time::{Duration, Instant};

/// After a change the next is likely to follow at once: this long is waited for it.
const QUIET: Duration = Duration::from_millis(2);
/// Nothing waits longer than this, however many changes follow.
const LONGEST: Duration = Duration::from_millis(10);
/// Work takes no more than one part in so many of the time.
const SHARE: u32 = 4;
/// But is not put off for longer than this because it took long.
const PAUSE: Duration = Duration::from_secs(1);

/// Says when to work.
#[derive(Debug, Default)]
pub struct Debounce {
    /// The first and the last change that no work has seen.
    waiting: Option<(Instant, Instant)>,
    /// Not before then.
    rest: Option<Instant>,
}

impl Debounce {
    /// Something changed.
    pub fn changed(&mut self, now: Instant) {
        let first = self.waiting.map_or(now, |(first, _)| first);
        self.waiting = Some((first, now));
    }

    /// When to work; `None`: there is nothing to do.
    pub fn due(&self) -> Option<Instant> {
        let (first, last) = self.waiting?;
        let due = (last + QUIET).min(first + LONGEST);
        Some(self.rest.map_or(due, |rest| rest.max(due)))
    }

    /// Work was done that saw all changes before `began`.
    pub fn worked(&mut self, began: Instant, now: Instant) {
        self.waiting = None;
        let took = now.saturating_duration_since(began);
        self.rest = Some(now + (took * (SHARE - 1)).min(PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_single_change_waits_a_moment_and_a_burst_not_for_ever() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.due(), None);
        debounce.changed(start);
        assert_eq!(debounce.due(), Some(start + 2 * MS));
        for after in 1..=100 {
            debounce.changed(start + after * MS);
        }
        assert_eq!(debounce.due(), Some(start + 10 * MS));
        debounce.worked(start + 10 * MS, start + 11 * MS);
        assert_eq!(debounce.due(), None);
    }

    #[test]
    fn long_work_is_followed_by_a_rest_of_bounded_length() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        debounce.worked(start, start + 100 * MS);
        debounce.changed(start + 100 * MS);
        assert_eq!(debounce.due(), Some(start + 400 * MS));
        debounce.worked(start, start + 100_000 * MS);
        debounce.changed(start + 100_000 * MS);
        assert_eq!(debounce.due(), Some(start + 101_000 * MS));
    }

    proptest! {
        #[test]
        fn nothing_waits_longer_than_the_bound(gaps in prop::collection::vec(0u64..40, 1..50)) {
            let (mut now, mut debounce) = (Instant::now(), Debounce::default());
            let mut oldest = None;
            for gap in gaps {
                now += Duration::from_millis(gap);
                if let Some(due) = debounce.due().filter(|due| *due <= now) {
                    prop_assert!(due - oldest.take().unwrap() <= LONGEST);
                    debounce.worked(due, due);
                }
                oldest.get_or_insert(now);
                debounce.changed(now);
            }
            prop_assert!(debounce.due().is_some());
        }
    }
}

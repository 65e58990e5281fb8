//! ● Whether connections that are accepted at a listener may have joined the local hop: while its door is open, and after that until
//! those are accepted that had come before. Of all others the kernel is not asked.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Between a connection's making, where it takes over its listener's mark, and its place among those that wait to be accepted, the kernel
/// does nothing else. This is far longer.
const SLACK: Duration = Duration::from_secs(1);

/// One listener's.
#[derive(Debug, Default)]
pub(crate) struct Entrance(Cell<Door>);

#[derive(Debug, Clone, Copy, Default)]
enum Door {
    /// Nobody who waits has come through it.
    #[default]
    Shut,
    Open,
    /// Since then.
    Shutting(Instant),
}

impl Entrance {
    /// The door is about to be opened, if it is.
    pub(crate) fn open_if(&self, opens: bool) {
        if opens {
            self.0.set(Door::Open);
        }
    }

    /// It was shut just now.
    pub(crate) fn shut(&self, now: Instant) {
        if let Door::Open = self.0.get() {
            self.0.set(Door::Shutting(now));
        }
    }

    /// Nobody waits to be accepted.
    pub(crate) fn found_empty(&self, now: impl FnOnce() -> Instant) {
        if let Door::Shutting(since) = self.0.get()
            && now().saturating_duration_since(since) >= SLACK
        {
            self.0.set(Door::Shut);
        }
    }

    /// Whether who is accepted now may have come through it.
    pub(crate) fn may_have_been_used(&self) -> bool {
        !matches!(self.0.get(), Door::Shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_come_before_it_was_shut_is_asked_about() {
        let (entrance, now) = (Entrance::default(), Instant::now());
        assert!(!entrance.may_have_been_used());
        entrance.shut(now);
        assert!(!entrance.may_have_been_used(), "it was never open");
        entrance.open_if(true);
        entrance.found_empty(|| now + 10 * SLACK);
        assert!(entrance.may_have_been_used());
        entrance.shut(now);
        entrance.shut(now + SLACK / 2);
        entrance.found_empty(|| now + SLACK / 2);
        assert!(entrance.may_have_been_used(), "somebody may be under way into the queue");
        entrance.found_empty(|| now + SLACK);
        assert!(!entrance.may_have_been_used());
        entrance.open_if(true);
        assert!(entrance.may_have_been_used());
    }
}

//! ● What streams of one kind take: of a service, or of one of its peers or sources.

use super::bucket::{Bucket, Rate};
use isthmus_control_api::Limits;
use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};
use tokio::sync::Semaphore;

/// How much of a second's streams may come at once.
const OPENS: Duration = Duration::from_secs(1);
/// How much of a second's bytes may move at once.
const BYTES: Duration = Duration::from_millis(100);

/// Counters that all cores share. A core touches them when a stream begins, is taken, and ends; and for its bytes where those are
/// bounded.
#[derive(Debug)]
pub struct Usage {
    streams: AtomicU32,
    pending: AtomicU32,
    opens: Bucket,
    bytes: Bucket,
    /// Those that wait for bytes.
    line: Semaphore,
}

impl Default for Usage {
    fn default() -> Self {
        let (streams, pending) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { streams, pending, opens: Bucket::default(), bytes: Bucket::default(), line: Semaphore::new(1) }
    }
}

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Streams at once.
    Streams,
    /// Streams at once that nobody has taken yet.
    Pending,
    /// Streams a second.
    Opens,
}

impl Usage {
    /// One more stream, that is pending.
    ///
    /// # Errors
    /// The bound that does not let it in; nothing has changed then.
    pub fn enter(&self, limits: &Limits, now: u64) -> Result<(), Reached> {
        let below = |bound: Option<u32>, before: u32| bound.is_none_or(|bound| before < bound);
        if !below(limits.streams, self.streams.fetch_add(1, Relaxed)) {
            self.streams.fetch_sub(1, Relaxed);
            return Err(Reached::Streams);
        }
        let reached = if !below(limits.pending, self.pending.fetch_add(1, Relaxed)) {
            Reached::Pending
        } else if limits.opens_per_second.is_some_and(|opens| !self.opens.take(1, Rate::new(opens.into(), OPENS), now))
        {
            Reached::Opens
        } else {
            return Ok(());
        };
        self.taken();
        self.leave();
        Err(reached)
    }

    /// A stream that was pending is not any more: somebody has taken it, or it is about to leave.
    pub fn taken(&self) {
        self.pending.fetch_sub(1, Relaxed);
    }

    /// A stream has ended.
    pub fn leave(&self) {
        self.streams.fetch_sub(1, Relaxed);
    }

    /// Streams that have entered and not left.
    pub fn streams(&self) -> u32 {
        self.streams.load(Relaxed)
    }

    /// Of them, those that nobody has taken yet.
    pub fn pending(&self) -> u32 {
        self.pending.load(Relaxed)
    }

    /// Waits until it is the turn of so many bytes, which are a portion at most, and takes them. Those that wait have their turn in the
    /// order in which they came; who is dropped has left the line. `now` is asked for the time.
    pub async fn turn(&self, bytes: u64, rate: Rate, now: impl Fn() -> u64) {
        // Nobody closes it. Whoever is first in the line has it while he waits for the bytes to come.
        let _first = self.line.acquire().await;
        while let Err(wait) = self.bytes.take_or_wait(bytes, rate, now()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// So many bytes have moved, whether or not they might.
    pub fn moved(&self, bytes: u64, rate: Rate, now: u64) {
        self.bytes.charge(bytes, rate, now);
    }

    /// How long until the next may move.
    pub fn wait(&self, rate: Rate, now: u64) -> Option<Duration> {
        self.bytes.wait(rate, now)
    }

    /// Whether it is as if there had never been a stream: then it may be forgotten.
    pub fn is_idle(&self, now: u64) -> bool {
        self.streams() == 0 && self.opens.is_full(now) && self.bytes.is_full(now)
    }
}

/// The rate of bytes that `limits` allow, if they bound them.
pub fn rate(limits: &Limits) -> Option<Rate> {
    limits.bytes_per_second.map(|bytes| Rate::new(bytes, BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// By a naive model: the bounds hold after every step, and who is refused leaves no trace.
        #[test]
        fn bounds_hold_and_refusals_leave_no_trace(
            streams in prop::option::of(1_u32..8),
            pending in prop::option::of(1_u32..8),
            steps in prop::collection::vec(0_u8..3, 1..100),
        ) {
            let limits = Limits { streams, pending, ..Limits::default() };
            let usage = Usage::default();
            let (mut waiting, mut open) = (0, 0);
            for step in steps {
                match step {
                    0 => {
                        let expected = if streams.is_some_and(|most| waiting + open >= most) {
                            Err(Reached::Streams)
                        } else if pending.is_some_and(|most| waiting >= most) {
                            Err(Reached::Pending)
                        } else {
                            waiting += 1;
                            Ok(())
                        };
                        prop_assert_eq!(usage.enter(&limits, 0), expected);
                    }
                    1 if waiting > 0 => {
                        usage.taken();
                        (waiting, open) = (waiting - 1, open + 1);
                    }
                    2 if open > 0 => {
                        usage.leave();
                        open -= 1;
                    }
                    _ => {}
                }
                prop_assert_eq!(usage.streams(), waiting + open);
                prop_assert_eq!(usage.is_idle(0), waiting + open == 0);
            }
        }
    }

    #[test]
    fn so_many_a_second_and_no_more() {
        let (usage, limits) = (Usage::default(), Limits { opens_per_second: Some(5), ..Limits::default() });
        let enter = |now| usage.enter(&limits, now).inspect(|()| usage.taken()).inspect(|()| usage.leave());
        assert_eq!((0..9).filter(|_| enter(0).is_ok()).count(), 5);
        assert_eq!(enter(0), Err(Reached::Opens));
        assert!(!usage.is_idle(0), "it is not forgotten before it would be let in again");
        assert!(enter(200_000_000).is_ok() && usage.is_idle(2_000_000_000));
    }
}

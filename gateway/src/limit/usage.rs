//! ● What streams of one kind take: of a service, or of one of its peers or sources.

use super::bucket::{Bucket, PORTION, Rate};
use isthmus_control_api::Limits;
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
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
    /// What its bytes are held to, a second; 0: nothing.
    bytes_per_second: AtomicU64,
    /// Those that wait for bytes.
    line: Semaphore,
    /// When the last one had his turn.
    turned: AtomicU64,
    /// What datagrams have taken while others waited.
    datagrams: Bucket,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            streams: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            opens: Bucket::default(),
            bytes: Bucket::default(),
            bytes_per_second: AtomicU64::new(0),
            line: Semaphore::new(1),
            turned: AtomicU64::new(0),
            datagrams: Bucket::default(),
        }
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
    /// One more stream, that is pending. From now on the rate of `limits` is that of all bytes, those of earlier streams as well.
    ///
    /// # Errors
    /// The bound that does not let it in; nothing but the rate has changed then.
    pub fn enter(&self, limits: &Limits, now: u64) -> Result<(), Reached> {
        self.hold_to(limits);
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

    /// All bytes move at the rate of `limits` from now on.
    pub fn hold_to(&self, limits: &Limits) {
        let rate = limits.bytes_per_second.unwrap_or(0);
        // It hardly ever changes, and all cores read it.
        if self.bytes_per_second.load(Relaxed) != rate {
            self.bytes_per_second.store(rate, Relaxed);
        }
    }

    /// One that was let in by `limits` is not to be, as others do not let it in: it is as if it had not come.
    pub fn undo(&self, limits: &Limits) {
        if let Some(opens) = limits.opens_per_second {
            self.opens.give_back(1, Rate::new(opens.into(), OPENS));
        }
        self.taken();
        self.leave();
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

    /// What its bytes are held to, if they are.
    pub fn rate(&self) -> Option<Rate> {
        let rate = self.bytes_per_second.load(Relaxed);
        (rate > 0).then(|| Rate::new(rate, BYTES))
    }

    /// How many bytes take their turn together.
    pub fn portion(&self) -> usize {
        self.rate().map_or(PORTION as usize, Rate::portion)
    }

    /// Waits until it is the turn of so many bytes, and takes them. Those that wait have their turn in the order in which they came; who
    /// is dropped has left the line. `now` is asked for the time.
    pub async fn turn(&self, mut bytes: u64, now: impl Fn() -> u64) {
        // Nobody closes it. Whoever is first in the line has it while he waits for the bytes to come.
        let _first = self.line.acquire().await;
        // Another rate may be less than what it was when the bytes were read.
        while let Some(rate) = self.rate().filter(|_| bytes > 0) {
            let some = bytes.min(rate.portion() as u64);
            match self.bytes.take_or_wait(some, rate, now()) {
                Ok(()) => bytes -= some,
                Err(wait) => {
                    tokio::time::sleep(wait).await;
                    self.turned.store(now(), Relaxed);
                }
            }
        }
    }

    /// Whether a datagram may move, which does not wait. While others wait, datagrams have half of the rate.
    pub fn lets_datagrams_pass(&self, now: u64) -> bool {
        let Some(rate) = self.rate() else { return true };
        if self.somebody_waits(now) {
            self.datagrams.wait(rate.half(), now).is_none()
        } else {
            self.bytes.wait(rate, now).is_none()
        }
    }

    /// Datagrams of so many bytes have moved.
    pub fn datagrams_moved(&self, bytes: u64, now: u64) {
        let Some(rate) = self.rate() else { return };
        self.bytes.charge(bytes, rate, now);
        if self.somebody_waits(now) {
            self.datagrams.charge(bytes, rate.half(), now);
        }
    }

    /// Whether somebody waits for bytes, or did a moment ago: between two turns he reads, and passes on what he has read.
    fn somebody_waits(&self, now: u64) -> bool {
        let turned = self.turned.load(Relaxed);
        self.line.available_permits() == 0 || (turned > 0 && now.saturating_sub(turned) < BYTES.as_nanos() as u64)
    }

    /// Whether it is as if there had never been a stream: then it may be forgotten.
    pub fn is_idle(&self, now: u64) -> bool {
        self.streams() == 0 && self.opens.is_full(now) && self.bytes.is_full(now)
    }
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

    fn bytes(per_second: u64) -> Limits {
        Limits { bytes_per_second: Some(per_second), ..Limits::default() }
    }

    /// Turns of so many bytes, one after the other, for so many seconds; how many there were. Times count from `born`.
    async fn turns(usage: &Usage, born: tokio::time::Instant, portion: u64, seconds: u64) -> u64 {
        let (begun, mut count) = (born.elapsed(), 0);
        while born.elapsed() - begun < Duration::from_secs(seconds) {
            usage.turn(portion, || u64::try_from(born.elapsed().as_nanos()).unwrap()).await;
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_is_that_of_streams_that_were_there_before() {
        let (usage, born) = (Usage::default(), tokio::time::Instant::now());
        usage.enter(&bytes(1 << 30), 0).unwrap();
        let had = usage.portion() as u64;
        assert_eq!(had, PORTION);
        usage.enter(&bytes(10_000), 0).unwrap();
        // What was read before is more than the bucket holds now.
        let count = turns(&usage, born, had, 100).await;
        assert!((55..=65).contains(&count), "{count} of some 61");
        usage.enter(&bytes(10_000_000), 0).unwrap();
        let count = turns(&usage, born, 10_000, 1).await;
        assert!((1000..=1110).contains(&count), "{count} of some 1,100");
        usage.enter(&Limits::default(), 0).unwrap();
        assert!(usage.rate().is_none() && usage.lets_datagrams_pass(0));
        usage.turn(u64::MAX, || 0).await;
    }

    /// Datagrams do not wait, so that they would always be there before those who do.
    #[tokio::test(start_paused = true)]
    async fn datagrams_leave_half_to_those_that_wait() {
        let usage = Usage::default();
        usage.enter(&bytes(1_000_000), 0).unwrap();
        let begun = tokio::time::Instant::now();
        let now = || u64::try_from(begun.elapsed().as_nanos()).unwrap();
        let flood = async {
            let mut passed = 0_u64;
            loop {
                if usage.lets_datagrams_pass(now()) {
                    usage.datagrams_moved(1000, now());
                    passed += 1000;
                }
                if begun.elapsed() > Duration::from_secs(10) {
                    return passed;
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        };
        let waiting = async {
            let mut moved = 0_u64;
            while begun.elapsed() < Duration::from_secs(10) {
                usage.turn(10_000, now).await;
                moved += 10_000;
                // It reads, and passes on what it has read.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            moved
        };
        let (passed, moved) = tokio::join!(flood, waiting);
        for (what, bytes) in [("datagrams", passed), ("others", moved)] {
            assert!((4_000_000..=6_500_000).contains(&bytes), "{what}: {bytes} of 10,000,000");
        }
        // Alone they have all of it.
        assert!(usage.lets_datagrams_pass(now() + 1_000_000_000));
    }

    #[test]
    fn who_is_let_in_nowhere_else_has_taken_nothing() {
        let (usage, limits) = (Usage::default(), Limits { opens_per_second: Some(1), ..Limits::default() });
        for _ in 0..100 {
            usage.enter(&limits, 0).unwrap();
            usage.undo(&limits);
        }
        assert!(usage.is_idle(0) && usage.pending() == 0);
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

//! Requests at a fixed rate, a connection for each, whether the ones before were answered or not.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::http;

/// Requests a second.
pub const RATE: u32 = 200;
/// A request that is not answered after this has failed.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Enough that the rate is kept while every request fails at the end of its patience.
const WORKERS: u32 = RATE * PATIENCE.as_secs() as u32 + 8;
/// They do little, and there are many.
const STACK: usize = 128 * 1024;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When that was known.
    pub ended: Instant,
    /// Whether it was answered.
    pub is_answered: bool,
}

/// A running prober; ended when dropped.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    begun: Instant,
    next: AtomicU64,
    stop: AtomicBool,
    samples: Mutex<Vec<Sample>>,
}

impl Prober {
    /// Begins to ask `address`, in the calling thread's network.
    pub fn start(address: SocketAddr) -> Result<Self> {
        let shared = Arc::new(Shared {
            address,
            begun: Instant::now(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            samples: Mutex::new(Vec::new()),
        });
        let mut prober = Self { shared, workers: Vec::new() };
        for _ in 0..WORKERS {
            let shared = Arc::clone(&prober.shared);
            let worker = thread::Builder::new().stack_size(STACK).spawn(move || shared.work());
            prober.workers.push(worker.map_err(Error::io("starting a prober's thread"))?);
        }
        Ok(prober)
    }

    /// What has ended since the last call, in the order in which it ended.
    pub fn take(&self) -> Vec<Sample> {
        let mut samples = std::mem::take(&mut *self.shared.samples.lock().unwrap_or_else(PoisonError::into_inner));
        samples.sort_unstable_by_key(|sample| sample.ended);
        samples
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing more to say.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let due = self.begun + Duration::from_nanos(turn * 1_000_000_000 / u64::from(RATE));
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let is_answered = ask(self.address, Instant::now() + PATIENCE).is_ok();
            let sample = Sample { ended: Instant::now(), is_answered };
            self.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        }
    }
}

/// One request on a connection of its own; the first byte that arrives in time is an answer.
fn ask(address: SocketAddr, deadline: Instant) -> std::io::Result<()> {
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = http::connect_within(address, left())?;
    http::request(&mut stream, "/")?;
    stream.set_read_timeout(Some(left()))?;
    stream.read_exact(&mut [0])
}

/// The longest time between two answers of which the second came after `since`, as of `now`. What is before the first
/// of `samples`, and after the last, counts as well: whoever stays silent has a gap to the end.
pub fn longest_gap(samples: &[Sample], since: Instant, now: Instant) -> Duration {
    let mut last = since;
    let mut longest = Duration::ZERO;
    for sample in samples.iter().filter(|sample| sample.is_answered) {
        if sample.ended > since {
            longest = longest.max(sample.ended.saturating_duration_since(last));
        }
        last = sample.ended;
    }
    longest.max(now.saturating_duration_since(last.max(since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn samples(begun: Instant, answered: &[u32], failed: &[u32]) -> Vec<Sample> {
        let mut all: Vec<_> = answered.iter().map(|&at| Sample { ended: begun + at * MS, is_answered: true }).collect();
        all.extend(failed.iter().map(|&at| Sample { ended: begun + at * MS, is_answered: false }));
        all.sort_by_key(|sample| sample.ended);
        all
    }

    #[test]
    fn a_gap_is_between_answers_and_failures_do_not_end_it() {
        let begun = Instant::now();
        let found = samples(begun, &[5, 10, 500, 505], &[100, 300]);
        assert_eq!(longest_gap(&found, begun + 7 * MS, begun + 510 * MS), 490 * MS);
    }

    #[test]
    fn a_gap_that_began_before_the_fault_counts_whole_and_one_that_ended_before_does_not() {
        let begun = Instant::now();
        let found = samples(begun, &[1, 300, 400], &[]);
        assert_eq!(longest_gap(&found, begun + 350 * MS, begun + 401 * MS), 100 * MS);
    }

    #[test]
    fn silence_to_the_end_is_a_gap() {
        let begun = Instant::now();
        assert_eq!(longest_gap(&samples(begun, &[5], &[]), begun + 10 * MS, begun + 900 * MS), 890 * MS);
        assert_eq!(longest_gap(&[], begun, begun + 900 * MS), 900 * MS);
    }
}

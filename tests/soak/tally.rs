//! What clients have found.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Faults that are told one by one.
const TOLD: usize = 20;

/// Counts of everything, shared by all clients.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    kinds: BTreeMap<&'static str, Kind>,
    faults: Vec<String>,
    /// Faults in all.
    wrong: u64,
    /// Twice as often as endpoints were restarted, and odd while they are: what is open then may be cut.
    restarts: u64,
    /// When the last one began or ended.
    last_restart: Option<Instant>,
}

/// What streams of one kind came to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) streams: u64,
    pub(crate) bytes: u64,
    /// Reset because their endpoint was restarted.
    pub(crate) cut: u64,
    pub(crate) wrong: u64,
}

/// How a stream ended that was not as it should be.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It was reset: that may be right.
    Reset,
    /// Anything else never is.
    Wrong(String),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // The reset came before something was written.
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Wrong(error.to_string()),
        }
    }
}

impl Tally {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        // A client that panicked fails the run by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a restart of endpoints has begun or ended.
    pub(crate) fn restarts(&self) -> u64 {
        self.counts().restarts
    }

    /// A restart begins or has ended.
    pub(crate) fn restart(&self) {
        let mut counts = self.counts();
        counts.restarts += 1;
        counts.last_restart = Some(Instant::now());
    }

    /// A stream has ended, which began at `restarts`.
    pub(crate) fn add(&self, name: &'static str, restarts: u64, result: Result<u64, Fault>) {
        let mut counts = self.counts();
        let since = counts.last_restart.map_or(0, |restart| restart.elapsed().as_millis());
        let may_be_cut = counts.restarts != restarts || !restarts.is_multiple_of(2);
        let kind = counts.kinds.entry(name).or_default();
        kind.streams += 1;
        let what = match result {
            Ok(bytes) => {
                kind.bytes += bytes;
                return;
            }
            Err(Fault::Reset) if may_be_cut => {
                kind.cut += 1;
                return;
            }
            Err(Fault::Reset) => format!("it was reset, {since} ms after the last restart had ended"),
            Err(Fault::Wrong(what)) => what,
        };
        kind.wrong += 1;
        counts.wrong += 1;
        if counts.faults.len() < TOLD {
            counts.faults.push(format!("{name}: {what}"));
        }
    }

    /// By kind.
    pub(crate) fn kinds(&self) -> BTreeMap<&'static str, Kind> {
        self.counts().kinds.clone()
    }

    /// What was wrong.
    pub(crate) fn faults(&self) -> Vec<String> {
        let counts = self.counts();
        let mut faults = counts.faults.clone();
        let more = counts.wrong - faults.len() as u64;
        if more > 0 {
            faults.push(format!("… and {more} more"));
        }
        let moved: u64 = counts.kinds.values().map(|kind| kind.bytes).sum();
        if moved == 0 {
            faults.push("not a byte was moved".to_owned());
        }
        faults
    }
}

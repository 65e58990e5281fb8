//! ● What clients have found.

use crate::restarts::{Restarts, Served, Side, Visit};
use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{Mutex, MutexGuard, PoisonError},
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
    restarts: Restarts,
    /// Streams that have begun.
    begun: u64,
}

/// What streams of one kind came to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) streams: u64,
    pub(crate) bytes: u64,
    /// Reset because the endpoint that served them was restarted.
    pub(crate) cut: u64,
    /// Reset before any endpoint had answered, while one was restarted. Of [`Self::cut`].
    pub(crate) cut_early: u64,
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
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Wrong(error.to_string()),
        }
    }
}

impl Tally {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // A client that panicked fails the run by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often endpoints were stopped.
    pub(crate) fn restarts(&self) -> u64 {
        self.counts().restarts.count()
    }

    /// See [`Restarts::stop`].
    pub(crate) fn stop(&self, side: Side, host: usize) {
        self.counts().restarts.stop(side, host);
    }

    /// See [`Restarts::start`].
    pub(crate) fn start(&self, side: Side, host: usize) -> Served {
        self.counts().restarts.start(side, host)
    }

    /// A connection begins.
    pub(crate) fn visit(&self, side: Side) -> Visit {
        self.counts().restarts.visit(side)
    }

    /// A stream begins.
    pub(crate) fn begin(&self) {
        self.counts().begun += 1;
    }

    /// It has ended.
    pub(crate) fn end(&self, name: &'static str, visit: &Visit, result: Result<u64, Fault>) {
        let mut counts = self.counts();
        let may_be_cut = counts.restarts.excuse(visit);
        let kind = counts.kinds.entry(name).or_default();
        kind.streams += 1;
        let what = match result {
            Ok(bytes) => {
                kind.bytes += bytes;
                return;
            }
            Err(Fault::Reset) if may_be_cut => {
                kind.cut += 1;
                kind.cut_early += u64::from(visit.served.is_none());
                return;
            }
            Err(Fault::Reset) => match visit.served {
                Some(Served { side, host, .. }) => {
                    format!("it was reset, and endpoint {host} of {}, which served it, was not restarted", side.name())
                }
                None => format!(
                    "it was reset before any endpoint had answered, and none of {} was restarted",
                    visit.side.name()
                ),
            },
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

    /// What was wrong, once all clients have ended.
    pub(crate) fn faults(&self) -> Vec<String> {
        let counts = self.counts();
        let mut faults = counts.faults.clone();
        let more = counts.wrong - faults.len() as u64;
        if more > 0 {
            faults.push(format!("… and {more} more"));
        }
        let sum = |of: fn(&Kind) -> u64| counts.kinds.values().map(of).sum::<u64>();
        let lost = counts.begun - sum(|kind| kind.streams);
        if lost > 0 {
            faults.push(format!("{lost} of {} streams were lost: nobody knows how they ended", counts.begun));
        }
        if sum(|kind| kind.bytes) == 0 {
            faults.push("not a byte was moved".to_owned());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run comes to in which one stream went well, and another one as said.
    fn faults_of(end: impl FnOnce(&Tally, Visit)) -> Vec<String> {
        let tally = Tally::default();
        for _ in 0..2 {
            tally.begin();
        }
        tally.end("short", &tally.visit(Side::East), Ok(10));
        end(&tally, tally.visit(Side::East));
        tally.faults()
    }

    fn by(mut visit: Visit, host: usize) -> Visit {
        visit.served = Some(Served { side: Side::East, host, life: 0 });
        visit
    }

    #[test]
    fn streams_that_end_well_or_are_cut_by_a_restart_are_no_faults() {
        assert!(faults_of(|tally, visit| tally.end("chat", &visit, Ok(0))).is_empty());
        let cut = faults_of(|tally, visit| {
            tally.stop(Side::East, 1);
            tally.end("chat", &by(visit, 1), Err(Fault::Reset));
            assert_eq!((tally.kinds()["chat"].cut, tally.kinds()["chat"].cut_early), (1, 0));
        });
        assert!(cut.is_empty(), "{cut:?}");
    }

    #[test]
    fn a_run_fails_by_wrong_bytes_resets_without_reason_and_streams_that_are_lost() {
        let found = faults_of(|tally, visit| tally.end("chat", &visit, Err(Fault::Wrong("other bytes".into()))));
        assert_eq!(found, ["chat: other bytes"]);
        let found = faults_of(|tally, visit| {
            tally.stop(Side::East, 0);
            tally.end("chat", &by(visit, 1), Err(Fault::Reset));
        });
        assert!(found.len() == 1 && found[0].contains("endpoint 1 of east, which served it, was not"), "{found:?}");
        let found = faults_of(|tally, visit| tally.end("chat", &visit, Err(Fault::Reset)));
        assert!(found.len() == 1 && found[0].contains("before any endpoint had answered"), "{found:?}");
        assert_eq!(faults_of(|_, _| ()), ["1 of 2 streams were lost: nobody knows how they ended"]);
        assert_eq!(Tally::default().faults(), ["not a byte was moved"]);
    }

    #[test]
    fn many_faults_are_counted_and_a_few_told() {
        let tally = Tally::default();
        for _ in 0..TOLD + 5 {
            tally.begin();
            tally.end("short", &tally.visit(Side::West), Err(Fault::Wrong("x".into())));
        }
        let faults = tally.faults();
        assert_eq!(faults[TOLD..], ["… and 5 more", "not a byte was moved"]);
    }
}

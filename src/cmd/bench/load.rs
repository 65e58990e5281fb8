//! The load: rounds one after the other on so many connections, within its bounds.

use super::round::{Round, Took};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    task::{JoinSet, LocalSet},
    time::sleep_until,
};

/// What bounds it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) round: Round,
    /// At once.
    pub(super) connections: u16,
    /// No round begins later.
    pub(super) time: Duration,
    /// Rounds a second.
    pub(super) rate: u32,
    /// Of answers: no round begins beyond.
    pub(super) bytes: u64,
}

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Rounds that were answered.
    pub(super) rounds: u64,
    /// Those that were not, by what went wrong.
    pub(super) faults: BTreeMap<String, u64>,
    /// Bytes of answers.
    pub(super) bytes: u64,
    /// From the first beginning to the last end.
    pub(super) took: Duration,
    /// What each round took, in the order in which they ended.
    pub(super) all: Vec<Took>,
}

/// Different ways to fail that are told apart.
const FAULTS: usize = 8;

/// Puts the load on.
pub(super) async fn run(plan: &Plan) -> Measured {
    let (began, measured) = (Instant::now(), Rc::new(RefCell::new(Measured::default())));
    let next = Rc::new(RefCell::new(Pace::new(plan.rate, began)));
    let local = LocalSet::new();
    let mut workers = JoinSet::new();
    for _ in 0..plan.connections {
        let (plan, measured, next) = (plan.clone(), measured.clone(), next.clone());
        let worker = async move {
            loop {
                let turn = next.borrow_mut().take();
                if turn.duration_since(began) >= plan.time {
                    return;
                }
                sleep_until(turn.into()).await;
                if measured.borrow().bytes >= plan.bytes {
                    return;
                }
                let outcome = plan.round.go().await;
                measured.borrow_mut().note(outcome);
            }
        };
        workers.spawn_local_on(worker, &local);
    }
    local.run_until(async { while workers.join_next().await.is_some() {} }).await;
    let mut measured = measured.take();
    measured.took = began.elapsed();
    measured
}

impl Measured {
    fn note(&mut self, outcome: Result<Took, String>) {
        match outcome {
            Ok(took) => {
                self.rounds += 1;
                self.bytes += took.bytes;
                self.all.push(took);
            }
            Err(fault) => {
                let known = self.faults.len() < FAULTS || self.faults.contains_key(&fault);
                let fault = if known { fault } else { "something else".to_owned() };
                *self.faults.entry(fault).or_default() += 1;
            }
        }
    }

    /// Rounds that failed.
    pub(super) fn failed(&self) -> u64 {
        self.faults.values().sum()
    }
}

/// ● Turns at a rate. Nobody catches up on turns that nobody took.
struct Pace {
    apart: Duration,
    next: Instant,
}

impl Pace {
    fn new(rate: u32, now: Instant) -> Self {
        Self { apart: Duration::from_secs(1) / rate.max(1), next: now }
    }

    fn take(&mut self) -> Instant {
        self.take_at(Instant::now())
    }

    fn take_at(&mut self, now: Instant) -> Instant {
        let turn = self.next.max(now);
        self.next = turn + self.apart;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    proptest! {
        /// However late turns are asked for, there are no more than the rate allows.
        #[test]
        fn no_more_turns_than_the_rate(rate in 1u32..10_000, asked in prop::collection::vec(0u64..5_000, 1..300)) {
            let begin = Instant::now();
            let (mut pace, mut now, mut turns) = (Pace::new(rate, begin), begin, Vec::new());
            for micros in asked {
                now += Duration::from_micros(micros);
                turns.push(pace.take_at(now));
            }
            let span = (*turns.last().unwrap() - turns[0]).as_secs_f64();
            prop_assert!((turns.len() - 1) as f64 <= span * f64::from(rate) + 1.0);
            prop_assert!(turns.is_sorted());
        }
    }

    #[tokio::test]
    async fn bytes_and_rounds_are_bounded_and_faults_are_counted() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let round = Round { at: gone, http: None };
        let plan = Plan { round, connections: 2, time: Duration::from_millis(50), rate: 100, bytes: 1 };
        let measured = run(&plan).await;
        assert!(measured.rounds == 0 && (1..=6).contains(&measured.failed()), "{measured:?}");
        assert_eq!(measured.faults.len(), 1);
    }
}

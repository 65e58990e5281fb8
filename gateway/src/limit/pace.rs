//! Holds a stream's bytes to the rates that it shares with others.

use super::{Admission, bucket::Rate, usage::Usage};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::Sleep;

/// The longest that is waited before the rates are looked at again.
const LONGEST: Duration = Duration::from_millis(500);

/// The rates of one stream.
pub(crate) struct Pace {
    /// What the times of the rates count from.
    born: Instant,
    rates: Vec<(Arc<Usage>, Rate)>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Those of `admissions`; `None` if their bytes are not bounded.
    pub(crate) fn of<'a>(admissions: impl Iterator<Item = &'a Admission>, born: Instant) -> Option<Box<Self>> {
        let rates = admissions.flat_map(Admission::rates).map(|(usage, rate)| (usage.clone(), rate));
        let rates: Vec<_> = rates.collect();
        (!rates.is_empty()).then(|| Box::new(Self { born, rates, sleep: None }))
    }

    /// So many bytes have moved.
    pub(crate) fn moved(&self, bytes: u64) {
        let now = self.now();
        self.rates.iter().for_each(|(usage, rate)| usage.moved(bytes, *rate, now));
    }

    /// Waits until more may move.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            let now = self.now();
            let Some(wait) = self.rates.iter().filter_map(|(usage, rate)| usage.wait(*rate, now)).max() else {
                return Poll::Ready(());
            };
            self.sleep = Some(Box::pin(tokio::time::sleep(wait.min(LONGEST))));
        }
    }

    /// Whether more may move at once: for what is dropped rather than held up.
    pub(crate) fn has_room(&self) -> bool {
        let now = self.now();
        self.rates.iter().all(|(usage, rate)| usage.wait(*rate, now).is_none())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

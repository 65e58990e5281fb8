//! Holds a stream's bytes to the rates that it shares with others: bytes that are to move take their turn in the line of each.

use super::{Admission, bucket::Rate, usage::Usage};
use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::time::Sleep;

/// The rates of one stream.
pub(crate) struct Pace {
    /// What the times of the rates count from.
    born: Instant,
    /// The narrowest first, whichever side's policy they are of: who waits for his own takes no place in what he shares with others.
    rates: Vec<(Arc<Usage>, Rate)>,
}

/// Bytes that take their turn, in one line after the other. Dropped before it has come, it gives its place back.
pub(crate) struct Turn {
    pace: Rc<Pace>,
    bytes: u64,
    /// Lines that it has taken a place in.
    placed: usize,
    /// Until its place in the last of these is there.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Those of `admissions`; `None` if their bytes are not bounded.
    pub(crate) fn of<'a>(admissions: impl Iterator<Item = &'a Admission>, born: Instant) -> Option<Rc<Self>> {
        let mut rates: Vec<_> = admissions.flat_map(Admission::rates).collect();
        rates.sort_by_key(|&(width, ..)| width);
        let rates: Vec<_> = rates.into_iter().map(|(_, usage, rate)| (usage.clone(), rate)).collect();
        (!rates.is_empty()).then(|| Rc::new(Self { born, rates }))
    }

    /// How many bytes take their turn together: at least one.
    pub(crate) fn portion(&self) -> usize {
        self.rates.iter().map(|(_, rate)| rate.portion()).min().unwrap_or(1)
    }

    /// So many bytes are to take their turn.
    pub(crate) fn turn(self: &Rc<Self>, bytes: u64) -> Turn {
        Turn { pace: self.clone(), bytes, placed: 0, sleep: None }
    }

    /// So many bytes have moved without a turn: for what is dropped rather than held up.
    pub(super) fn moved(&self, bytes: u64) {
        let now = self.now();
        self.rates.iter().for_each(|(usage, rate)| usage.moved(bytes, *rate, now));
    }

    /// Whether more may move at once, for the same.
    pub(super) fn has_room(&self) -> bool {
        let now = self.now();
        self.rates.iter().all(|(usage, rate)| usage.wait(*rate, now).is_none())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Turn {
    /// Waits until it has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            let Some((usage, rate)) = self.pace.rates.get(self.placed) else { return Poll::Ready(()) };
            self.placed += 1;
            let wait = usage.reserve(self.bytes, *rate, self.pace.now());
            self.sleep = wait.map(|wait| Box::pin(tokio::time::sleep(wait)));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let waits_for = self.sleep.as_ref().filter(|sleep| !sleep.is_elapsed()).and(self.placed.checked_sub(1));
        if let Some((usage, rate)) = waits_for.and_then(|line| self.pace.rates.get(line)) {
            usage.give_back(self.bytes, *rate, self.pace.now());
        }
    }
}

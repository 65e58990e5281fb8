//! Holds a stream's bytes to the rates that it shares with others: bytes that are to move take their turn in the line of each.

use super::{Admission, bucket::Rate, usage::Usage};
use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::Sleep;

/// The rates of one stream.
pub(crate) struct Pace {
    /// What the times of the rates count from.
    born: Instant,
    /// The narrowest first.
    rates: Vec<(Arc<Usage>, Rate)>,
    /// Bytes that were counted and have not taken their turn.
    owed: Cell<u64>,
}

/// Bytes that take their turn: in one line after the other, so that who waits in a narrow one takes no place of others in a wide one.
pub(crate) struct Turn {
    bytes: u64,
    /// Lines that it has taken a place in.
    placed: usize,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// Those of `admissions`; `None` if their bytes are not bounded.
    pub(crate) fn of<'a>(admissions: impl Iterator<Item = &'a Admission>, born: Instant) -> Option<Rc<Self>> {
        let rates = admissions.flat_map(Admission::rates).map(|(usage, rate)| (usage.clone(), rate));
        let rates: Vec<_> = rates.collect();
        (!rates.is_empty()).then(|| Rc::new(Self { born, rates, owed: Cell::default() }))
    }

    /// So many bytes are counted.
    pub(super) fn owe(&self, bytes: u64) {
        self.owed.set(self.owed.get() + bytes);
    }

    /// How many bytes take their turn together: at least one.
    pub(crate) fn portion(&self) -> usize {
        self.rates.iter().map(|(_, rate)| rate.portion()).min().unwrap_or(1)
    }

    /// All bytes that were counted since the last turn, if there are any, take theirs.
    pub(crate) fn turn(&self) -> Option<Turn> {
        let bytes = self.owed.take();
        (bytes > 0).then_some(Turn { bytes, placed: 0, sleep: None })
    }

    /// Waits until it is their turn.
    pub(crate) fn poll_turn(&self, cx: &mut Context<'_>, turn: &mut Turn) -> Poll<()> {
        loop {
            if let Some(sleep) = &mut turn.sleep {
                ready!(sleep.as_mut().poll(cx));
                turn.sleep = None;
            }
            let Some((usage, rate)) = self.rates.get(turn.placed) else { return Poll::Ready(()) };
            turn.placed += 1;
            let wait: Option<Duration> = usage.reserve(turn.bytes, *rate, self.now());
            turn.sleep = wait.map(|wait| Box::pin(tokio::time::sleep(wait)));
        }
    }

    /// Whether more may move at once: for what is dropped rather than held up.
    pub(crate) fn has_room(&self) -> bool {
        let (now, moved) = (self.now(), self.owed.take());
        self.rates.iter().for_each(|(usage, rate)| usage.moved(moved, *rate, now));
        self.rates.iter().all(|(usage, rate)| usage.wait(*rate, now).is_none())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

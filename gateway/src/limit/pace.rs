//! Holds a stream's bytes to the rates that it shares with others: bytes that are to move take their turn in the line of each.

use super::{Admission, bucket::PORTION, usage::Usage};
use std::{pin::Pin, rc::Rc, sync::Arc, time::Instant};

/// The rates of one stream.
pub(crate) struct Pace {
    /// What the times of the rates count from.
    born: Instant,
    /// The narrowest first, whichever side's policy they are of: who waits for his own takes no place in what he shares with others.
    rates: Vec<Arc<Usage>>,
}

/// Bytes that take their turn, in one line after the other. Dropped, it has left the line.
pub(crate) type Turn = Pin<Box<dyn Future<Output = ()>>>;

impl Pace {
    /// Those of `admissions`; `None` if their bytes are not bounded.
    pub(crate) fn of<'a>(admissions: impl Iterator<Item = &'a Admission>, born: Instant) -> Option<Rc<Self>> {
        let mut rates: Vec<_> = admissions.flat_map(Admission::rates).collect();
        rates.sort_by_key(|&(width, _)| width);
        let rates: Vec<_> = rates.into_iter().map(|(_, usage)| usage.clone()).collect();
        (!rates.is_empty()).then(|| Rc::new(Self { born, rates }))
    }

    /// How many bytes take their turn together: at least one.
    pub(crate) fn portion(&self) -> usize {
        self.rates.iter().map(|usage| usage.portion()).min().unwrap_or(PORTION as usize)
    }

    /// So many bytes are to take their turn.
    pub(crate) fn turn(self: &Rc<Self>, bytes: u64) -> Turn {
        let pace = self.clone();
        Box::pin(async move {
            for usage in &pace.rates {
                usage.turn(bytes, || pace.now()).await;
            }
        })
    }

    /// Datagrams of so many bytes have moved.
    pub(super) fn datagrams_moved(&self, bytes: u64) {
        let now = self.now();
        self.rates.iter().for_each(|usage| usage.datagrams_moved(bytes, now));
    }

    /// Whether a datagram may move: it does not wait.
    pub(super) fn lets_datagrams_pass(&self) -> bool {
        let now = self.now();
        self.rates.iter().all(|usage| usage.lets_datagrams_pass(now))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

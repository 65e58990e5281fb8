//! ● Datagrams that wait for their turn: few, and not for long.
//!
//! Who sends faster than the other side takes loses datagrams, as on a wire: the newest where there is no room, and those that have
//! waited so long that whoever wants them has asked again.

use bytes::Bytes;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Bytes that wait, at most; a datagram that finds nobody before it always may.
pub(crate) const ROOM: usize = 256 * 1024;
/// What a datagram takes besides its bytes, so that empty ones have a bound, too.
const OVERHEAD: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    dropped: u64,
    patience: Option<Duration>,
}

impl Queue {
    /// How long a datagram may wait from now on; `None`: for ever.
    pub(crate) fn set_patience(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    /// Adds a datagram, or drops it where there is no room.
    pub(crate) fn push(&mut self, datagram: Bytes, now: Instant) {
        let takes = OVERHEAD + datagram.len();
        if !self.waiting.is_empty() && self.bytes + takes > ROOM {
            self.dropped += 1;
            return;
        }
        self.bytes += takes;
        self.waiting.push_back((now, datagram));
    }

    /// Puts a datagram back that was taken, before all others.
    pub(crate) fn put_back(&mut self, datagram: Bytes, now: Instant) {
        self.bytes += OVERHEAD + datagram.len();
        self.waiting.push_front((now, datagram));
    }

    /// The oldest that has not waited too long.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Bytes> {
        while let Some((since, datagram)) = self.waiting.pop_front() {
            self.bytes -= OVERHEAD + datagram.len();
            let stale = self.patience.is_some_and(|most| now.saturating_duration_since(since) > most);
            if !stale {
                return Some(datagram);
            }
            self.dropped += 1;
        }
        None
    }

    /// Takes the oldest if its length is at most `room`.
    pub(crate) fn pop_within(&mut self, room: usize, now: Instant) -> Option<Bytes> {
        let (_, first) = self.waiting.front()?;
        if first.len() > room {
            return None;
        }
        self.pop(now)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many were dropped since this was last asked.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    proptest! {
        #[test]
        fn what_went_in_comes_out_in_order_or_is_counted(steps in vec((any::<bool>(), 0usize..40_000), 0..200)) {
            let (mut queue, now) = (Queue::default(), Instant::now());
            let (mut pushed, mut popped, mut dropped) = (0u32, Vec::new(), 0);
            for (push, size) in steps {
                if push {
                    let mut datagram = vec![0; size.max(4)];
                    datagram[..4].copy_from_slice(&pushed.to_be_bytes());
                    queue.push(datagram.into(), now);
                    pushed += 1;
                } else {
                    popped.extend(queue.pop(now));
                }
                prop_assert!(queue.bytes <= ROOM);
                dropped += queue.take_dropped();
            }
            popped.extend(std::iter::from_fn(|| queue.pop(now)));
            prop_assert!(popped.is_sorted_by(|one, other| one[..4] < other[..4]));
            prop_assert_eq!(popped.len() as u64 + dropped, u64::from(pushed));
            prop_assert_eq!(queue.bytes, 0);
        }
    }

    #[test]
    fn the_largest_datagram_is_taken_where_nobody_waits_and_empty_ones_have_a_bound() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.push(vec![0; ROOM].into(), now);
        queue.push(Bytes::new(), now);
        assert_eq!((queue.len(), queue.take_dropped()), (1, 1));
        let mut queue = Queue::default();
        (0..ROOM).for_each(|_| queue.push(Bytes::new(), now));
        assert_eq!(queue.len(), ROOM / OVERHEAD);
    }

    #[test]
    fn who_has_waited_too_long_is_dropped_once_there_is_a_limit() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut queue = Queue::default();
        [now, now, later].into_iter().for_each(|at| queue.push(Bytes::from_static(b"x"), at));
        assert!(queue.pop(later).is_some());
        queue.set_patience(Some(Duration::from_millis(500)));
        assert!(queue.pop(later).is_some());
        assert_eq!((queue.len(), queue.take_dropped()), (0, 1));
    }
}

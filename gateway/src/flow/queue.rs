//! ● Datagrams that wait for their turn: few, and not for long.
//!
//! Who sends faster than the other side takes loses datagrams, as on a wire: the newest where there is no room, and those that have
//! waited so long that whoever wants them has asked again. Many queues have a bound together, too.

use bytes::Bytes;
use std::{
    cell::Cell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

/// Bytes that wait, at most; a datagram that finds nobody before it always may.
pub(crate) const ROOM: usize = 256 * 1024;
/// How long a datagram may wait for an open flow's tunnel. Who wants it has mostly asked again by then.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);
/// What a datagram takes besides its bytes, so that empty ones have a bound, too.
const OVERHEAD: usize = 64;

/// What several queues hold together.
#[derive(Debug)]
pub(crate) struct Together {
    bytes: Cell<usize>,
    most: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: VecDeque<(Instant, Bytes)>,
    together: Rc<Together>,
    bytes: usize,
    dropped: u64,
    patience: Option<Duration>,
}

impl Together {
    /// Queues that may hold `most` bytes together.
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self { bytes: Cell::new(0), most })
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.get() + bytes <= self.most
    }
}

impl Queue {
    /// An empty one of those in `together`.
    pub(crate) fn new(together: &Rc<Together>) -> Self {
        let (waiting, together) = (VecDeque::new(), together.clone());
        Self { waiting, together, bytes: 0, dropped: 0, patience: None }
    }

    /// How long a datagram may wait from now on; `None`: for ever.
    pub(crate) fn set_patience(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    /// Adds a datagram, or drops it where there is no room.
    pub(crate) fn push(&mut self, datagram: Bytes, now: Instant) {
        let takes = OVERHEAD + datagram.len();
        let fits = self.waiting.is_empty() || self.bytes + takes <= ROOM;
        if !fits || !self.together.has_room(takes) {
            self.dropped += 1;
            return;
        }
        self.grow(takes);
        self.waiting.push_back((now, datagram));
    }

    /// Puts a datagram back that was taken, before all others.
    pub(crate) fn put_back(&mut self, datagram: Bytes, now: Instant) {
        self.grow(OVERHEAD + datagram.len());
        self.waiting.push_front((now, datagram));
    }

    /// The oldest that has not waited too long.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Bytes> {
        while let Some((since, datagram)) = self.waiting.pop_front() {
            self.shrink(OVERHEAD + datagram.len());
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

    /// Lets go of all that wait; how many.
    pub(crate) fn clear(&mut self) -> usize {
        self.shrink(self.bytes);
        std::mem::take(&mut self.waiting).len()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many were dropped since this was last asked.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn grow(&mut self, by: usize) {
        self.bytes += by;
        self.together.bytes.set(self.together.bytes.get() + by);
    }

    fn shrink(&mut self, by: usize) {
        self.bytes -= by;
        self.together.bytes.set(self.together.bytes.get() - by);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn empty() -> Queue {
        Queue::new(&Together::new(usize::MAX))
    }

    #[test]
    fn many_queues_have_a_bound_together() {
        let (together, now) = (Together::new(10_000), Instant::now());
        let mut queues: Vec<_> = (0..20).map(|_| Queue::new(&together)).collect();
        queues.iter_mut().for_each(|queue| queue.push(vec![0; 1000].into(), now));
        assert_eq!(queues.iter().map(Queue::len).sum::<usize>(), 9);
        queues.drain(..5);
        queues.iter_mut().for_each(|queue| queue.push(vec![0; 1000].into(), now));
        assert_eq!(queues.iter().map(Queue::len).sum::<usize>(), 9, "what was dropped has made room");
        drop(queues);
        assert_eq!(together.bytes.get(), 0);
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_in_order_or_is_counted(steps in vec((any::<bool>(), 0usize..40_000), 0..200)) {
            let (mut queue, now) = (empty(), Instant::now());
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
            prop_assert_eq!((queue.bytes, queue.together.bytes.get()), (0, 0));
        }
    }

    #[test]
    fn the_largest_datagram_is_taken_where_nobody_waits_and_empty_ones_have_a_bound() {
        let now = Instant::now();
        let mut queue = empty();
        queue.push(vec![0; ROOM].into(), now);
        queue.push(Bytes::new(), now);
        assert_eq!((queue.len(), queue.take_dropped()), (1, 1));
        let mut queue = empty();
        (0..ROOM).for_each(|_| queue.push(Bytes::new(), now));
        assert_eq!(queue.len(), ROOM / OVERHEAD);
    }

    #[test]
    fn who_has_waited_too_long_is_dropped_once_there_is_a_limit() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut queue = empty();
        [now, now, later].into_iter().for_each(|at| queue.push(Bytes::from_static(b"x"), at));
        assert!(queue.pop(later).is_some());
        queue.set_patience(Some(Duration::from_millis(500)));
        assert!(queue.pop(later).is_some());
        assert_eq!((queue.len(), queue.take_dropped()), (0, 1));
    }
}

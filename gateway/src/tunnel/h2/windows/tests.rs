use super::*;
use proptest::prelude::*;
use std::{cell::Cell, rc::Rc};

const FIRST: usize = 64 * 1024;

fn windows(budget: usize) -> (Windows, Arc<Budget>) {
    let budget = Arc::new(Budget::new(budget));
    (Windows::new(FIRST, budget.clone()), budget)
}

/// The other side of the connection: what it may send, by what it has acknowledged.
#[derive(Default)]
struct Peer {
    told: std::collections::VecDeque<usize>,
    window: usize,
}

impl Peer {
    /// Hears what there is to be told, if it has acknowledged what it was told before, as the `h2` crate has it.
    fn hear(&mut self, windows: &mut Windows) {
        if let Some(size) = windows.news().filter(|_| self.told.is_empty()) {
            windows.told();
            self.told.push_back(size);
        }
    }

    fn acknowledge(&mut self) {
        self.window = self.told.pop_front().unwrap_or(self.window);
    }
}

proptest! {
    /// Whatever happens, the budget has what the peer may send on all streams together, or has sent, and all of it comes back.
    #[test]
    fn the_budget_has_what_the_peer_may_send(limit in 0usize..8 << 20, steps in prop::collection::vec((0u8..7, any::<prop::sample::Index>()), 1..400)) {
        let (mut windows, budget) = windows(limit);
        let mut peer = Peer { window: FIRST, ..Peer::default() };
        // Each stream, and what lies here of it.
        let mut streams: Vec<(u64, Rc<Cell<usize>>)> = vec![];
        for (step, which) in steps {
            let at = which.index(streams.len().max(1));
            match step {
                0 | 1 => streams.extend(windows.add(step == 0).map(|stream| {
                    let here = Rc::new(Cell::new(0));
                    let seen = here.clone();
                    windows.observe(stream, move || seen.get());
                    (stream, here)
                })),
                2 if at < streams.len() => windows.remove(streams.swap_remove(at).0),
                3 if at < streams.len() => streams[at].1.set(streams[at].1.get().max(peer.window)),
                4 if at < streams.len() => {
                    streams[at].1.set(0);
                    windows.settle(streams[at].0);
                }
                5 => windows.held_back(windows.size()),
                _ => peer.acknowledge(),
            }
            peer.hear(&mut windows);
            let theirs: usize = streams.iter().map(|(_, here)| peer.window.max(here.get())).sum();
            prop_assert!(budget.granted() >= theirs, "{} < {theirs}", budget.granted());
            prop_assert!(budget.granted() <= limit);
            prop_assert!((MIN..=MAX).contains(&windows.size()));
        }
        drop(windows);
        prop_assert_eq!(budget.granted(), 0);
    }
}

#[test]
fn windows_grow_with_what_the_path_holds_and_the_peer_is_told() {
    let (mut windows, budget) = windows(1 << 30);
    assert!(windows.add(true).is_some());
    assert_eq!(windows.news(), None);
    for _ in 0..20 {
        windows.held_back(windows.size());
        windows.told();
    }
    assert_eq!((windows.size(), budget.granted()), (MAX, MAX));
    assert_eq!(windows.news(), None);
}

#[test]
fn several_streams_that_are_held_back_by_the_same_window_double_it_once() {
    let (mut windows, _budget) = windows(1 << 30);
    assert!(windows.add(true).is_some() && windows.add(true).is_some());
    windows.held_back(FIRST);
    windows.told();
    windows.held_back(FIRST);
    assert_eq!(windows.size(), 2 * FIRST);
}

#[test]
fn a_smaller_window_gives_nothing_back_before_it_is_acknowledged_and_what_lies_here_has_gone() {
    let (mut windows, budget) = windows(4 * FIRST);
    let streams: Vec<u64> = std::iter::from_fn(|| windows.add(true)).collect();
    assert_eq!((streams.len(), budget.granted()), (3, 3 * FIRST));
    let here = Rc::new(Cell::new(FIRST / 2 + 1));
    let seen = here.clone();
    windows.observe(streams[0], move || seen.get());
    windows.observe(streams[1], || 0);
    assert_eq!(windows.news(), Some(FIRST / 2));
    windows.told();
    assert_eq!(budget.granted(), 3 * FIRST, "it is not acknowledged yet");
    assert_eq!(windows.news(), Some(FIRST / 2), "the next one can be told only when it is");
    windows.told();
    assert_eq!(budget.granted(), 3 * FIRST - FIRST / 2, "of the first too much lies here, of the third nobody knows");
    here.set(FIRST / 2);
    windows.settle(streams[0]);
    assert_eq!(budget.granted(), 2 * FIRST);
    assert!(windows.add(true).is_some());
}

#[test]
fn who_has_no_room_waits_for_smaller_windows_and_for_nothing_else() {
    let (mut windows, budget) = windows(8 * FIRST);
    let one = windows.add(false).unwrap();
    windows.held_back(FIRST);
    windows.told();
    windows.held_back(2 * FIRST);
    windows.told();
    windows.observe(one, || 0);
    assert_eq!((windows.size(), budget.granted()), (4 * FIRST, 4 * FIRST));
    assert!(windows.add(false).is_some() && windows.add(false).is_none());
    let cx = Context::from_waker(Waker::noop());
    let mut polls = 0;
    while windows.poll_room(false, &cx).is_pending() {
        assert!(windows.news().is_some(), "somebody has to be told");
        windows.told();
        polls += 1;
        assert!(polls < 10);
    }
    assert!(windows.add(false).is_some());
    // Once windows are as small as they may be, nobody waits.
    let full = (0..1000).any(|_| match windows.poll_room(true, &cx) {
        Poll::Pending => {
            windows.told();
            false
        }
        Poll::Ready(true) => windows.add(true).is_none(),
        Poll::Ready(false) => true,
    });
    assert!(full && windows.size() == MIN && windows.add(true).is_none());
}

#[test]
fn the_streams_together_stay_within_the_connections_window() {
    let (mut windows, _budget) = windows(usize::MAX);
    let streams = (0..40_000).filter_map(|_| windows.add(true)).count();
    assert_eq!(streams, CONNECTION_WINDOW as usize / FIRST);
    windows.held_back(windows.size());
    assert!(windows.size() * streams <= CONNECTION_WINDOW as usize);
}

#[test]
fn a_window_holds_a_stream_back_if_half_of_it_goes_within_a_few_round_trips() {
    let (start, rtt) = (Instant::now(), Duration::from_millis(50));
    let at = |millis| move || start + Duration::from_millis(millis);
    let mut pace = Pace::default();
    assert!(!pace.moved(FIRST / 2, FIRST, rtt, at(0)), "the first half tells nothing");
    assert!(!pace.moved(FIRST / 4, FIRST, rtt, at(10)));
    assert!(pace.moved(FIRST / 4, FIRST, rtt, at(199)));
    assert!(!pace.moved(FIRST / 2, FIRST, rtt, at(399)), "slowly");
}

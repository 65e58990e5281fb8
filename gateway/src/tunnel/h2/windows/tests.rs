use super::*;
use proptest::prelude::*;

const FIRST: usize = 64 * 1024;

fn windows(budget: usize) -> (Windows, Arc<Budget>) {
    let budget = Arc::new(Budget::new(budget));
    (Windows::new(FIRST, budget.clone()), budget)
}

proptest! {
    /// Whatever happens, the budget counts exactly what the streams may have, and all of it comes back.
    #[test]
    fn the_budget_counts_every_window(limit in 0usize..8 << 20, steps in prop::collection::vec(0u8..4, 1..300)) {
        let (mut windows, budget) = windows(limit);
        for step in steps {
            match step {
                0 | 1 => {
                    let before = windows.streams;
                    prop_assert_eq!(windows.add(step == 0), windows.streams > before);
                }
                2 if windows.streams > 0 => windows.remove(),
                2 => {}
                _ => windows.held_back(windows.size()),
            }
            prop_assert_eq!(budget.granted(), windows.size() * windows.streams);
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
    assert!(windows.add(true));
    assert!(!windows.is_news());
    for _ in 0..20 {
        windows.held_back(windows.size());
    }
    assert_eq!((windows.size(), budget.granted()), (MAX, MAX));
    assert!(windows.is_news());
    windows.told();
    assert!(!windows.is_news());
}

#[test]
fn several_streams_that_are_held_back_by_the_same_window_double_it_once() {
    let (mut windows, _budget) = windows(1 << 30);
    assert!(windows.add(true) && windows.add(true));
    windows.held_back(FIRST);
    windows.held_back(FIRST);
    assert_eq!(windows.size(), 2 * FIRST);
}

#[test]
fn many_streams_share_what_one_had() {
    let (mut windows, budget) = windows(64 << 20);
    assert!(windows.add(true));
    for _ in 0..20 {
        windows.held_back(windows.size());
    }
    let alone = windows.size();
    let streams = 1 + (0..).take_while(|_| windows.add(true)).count();
    assert!(alone > FIRST && windows.size() == MIN, "{alone}, {}", windows.size());
    // Three quarters are a peer's, and are used to the last window.
    assert_eq!(streams, (48 << 20) / MIN);
    assert!(windows.add(false), "our own streams have a quarter more");
    drop(windows);
    assert_eq!(budget.granted(), 0);
}

#[test]
fn the_streams_together_stay_within_the_connections_window() {
    let (mut windows, _budget) = windows(usize::MAX);
    for _ in 0..40_000 {
        assert!(windows.add(true));
    }
    windows.held_back(windows.size());
    assert!(windows.size() * windows.streams <= CONNECTION_WINDOW as usize);
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

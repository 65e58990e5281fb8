use super::*;
use proptest::prelude::*;

const SHORT: Duration = Duration::from_micros(1);

fn at(start: Instant, micros: u64) -> Instant {
    start + Duration::from_micros(micros)
}

/// Learns from works `gap` µs apart; when the last of them was.
fn learn(patience: &mut Patience, start: Instant, works: u64, gap: u64) -> Instant {
    for work in 0..works {
        patience.worked(at(start, work * gap));
        patience.until = None;
    }
    at(start, (works - 1) * gap)
}

#[test]
fn it_polls_once_work_has_followed_work_closely_and_stops_once_it_does_not() {
    let mut patience = Patience::default();
    let start = Instant::now();
    let now = learn(&mut patience, start, 8, 100);
    assert!(patience.worked(at(now, 100)));
    patience.until = None;
    let now = learn(&mut patience, at(now, 10_000), 4, 10_000);
    assert!(!patience.worked(at(now, 100)));
}

#[test]
fn a_poll_ends_at_its_limit_and_later_where_work_came() {
    let mut patience = Patience { trust: TRUST, ..Patience::default() };
    let start = learn(&mut patience, Instant::now(), 1, 0);
    assert!(patience.worked(at(start, 10)));
    assert!(patience.asks_again(at(start, 159), SHORT));
    assert!(!patience.worked(at(start, 159)), "it polls already");
    assert!(patience.asks_again(at(start, 308), SHORT));
    assert!(!patience.asks_again(at(start, 309), SHORT));
    assert!(!patience.asks_again(at(start, 309), SHORT), "it has ended");
}

#[test]
fn a_cpu_that_others_want_is_left_to_them() {
    let mut patience = Patience { trust: TRUST, ..Patience::default() };
    assert!(patience.worked(Instant::now()));
    assert!(!patience.asks_again(Instant::now(), CONTENDED + SHORT));
}

#[test]
fn pieces_of_the_same_work_teach_nothing() {
    let mut patience = Patience::default();
    let now = learn(&mut patience, Instant::now(), 1000, 2);
    assert!(!patience.worked(at(now, 1)));
}

#[test]
fn a_poll_is_not_prolonged_once_streams_take_turns() {
    let mut patience = Patience { trust: TRUST, ..Patience::default() };
    let start = Instant::now();
    assert!(patience.worked(start));
    for work in 2..15 {
        patience.moved(usize::from(work % 2 == 0));
        patience.worked(at(start, work * 10));
    }
    assert!(!patience.asks_again(at(start, 200), SHORT));
}

proptest! {
    /// Work that never follows within the limit begins no poll, whatever came before, but for the few that unlearn it.
    #[test]
    fn slow_work_is_not_polled_for(trust in 0..=TRUST, gaps in prop::collection::vec(151_u64..10_000, 1..200)) {
        let mut patience = Patience { trust, ..Patience::default() };
        let mut now = Instant::now();
        let polls = gaps.iter().filter(|&&gap| {
            now += Duration::from_micros(gap);
            let begins = patience.worked(now);
            patience.until = None;
            begins
        });
        prop_assert!(polls.count() <= usize::from(TRUST / 4));
    }
}

#[tokio::test]
async fn a_core_polls_after_work_and_only_then() {
    let metrics = crate::metrics::Metrics::new(1);
    let counters = metrics.core(0).clone();
    let test = async {
        tokio::task::yield_now().await;
        assert_eq!(counters.busy_polls.get(), 0);
        CORE.with_borrow_mut(|core| core.patience.trust = TRUST);
        worked(Instant::now());
        while CORE.with_borrow(|core| core.idle.is_none()) {
            tokio::task::yield_now().await;
        }
        assert_eq!(counters.busy_polls.get(), 1);
    };
    tokio::select! {
        () = run(counters.clone()) => unreachable!("it runs for ever"),
        () = test => {}
    }
}

#[test]
fn streams_that_take_turns_are_left_to_gather() {
    let mut patience = Patience::default();
    let start = Instant::now();
    for work in 0..100 {
        patience.moved(usize::from(work % 2 == 0));
        assert!(!patience.worked(at(start, work * 50)));
    }
}

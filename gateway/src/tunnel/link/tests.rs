use super::*;
use proptest::prelude::*;

fn at_most(backoff: &mut Backoff) -> u128 {
    backoff.delay(u64::MAX).as_millis()
}

#[test]
fn waits_double_up_to_the_cap() {
    let mut backoff = Backoff::default();
    let ceilings: Vec<_> = (0..10).map(|_| at_most(&mut backoff)).collect();
    assert_eq!(ceilings, [99, 199, 399, 799, 1599, 3199, 6399, 12799, 14999, 14999]);
}

#[test]
fn a_good_life_is_followed_by_a_short_wait_and_a_bad_one_by_a_longer() {
    let mut now = Instant::now();
    let mut link = Link::new(now);
    for _ in 0..9 {
        link.dialling(now);
        link.down(now, "refused", u64::MAX);
    }
    link.dialling(now);
    link.up(now);
    now += Duration::from_secs(1);
    link.down(now, "lost", u64::MAX);
    assert!(link.dial_at().unwrap() - now > Duration::from_secs(14), "one second of life is no proof");
    link.dialling(now);
    link.up(now);
    now += GOOD_LIFE / 2;
    link.unresponsive(now);
    link.responsive(now);
    now += GOOD_LIFE / 2;
    link.down(now, "lost", u64::MAX);
    assert!(link.dial_at().unwrap() - now < Duration::from_millis(100));
}

#[test]
fn the_reason_stays_visible_while_dialling_and_goes_when_up() {
    let now = Instant::now();
    let mut link = Link::new(now);
    assert_eq!((link.dial_at(), link.state().last_error()), (Some(now), None));
    link.dialling(now);
    link.down(now, "certificate expired", 0);
    link.dialling(now);
    assert_eq!((link.state().as_str(), link.state().last_error()), ("dialling", Some("certificate expired")));
    link.up(now);
    assert_eq!((link.state().as_str(), link.state().last_error()), ("up", None));
}

#[test]
fn a_change_of_the_address_ends_the_wait() {
    let now = Instant::now();
    let mut link = Link::new(now);
    (0..9).for_each(|_| link.down(now, "refused", u64::MAX));
    link.hurry(now);
    assert_eq!(link.dial_at(), Some(now));
}

#[test]
fn a_link_is_as_good_as_its_best_tunnel() {
    let since = Instant::now();
    let down = LinkState::Down { since, last_error: None };
    let (up, unresponsive) = (LinkState::Up { since }, LinkState::Unresponsive { since });
    let dialling = LinkState::Dialling { since, last_error: None };
    assert_eq!(LinkState::best([&down, &dialling, &up, &unresponsive]), Some(&up));
    assert_eq!(LinkState::best([&down, &dialling, &unresponsive]), Some(&unresponsive));
    assert_eq!(LinkState::best([&down, &dialling]), Some(&dialling));
    assert_eq!(LinkState::best([]), None);
}

proptest! {
    #[test]
    fn every_wait_is_within_its_bounds(randoms: [u64; 20]) {
        let (mut backoff, mut most) = (Backoff::default(), Backoff::default());
        for random in randoms {
            let (wait, ceiling) = (backoff.delay(random), most.delay(u64::MAX));
            prop_assert!(MIN_DELAY <= wait && wait <= ceiling && ceiling <= MAX_DELAY);
        }
    }

    /// Events in any order, even impossible ones, leave a link that either is up or says when it will be dialled.
    #[test]
    fn a_link_never_gets_stuck(events in proptest::collection::vec((0_u8..6, 0_u64..20_000, any::<u64>()), 0..100)) {
        let mut now = Instant::now();
        let mut link = Link::new(now);
        for (event, wait, random) in events {
            now += Duration::from_millis(wait);
            match event {
                0 => link.dialling(now),
                1 => link.up(now),
                2 => link.unresponsive(now),
                3 => link.responsive(now),
                4 => link.down(now, "lost", random),
                _ => link.hurry(now),
            }
            prop_assert_eq!(link.dial_at().is_some(), matches!(link.state(), LinkState::Down { .. }));
            prop_assert!(link.dial_at().is_none_or(|at| at <= now + MAX_DELAY));
            prop_assert!(link.state().since() <= now);
        }
    }
}

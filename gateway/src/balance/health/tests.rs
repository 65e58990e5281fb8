use super::*;

const FAILURES: u32 = 3;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

fn rules() -> Outliers {
    Outliers::default()
}

fn ejected(health: &Health, now: Instant) -> Option<u64> {
    match health.status(now) {
        HealthStatus::Ejected(left) => Some(left.as_secs()),
        _ => None,
    }
}

#[test]
fn ejections_double_up_to_the_longest_and_start_again_after_a_stable_time() {
    let mut now = Instant::now();
    let mut health = Health::default();
    for _ in 0..FAILURES {
        assert!(health.admits(now));
        health.failed(now, false, &rules(), true);
    }
    let mut lengths = vec![];
    for _ in 0..8 {
        lengths.extend(ejected(&health, now));
        now += LONGEST;
        assert!(health.picked(now, &rules()), "the first stream afterwards is the probe");
        assert!(!health.picked(now, &rules()) && !health.admits(now), "and no other");
        health.failed(now, true, &rules(), true);
    }
    assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60]);

    now += LONGEST;
    assert!(health.picked(now, &rules()));
    health.succeeded(now);
    assert_eq!(health.status(now), HealthStatus::Healthy);
    now += LONGEST;
    (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), true));
    assert_eq!(ejected(&health, now), Some(1));
}

#[test]
fn a_flapping_endpoint_stays_out_longer_each_time() {
    let mut now = Instant::now();
    let mut health = Health::default();
    for length in [1, 2, 4, 8] {
        (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), true));
        assert_eq!(ejected(&health, now), Some(length));
        now += Duration::from_secs(length);
        assert!(health.picked(now, &rules()));
        health.succeeded(now);
    }
}

#[test]
fn a_probe_that_was_given_up_leaves_room_for_the_next() {
    let now = Instant::now();
    let mut health = Health::default();
    (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), true));
    let later = now + SHORTEST;
    assert!(health.picked(later, &rules()));
    health.gave_up(true);
    assert!(health.admits(later) && health.picked(later, &rules()));
}

#[test]
fn a_probe_that_failed_by_nobody_knows_whose_fault_is_followed_by_the_same_ejection() {
    let mut now = Instant::now();
    let mut health = Health::default();
    health.put_off(now, false, &rules());
    assert_eq!((health.status(now), health.failures()), (HealthStatus::Healthy, 0), "nothing is held against it");
    (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), true));
    for length in [1, 2, 4] {
        for _ in 0..3 {
            assert_eq!(ejected(&health, now), Some(length));
            now += Duration::from_secs(length);
            assert!(health.picked(now, &rules()));
            health.put_off(now, false, &rules());
            assert_eq!(health.status(now), HealthStatus::Probing, "streams begun before say nothing");
            health.put_off(now, true, &rules());
            assert!(!health.admits(now));
        }
        now += Duration::from_secs(length);
        assert!(health.picked(now, &rules()));
        health.failed(now, true, &rules(), true);
    }
}

#[test]
fn a_probe_that_meets_silence_ends_an_ejection_and_one_failure_begins_the_next() {
    let mut now = Instant::now();
    let mut health = Health::default();
    (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), true));
    for length in [1, 2, 4, 8] {
        assert_eq!(ejected(&health, now), Some(length));
        now += Duration::from_secs(length);
        health.silent(now, false, &rules());
        assert!(matches!(health.status(now), HealthStatus::Ejected(_)), "streams begun before say nothing");
        assert!(health.picked(now, &rules()));
        health.silent(now, true, &rules());
        assert_eq!(health.status(now), HealthStatus::Healthy);
        health.gave_up(true);
        assert!(health.admits(now), "and its end changes nothing");
        health.failed(now, true, &rules(), true);
    }
}

#[test]
fn silence_ends_failing_no_sooner_than_an_ejection_would_end() {
    let now = Instant::now();
    let mut health = Health::default();
    (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), false));
    health.silent(now, false, &rules());
    assert_eq!(health.status(now), HealthStatus::Failing);
    health.silent(now + LONGEST, false, &rules());
    assert_eq!(health.status(now + LONGEST), HealthStatus::Healthy);
}

#[test]
fn failures_of_streams_begun_before_do_not_prolong_an_ejection() {
    let now = Instant::now();
    let mut health = Health::default();
    (0..50).for_each(|_| health.failed(now, false, &rules(), true));
    assert_eq!(ejected(&health, now), Some(1));
}

#[test]
fn where_ejecting_is_not_allowed_it_only_counts() {
    let now = Instant::now();
    let mut health = Health::default();
    (0..50).for_each(|_| health.failed(now, false, &rules(), false));
    assert_eq!(health.status(now), HealthStatus::Failing);
    assert!(health.admits(now) && health.penalty(now) > 1000.0);
    assert!(health.penalty(now + LONGEST) == 1.0, "it is tried now and then");
}

#[test]
fn streams_that_are_reset_before_the_first_byte_count_although_connecting_works() {
    let mut now = Instant::now();
    let mut health = Health::default();
    for _ in 0..4 {
        health.succeeded(now);
        health.reset(now, &rules(), true);
    }
    health.succeeded(now);
    health.answered();
    assert_eq!(health.resets(), 0, "an answer ends the row");
    for _ in 0..5 {
        assert!(health.admits(now));
        health.succeeded(now);
        health.reset(now, &rules(), true);
    }
    assert_eq!((ejected(&health, now), health.why()), (Some(1), Some(Why::Resets)));
    // It is back, and resets the first one again: out for twice as long.
    now += SHORTEST;
    assert!(health.picked(now, &rules()));
    health.succeeded(now);
    health.reset(now, &rules(), true);
    assert_eq!(ejected(&health, now), Some(2));
}

#[test]
fn one_that_fails_and_may_not_be_ejected_is_tried_by_one_stream_at_a_time() {
    let now = Instant::now();
    let mut health = Health::default();
    (0..FAILURES).for_each(|_| health.failed(now, false, &rules(), false));
    let later = health.due_at(now).unwrap();
    assert!(later > now);
    assert!(!health.picked(later, &rules()));
    assert!(health.due_at(later).unwrap() > later, "others wait");
    health.succeeded(later);
    assert_eq!((health.due_at(later), health.why()), (None, None));
}

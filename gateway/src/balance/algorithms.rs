//! What each rule of a policy makes of the choice.

use super::*;
use isthmus_control_api::{Near, Outliers};

fn policy(balance: Algorithm) -> ServicePolicy {
    ServicePolicy { balance, ..ServicePolicy::default() }
}

/// How many of `streams` each port gets, each stream over at once.
fn counts(balancer: &mut Balancer, now: Instant, streams: usize) -> HashMap<u16, usize> {
    let mut counts = HashMap::new();
    for random in randoms().take(streams) {
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        *counts.entry(pick.address.port()).or_default() += 1;
        balancer.connected(&pick, Duration::ZERO, now);
        balancer.released(pick, now);
    }
    counts
}

#[test]
fn round_robin_is_even_to_the_stream() {
    let (now, mut balancer) = (Instant::now(), with(1..=7, policy(Algorithm::RoundRobin)));
    let counts = counts(&mut balancer, now, 700);
    assert!(counts.len() == 7 && counts.values().all(|&count| count == 100), "{counts:?}");
}

#[test]
fn round_robin_passes_over_what_is_ejected() {
    let (now, mut balancer) = (Instant::now(), with(1..=4, policy(Algorithm::RoundRobin)));
    for _ in 0..4 * FAILURES {
        let pick = balancer.pick(now, Draw::Random(0), &none()).unwrap();
        if pick.address.port() == 3 { balancer.failed(pick, now) } else { balancer.released(pick, now) }
    }
    let counts = counts(&mut balancer, now, 300);
    assert_eq!(counts, HashMap::from([(1, 100), (2, 100), (4, 100)]));
}

#[test]
fn random_is_about_even_whatever_the_load() {
    let (now, mut balancer) = (Instant::now(), with(1..=5, policy(Algorithm::Random)));
    let picks: Vec<_> =
        randoms().take(5000).map(|random| balancer.pick(now, Draw::Random(random), &none()).unwrap()).collect();
    for port in 1..=5 {
        let count = picks.iter().filter(|pick| pick.address.port() == port).count();
        assert!((900..1100).contains(&count), "{port}: {count}");
    }
    picks.into_iter().for_each(|pick| balancer.released(pick, now));
}

#[test]
fn a_new_endpoint_begins_with_a_tenth_of_its_share() {
    for algorithm in [Algorithm::LeastRequest, Algorithm::RoundRobin, Algorithm::Random] {
        let slow_start = Some(Duration::from_secs(10));
        let mut balancer = with([1, 2, 3], ServicePolicy { slow_start, ..policy(algorithm) });
        let begun = Instant::now();
        balancer.set([1, 2, 3, 4]);
        let mut share_at = |seconds: u64| {
            let counts = counts(&mut balancer, begun + Duration::from_secs(seconds), 4000);
            counts.get(&4).copied().unwrap_or_default()
        };
        let shares = [0, 5, 11].map(&mut share_at);
        assert!(shares[0] <= 250, "{algorithm:?}: {shares:?}");
        assert!(shares[1] <= 900, "{algorithm:?}: {shares:?}");
        assert!((900..=1100).contains(&shares[2]), "{algorithm:?}: {shares:?}");
    }
}

/// Endpoints 1 and 2 in our zone, 3 to 8 in another one.
fn zoned(near: Near, balance: Algorithm) -> Balancer {
    let mut list = endpoints(1..=8);
    for endpoint in &mut list {
        endpoint.zone = Some(if endpoint.address.port() <= 2 { "a" } else { "b" }.into());
    }
    list.reverse();
    let here = Place { zone: Some("a".into()), node: None };
    Balancer::new(&list, &Arc::new(ServicePolicy { near, ..policy(balance) }), &here, Instant::now())
}

#[test]
fn the_same_zone_is_preferred_as_long_as_it_can_carry_it() {
    for algorithm in [Algorithm::LeastRequest, Algorithm::RoundRobin, Algorithm::Random] {
        let (now, mut balancer) = (Instant::now(), zoned(Near::Zone, algorithm));
        let all_near = counts(&mut balancer, now, 400);
        assert!(all_near.keys().all(|port| *port <= 2) && all_near.len() == 2, "{algorithm:?}: {all_near:?}");
        // Streams that stay: what is beyond the near ones' capacity spills over, not all of it.
        let picks: Vec<_> =
            randoms().take(80).map(|random| balancer.pick(now, Draw::Random(random), &none()).unwrap()).collect();
        let near = picks.iter().filter(|pick| pick.address.port() <= 2).count();
        assert!((25..=55).contains(&near), "{algorithm:?}: {near} of 80");
        picks.into_iter().for_each(|pick| balancer.released(pick, now));
    }
    let (now, mut balancer) = (Instant::now(), zoned(Near::Off, Algorithm::LeastRequest));
    assert_eq!(counts(&mut balancer, now, 400).len(), 8);
}

#[test]
fn a_zone_without_a_healthy_endpoint_has_no_preference() {
    let (mut now, mut balancer) = (Instant::now(), zoned(Near::Zone, Algorithm::LeastRequest));
    for random in randoms().take(50) {
        now += Duration::from_secs(1);
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        if pick.address.port() <= 2 { balancer.failed(pick, now) } else { balancer.released(pick, now) }
    }
    let Standing { total, healthy, .. } = balancer.standing(now);
    assert_eq!((total, healthy), (8, 6));
    let counts = counts(&mut balancer, now, 600);
    assert!(counts.iter().all(|(&port, &count)| if port > 2 { count > 50 } else { count == 0 }), "{counts:?}");
}

#[test]
fn an_endpoint_that_resets_before_the_first_byte_is_left_out() {
    let (mut now, mut balancer) = (Instant::now(), balancer(1..=4));
    let mut reset = 0;
    for random in randoms().take(4000) {
        now += Duration::from_millis(10);
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        balancer.connected(&pick, Duration::ZERO, now);
        if pick.address.port() == 3 {
            reset += 1;
            balancer.reset(pick.id(), now);
        } else {
            balancer.answered(pick.id(), None, now);
        }
        balancer.released(pick, now);
    }
    assert!((5..=12).contains(&reset), "{reset} streams of 4000 were reset");
    assert!(matches!(health(&balancer, now, 3), HealthStatus::Ejected(_) | HealthStatus::Healthy));
    assert!(balancer.take_ejections() >= 1 && balancer.take_ejections() == 0);
}

#[test]
fn one_that_is_much_slower_is_left_out_if_that_is_wanted() {
    let outliers = Outliers { slower_than: Some(10), ..Outliers::default() };
    let mut balancer = with(1..=4, ServicePolicy { outliers, ..policy(Algorithm::RoundRobin) });
    let mut now = Instant::now();
    for second in 0..6 {
        for i in 0..40 {
            let pick = balancer.pick(now, Draw::Random(i), &none()).unwrap();
            now += Duration::from_millis(25);
            balancer.answered(
                pick.id(),
                Some(Duration::from_millis(if pick.address.port() == 2 { 200 } else { 1 })),
                now,
            );
            balancer.released(pick, now);
        }
        balancer.beat(now);
        let out = matches!(health(&balancer, now, 2), HealthStatus::Ejected(_));
        assert_eq!(out, second == 2 || second == 3 && out, "second {second}");
        if out {
            assert!(balancer.snapshot(now).iter().any(|status| status.why == Some(health::Why::Slow)));
            return;
        }
    }
    panic!("it was never left out");
}

/// No more than the share that may be.
#[test]
fn the_share_that_may_be_left_out_is_kept() {
    let outliers = Outliers { max_ejected: 25, ..Outliers::default() };
    let mut balancer = with(1..=8, ServicePolicy { outliers, ..ServicePolicy::default() });
    let now = Instant::now();
    for random in randoms().take(200) {
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        balancer.failed(pick, now);
    }
    assert_eq!(balancer.tally.ejected, 2);
}

/// While all are failing, an endpoint that swallows connections holds up one stream, and no more.
#[test]
fn one_stream_at_a_time_tries_an_endpoint_that_is_failing() {
    let (now, mut balancer) = (Instant::now(), balancer([1, 2]));
    for random in randoms().take(20) {
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        balancer.failed(pick, now);
    }
    let [one, other] = [1, 2].map(|random| balancer.pick(now, Draw::Random(random), &none()).unwrap());
    assert_ne!(one.address, other.address);
    assert_eq!(balancer.pick(now, Draw::Random(3), &none()), None);
    balancer.connected(&one, Duration::ZERO, now);
    assert_eq!(balancer.standing(now).healthy, 1);
    let pick = balancer.pick(now, Draw::Random(4), &none()).unwrap();
    assert_eq!(pick.address, one.address);
    for pick in [one, other, pick] {
        balancer.released(pick, now);
    }
}

#[test]
fn so_few_healthy_ones_that_health_is_not_heeded() {
    let failover = isthmus_control_api::Failover { panic: 50, ..Default::default() };
    let mut balancer = with(1..=4, ServicePolicy { failover, ..ServicePolicy::default() });
    let mut now = Instant::now();
    for random in randoms().take(200) {
        now += Duration::from_millis(100);
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        if pick.address.port() <= 2 { balancer.failed(pick, now) } else { balancer.released(pick, now) }
    }
    assert_eq!(balancer.standing(now).healthy, 2);
    // Nothing is learned of them, so that it stays so.
    let mut met = HashSet::new();
    for random in randoms().take(100) {
        let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
        met.insert(pick.address.port());
        balancer.released(pick, now);
    }
    assert_eq!(met.len(), 4, "ejected or not");
}

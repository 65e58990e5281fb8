//! Endpoints that active checks have found to be down.

use super::{health, *};
use std::collections::BTreeSet;

/// Which ports are chosen, with many draws.
fn chosen(balancer: &mut Balancer, now: Instant) -> BTreeSet<u16> {
    randoms()
        .take(200)
        .map(|random| {
            let pick = balancer.pick(now, Draw::Random(random), &none()).unwrap();
            let port = pick.address.port();
            balancer.released(pick, now);
            port
        })
        .collect()
}

fn down(ports: &[u16]) -> HashSet<SocketAddr> {
    ports.iter().map(|&port| ([10, 0, 0, 2], port).into()).collect()
}

#[test]
fn what_checks_find_down_is_left_out_until_they_find_it_up() {
    let (mut balancer, now) = (balancer(1..=4), Instant::now());
    let all = chosen(&mut balancer, now);
    let gone: Vec<u16> = all.iter().copied().take(2).collect();
    balancer.leave_out(Some(&down(&gone)));
    assert_eq!(chosen(&mut balancer, now), all.iter().copied().skip(2).collect());
    assert_eq!(health(&balancer, now, gone[0]), HealthStatus::Down);
    balancer.leave_out(Some(&down(&gone[..1])));
    assert_eq!(chosen(&mut balancer, now), all.iter().copied().skip(1).collect());
    balancer.leave_out(None);
    assert_eq!(chosen(&mut balancer, now), all);
}

#[test]
fn no_more_than_may_be_are_left_out_by_checks_and_none_if_all_are_down() {
    let (mut balancer, now) = (balancer(1..=4), Instant::now());
    let all: Vec<u16> = chosen(&mut balancer, now).into_iter().collect();
    // The third that is down stays in, and is chosen only where there is nothing better.
    balancer.leave_out(Some(&down(&all[1..2])));
    balancer.leave_out(Some(&down(&all[..3])));
    let states: Vec<_> = all.iter().map(|&port| health(&balancer, now, port)).collect();
    assert_eq!(states[1], HealthStatus::Down, "it was out already");
    assert_eq!(states.iter().filter(|&&state| state == HealthStatus::Down).count(), 2);
    assert_eq!(states.iter().filter(|&&state| state == HealthStatus::Failing).count(), 1);
    assert_eq!(chosen(&mut balancer, now), [all[3]].into());
    balancer.leave_out(Some(&down(&all)));
    assert_eq!(chosen(&mut balancer, now), all.into_iter().collect());
}

#[test]
fn streams_that_fail_eject_no_more_than_checks_leave_room_for() {
    let (mut balancer, now) = (balancer(1..=4), Instant::now());
    let all: Vec<u16> = chosen(&mut balancer, now).into_iter().collect();
    balancer.leave_out(Some(&down(&all[..2])));
    for _ in 0..20 {
        let pick = balancer.pick(now, Draw::Random(1), &none()).unwrap();
        balancer.failed(pick, now);
    }
    assert!(all[2..].iter().all(|&port| !matches!(health(&balancer, now, port), HealthStatus::Ejected(_))));
}

use super::*;
use isthmus_control_api::{Endpoint, Export, Probe, ServicePolicy};
use proptest::prelude::*;

const INTERVAL: Duration = Duration::from_secs(5);

fn api() -> ServicePort {
    ServicePort::tcp("shop/api".parse().unwrap(), 80)
}

fn at(port: u16) -> SocketAddr {
    ([10, 0, 0, 2], port).into()
}

fn health(unhealthy: u32) -> HealthCheck {
    HealthCheck { probe: Probe::Tcp, interval: INTERVAL, timeout: Duration::from_secs(1), healthy: 1, unhealthy }
}

/// A table with these endpoints, checked or not.
fn table(ports: &[u16], health: Option<HealthCheck>) -> Table {
    let policy = Arc::new(ServicePolicy { health, ..ServicePolicy::default() });
    let endpoints = ports.iter().map(|&port| Endpoint::at(at(port))).collect();
    Table { exports: [(api(), Arc::new(Export { port_name: None, endpoints, policy }))].into(), ..Table::default() }
}

/// Asks all that are due up to `now`, of which those of `bad` fail.
fn ask_all(plan: &mut Plan, now: Instant, bad: &[u16]) -> usize {
    let mut asked = 0;
    while let Some(one) = plan.take(now) {
        let result = if bad.contains(&one.place.1.port()) { Err("refused".to_owned()) } else { Ok(()) };
        plan.done(&one, result, now, 0);
        asked += 1;
    }
    asked
}

#[test]
fn what_fails_is_down_and_comes_back() {
    let (mut plan, mut now) = (Plan::default(), Instant::now());
    plan.reconcile(&table(&[1, 2], Some(health(2))), now, || 999_999);
    assert!(plan.take(now).is_none(), "not all at once");
    now += SPREAD;
    assert_eq!(ask_all(&mut plan, now, &[2]), 2);
    assert!(plan.down(&Down::new()).is_empty(), "once is not enough");
    now += INTERVAL;
    ask_all(&mut plan, now, &[2]);
    let down = plan.down(&Down::new());
    assert_eq!(*down[&api()], [at(2)].into());
    assert!(Arc::ptr_eq(&plan.down(&down)[&api()], &down[&api()]), "what has not changed is shared");
    let report = plan.report(now);
    let bad = report.iter().find(|report| report.address == at(2)).unwrap();
    assert_eq!((bad.state, bad.error.as_deref()), (CheckState::Down, Some("refused")));
    now += INTERVAL;
    ask_all(&mut plan, now, &[]);
    assert!(plan.down(&down).is_empty());
}

#[test]
fn a_change_of_the_table_keeps_what_it_does_not_touch() {
    let (mut plan, mut now) = (Plan::default(), Instant::now());
    plan.reconcile(&table(&[1, 2], Some(health(1))), now, || 0);
    ask_all(&mut plan, now, &[1, 2]);
    plan.reconcile(&table(&[2, 3], Some(health(1))), now, || 0);
    assert_eq!(*plan.down(&Down::new())[&api()], [at(2)].into());
    // Another check knows nothing yet; none at all leaves nothing.
    plan.reconcile(&table(&[2, 3], Some(health(7))), now, || 0);
    assert!(plan.down(&Down::new()).is_empty());
    now += INTERVAL;
    assert_eq!(ask_all(&mut plan, now, &[]), 2);
    plan.reconcile(&table(&[2, 3], None), now, || 0);
    assert!(plan.next_due().is_none() && plan.report(now).is_empty());
}

#[test]
fn who_could_not_be_asked_is_what_he_was_and_is_asked_again() {
    let (mut plan, mut now) = (Plan::default(), Instant::now());
    plan.reconcile(&table(&[1, 2], Some(health(1))), now, || 0);
    ask_all(&mut plan, now, &[2]);
    now += INTERVAL;
    while let Some(asked) = plan.take(now) {
        plan.unasked(&asked, now, 0);
    }
    assert_eq!(*plan.down(&Down::new())[&api()], [at(2)].into());
    now += INTERVAL;
    assert_eq!(ask_all(&mut plan, now, &[]), 2);
}

#[test]
fn an_answer_that_comes_after_its_endpoint_went_and_came_says_nothing() {
    let (mut plan, now) = (Plan::default(), Instant::now());
    plan.reconcile(&table(&[1], Some(health(1))), now, || 0);
    let asked = plan.take(now).unwrap();
    plan.reconcile(&table(&[], Some(health(1))), now, || 0);
    plan.reconcile(&table(&[1], Some(health(1))), now, || 0);
    assert!(!plan.done(&asked, Err("refused".into()), now, 0));
    assert!(plan.down(&Down::new()).is_empty());
    assert!(plan.take(now).is_some() && plan.take(now).is_none(), "it is asked once");
}

proptest! {
    /// Each is asked once an interval, give or take a tenth, however long the answers take; never twice at once.
    #[test]
    fn each_is_asked_once_an_interval(randoms: [u64; 8], took in 0u64..8000) {
        let (mut plan, start) = (Plan::default(), Instant::now());
        plan.reconcile(&table(&[1], Some(health(1))), start, || randoms[0]);
        let mut last = None;
        for random in randoms {
            let begun = plan.next_due().unwrap();
            let asked = plan.take(begun).unwrap();
            prop_assert!(plan.next_due().is_none());
            if let Some(last) = last {
                let gap: Duration = begun - last;
                let floor = Duration::from_millis(took).max(INTERVAL.mul_f64(0.9));
                prop_assert!(gap >= floor && gap <= floor.max(INTERVAL.mul_f64(1.1)), "{:?}", gap);
            }
            plan.done(&asked, Ok(()), begun + Duration::from_millis(took), random);
            last = Some(begun);
        }
    }
}

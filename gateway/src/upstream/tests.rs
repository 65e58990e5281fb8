//! Endpoints that do not answer, beside others that do.

use super::{Asker, asks, attempt, connect_flow, lease::Lease};
use crate::{
    balance::{Tried, health::HealthStatus},
    core::tests::{East, deaf, exporting, idle, linked},
    limit::Comer,
    meter::StreamMeter,
    metrics::streams::Side,
    tunnel::{
        OpenRequest, RefusalReason, Tunnel,
        driver::tests::pair::{SETTINGS, on_a_core, opened, request, until},
    },
};
use isthmus_control_api::{Outliers, Retries, ServicePolicy, ServicePort};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::io::AsyncReadExt;

/// What nothing here waits for.
const LONG: Duration = Duration::from_mins(5);

fn east(endpoints: &[SocketAddr], policy: ServicePolicy) -> East {
    let east = East::with(|config| config.connect_timeout = LONG);
    let mut table = exporting(linked(), endpoints);
    let export = table.exports.values_mut().next().unwrap();
    Arc::make_mut(export).policy = Arc::new(policy);
    east.apply(table);
    east
}

fn health(east: &East, address: SocketAddr) -> HealthStatus {
    let balancers = east.core.balancers.borrow();
    let balancer = &balancers[&ServicePort::tcp("shop/api".parse().unwrap(), 80)];
    let found = balancer.snapshot(Instant::now()).into_iter().find(|status| status.address == address);
    found.unwrap().health
}

#[test]
fn whoever_is_late_is_overtaken_and_left_out_after_the_third_time() {
    on_a_core(async {
        let ((late, _full), (address, _endpoint)) = (deaf().await, idle().await);
        let east = east(&[late, address], ServicePolicy::default());
        let west = east.peer(SETTINGS).await;
        let mut streams = vec![];
        while !matches!(health(&east, late), HealthStatus::Ejected(_)) {
            let mut stream = west.tunnel.open(&request("west")).unwrap();
            opened(&mut stream).await.unwrap();
            streams.push(stream);
        }
        assert!(east.counted(r#"isthmus_endpoint_hedges_total{result="won"} 3"#));
        assert!(east.counted(r#"isthmus_endpoint_hedges_total{result="lost"} 0"#));
    });
}

#[test]
fn an_endpoint_that_answers_after_all_is_well() {
    on_a_core(async {
        let ((late, (listener, _queued)), (address, _endpoint)) = (deaf().await, idle().await);
        let east = east(&[late, address], ServicePolicy::default());
        let west = east.peer(SETTINGS).await;
        let mut streams = vec![];
        while !matches!(health(&east, late), HealthStatus::Ejected(_)) {
            let mut stream = west.tunnel.open(&request("west")).unwrap();
            opened(&mut stream).await.unwrap();
            streams.push(stream);
        }
        // Those that were overtaken go on: the kernel asks again, and now there is room.
        let (_queued, _) = listener.accept().await.unwrap();
        let (_overtaken, _) = listener.accept().await.unwrap();
        until(|| health(&east, late) == HealthStatus::Healthy).await;
    });
}

#[test]
fn a_stream_that_may_go_elsewhere_does_not_wait_for_endpoints_that_are_late() {
    on_a_core(async {
        let (late, _full) = deaf().await;
        let east = east(&[late], ServicePolicy::default());
        let west = east.peer(SETTINGS).await;
        let mut waiting = west.tunnel.open(&request("west")).unwrap();
        let mut stream = west.tunnel.open(&OpenRequest { elsewhere: true, ..request("west") }).unwrap();
        let refusal = opened(&mut stream).await.unwrap_err();
        assert_eq!((refusal.reason, refusal.retry), (RefusalReason::Timeout, true), "{refusal}");
        let answer = tokio::time::timeout(Duration::ZERO, opened(&mut waiting)).await;
        assert!(answer.is_err(), "the other one waits for as long as connecting may take: {answer:?}");
    });
}

#[test]
fn company_is_within_the_retry_budget() {
    on_a_core(async {
        let ((late, _full), (address, _endpoint)) = (deaf().await, idle().await);
        let east = east(&[late, address], no_retries());
        let west = east.peer(SETTINGS).await;
        let mut streams: Vec<_> = (0..16).map(|_| west.tunnel.open(&request("west")).unwrap()).collect();
        until(|| !east.counted(r#"isthmus_refusals_total{bound="retry_budget"} 0"#)).await;
        assert!(east.counted(r#"isthmus_endpoint_hedges_total{result="won"} 0"#));
        let mut waiting = 0;
        for stream in &mut streams {
            waiting += usize::from(tokio::time::timeout(Duration::ZERO, opened(stream)).await.is_err());
        }
        assert!(waiting > 0, "those that came to the endpoint that is late wait for it");
    });
}

/// A policy by which nothing is tried again.
fn no_retries() -> ServicePolicy {
    ServicePolicy { retries: Retries { percent: 0, per_second: 0 }, ..ServicePolicy::default() }
}

/// That one endpoint is dead, and another one was not tried, is no reason to leave the cluster out; that all are dead is.
#[test]
fn a_stream_that_the_budget_stops_says_nothing_of_the_cluster_while_an_endpoint_is_well() {
    on_a_core(async {
        // Whoever listened there has gone.
        let dead = [idle().await.0, idle().await.0];
        let east = east(&dead, no_retries());
        let west = east.peer(SETTINGS).await;
        let mut reasons = vec![];
        while reasons.last().is_none_or(|&reason| reason == RefusalReason::Limit) {
            let mut stream = west.tunnel.open(&request("west")).unwrap();
            let refusal = opened(&mut stream).await.unwrap_err();
            assert!(refusal.retry, "{refusal}");
            reasons.push(refusal.reason);
        }
        assert_eq!(
            (reasons[0], reasons.last()),
            (RefusalReason::Limit, Some(&RefusalReason::NoEndpoint)),
            "{reasons:?}"
        );
        let labels = r#"service="shop/api:80",peer="west",direction="ingress",reason="refused_no_endpoint""#;
        until(|| east.counted(&format!("isthmus_streams_closed_total{{{labels}}} 1"))).await;
    });
}

/// A client that is refused for a limit is not heard for a second, so one that nobody else serves is told as ever.
#[test]
fn a_flow_that_the_budget_stops_is_told_so_where_another_cluster_may_serve_it() {
    on_a_core(async {
        let ((one, _one), (other, _other)) = (idle().await, idle().await);
        let policy = Arc::new(no_retries());
        let east = east(&[one, other], no_retries());
        let service = ServicePort::tcp("shop/api".parse().unwrap(), 80);
        for (elsewhere, reason) in [(true, RefusalReason::Limit), (false, RefusalReason::NoEndpoint)] {
            let mut meter = StreamMeter::new(&east.core, Side::Ingress, service.clone());
            meter.admit(Side::Ingress, &policy, Comer::default()).unwrap();
            let (asker, mut tried) = (Asker { elsewhere, ..Asker::default() }, Tried::default());
            let connected = connect_flow(&east.core, &service, asker, &mut meter, &mut tried, None).unwrap();
            connected.failed();
            let last = Some(io::ErrorKind::ConnectionRefused.into());
            let refusal = connect_flow(&east.core, &service, asker, &mut meter, &mut tried, last).err().unwrap();
            assert_eq!((refusal.reason, refusal.retry), (reason, true), "{refusal}");
        }
    });
}

/// A connection to `endpoint` has failed from a client's own address; it is asked at `address`.
fn fail_from_client(east: &East, endpoint: SocketAddr, address: SocketAddr) {
    fail(east, endpoint, address, true);
}

fn fail(east: &East, endpoint: SocketAddr, address: SocketAddr, transparent: bool) {
    let service = ServicePort::tcp("shop/api".parse().unwrap(), 80);
    let mut tried = Tried::default();
    let take = || Lease::take(&east.core, &service, Asker::default(), &mut tried);
    let (lease, _) = std::iter::from_fn(take).find(|(_, found)| *found == endpoint).unwrap();
    attempt::failed(&east.core, lease, (address, LONG), transparent, &io::ErrorKind::TimedOut.into());
}

fn sources(east: &East, source: &str, count: usize) -> bool {
    east.counted(&format!("isthmus_endpoint_sources_total{{source=\"{source}\"}} {count}"))
}

#[test]
fn however_many_clients_addresses_fail_an_endpoint_is_asked_once_at_a_time() {
    on_a_core(async {
        const FAILURES: usize = 50;
        let (address, (listener, _queued)) = deaf().await;
        let east = east(&[address], ServicePolicy::default());
        let others = east.core.tasks.len();
        (0..FAILURES).for_each(|_| fail_from_client(&east, address, address));
        assert_eq!(east.core.tasks.len() - others, 1, "tasks that ask");
        // The queue has room for the one that asks.
        let (_before, _) = listener.accept().await.unwrap();
        let (mut asked, _) = listener.accept().await.unwrap();
        until(|| sources(&east, "unanswered", FAILURES)).await;
        assert_eq!(asked.read(&mut [0]).await.unwrap(), 0, "nothing is said to it");
        assert_eq!(health(&east, address), HealthStatus::Healthy);
        until(|| east.core.tasks.len() == others).await;
        fail_from_client(&east, address, address);
        let _asked_again = listener.accept().await.unwrap();
        until(|| sources(&east, "unanswered", FAILURES + 1)).await;
    });
}

/// Whoever brings many failures about at once makes no more of one than it is.
#[test]
fn an_endpoint_that_is_gone_fails_once_each_time_that_it_is_asked() {
    on_a_core(async {
        let ((address, listener), (other, _endpoint)) = (idle().await, idle().await);
        let east = east(&[address, other], ServicePolicy::default());
        drop(listener);
        for asked in 1..=3 {
            assert_eq!(health(&east, address), HealthStatus::Healthy, "asked {asked} times");
            (0..10).for_each(|_| fail_from_client(&east, address, address));
            until(|| sources(&east, "transparent", asked * 10)).await;
        }
        assert!(matches!(health(&east, address), HealthStatus::Ejected(_)));
    });
}

#[test]
fn beyond_the_bound_nobody_is_asked_and_nothing_is_held_against_the_endpoint() {
    on_a_core(async {
        let (address, _endpoint) = idle().await;
        let east = east(&[address], ServicePolicy::default());
        let mut all = vec![];
        for _ in 0..asks::MOST + 3 {
            all.push(deaf().await);
        }
        let others = east.core.tasks.len();
        all.iter().for_each(|(deaf, _)| fail_from_client(&east, address, *deaf));
        assert!(sources(&east, "unasked", 3));
        assert_eq!(east.core.tasks.len() - others, asks::MOST, "tasks that ask");
        // One that has answered makes room.
        let (listener, _) = &all[0].1;
        let (_before, _) = listener.accept().await.unwrap();
        let (_asked, _) = listener.accept().await.unwrap();
        until(|| sources(&east, "unanswered", 1)).await;
        until(|| east.core.tasks.len() - others < asks::MOST).await;
        fail_from_client(&east, address, address);
        until(|| sources(&east, "unanswered", 2)).await;
        assert!(sources(&east, "unasked", 3));
        assert_eq!(health(&east, address), HealthStatus::Healthy);
    });
}

/// A policy by which one failure has an endpoint left out, and for a time that a test can wait for.
fn strict() -> ServicePolicy {
    let outliers = Outliers { failures: 1, ejection: Duration::from_millis(20), ..Outliers::default() };
    ServicePolicy { outliers, ..ServicePolicy::default() }
}

/// The endpoint is left out, and the probe that follows fails from a client's own address, of which the one at `address` is asked. For how
/// much longer the endpoint is left out then.
async fn fail_probe_from_client(east: &East, endpoint: SocketAddr, address: SocketAddr) -> Duration {
    let left_at = |now| {
        let balancers = east.core.balancers.borrow();
        let balancer = &balancers[&ServicePort::tcp("shop/api".parse().unwrap(), 80)];
        match balancer.snapshot(now).into_iter().find(|status| status.address == endpoint).unwrap().health {
            HealthStatus::Ejected(left) => left,
            other => panic!("it is {other:?}"),
        }
    };
    fail(east, endpoint, address, false);
    until(|| left_at(Instant::now()).is_zero()).await;
    let before = Instant::now();
    fail_from_client(east, endpoint, address);
    left_at(before)
}

#[test]
fn a_probe_whose_endpoint_is_being_asked_leaves_it_out_until_that_is_answered() {
    on_a_core(async {
        let ((address, _endpoint), (other, _other)) = (idle().await, idle().await);
        let (asked, (listener, _queued)) = deaf().await;
        let policy = strict();
        let east = east(&[address, other], policy.clone());
        fail_from_client(&east, address, asked);
        let left = fail_probe_from_client(&east, address, asked).await;
        assert!(left >= policy.outliers.ejection, "{left:?}");
        let (_before, _) = listener.accept().await.unwrap();
        let (_asked, _) = listener.accept().await.unwrap();
        until(|| health(&east, address) == HealthStatus::Healthy).await;
        assert!(sources(&east, "unanswered", 2));
    });
}

#[test]
fn a_probe_whose_endpoint_cannot_be_asked_leaves_it_out_for_as_long_again() {
    on_a_core(async {
        let ((address, _endpoint), (other, _other)) = (idle().await, idle().await);
        let policy = strict();
        let east = east(&[address, other], policy.clone());
        let mut all = vec![];
        for _ in 0..asks::MOST {
            all.push(deaf().await);
        }
        all.iter().for_each(|(deaf, _)| fail_from_client(&east, other, *deaf));
        let left = fail_probe_from_client(&east, address, address).await;
        assert!(left >= policy.outliers.ejection, "{left:?}");
        assert!(sources(&east, "unasked", 1));
    });
}

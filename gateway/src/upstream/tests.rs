//! Endpoints that do not answer, beside others that do.

use crate::{
    balance::health::HealthStatus,
    core::tests::{East, deaf, exporting, idle, linked},
    tunnel::{
        OpenRequest, RefusalReason, Tunnel,
        driver::tests::pair::{SETTINGS, on_a_core, opened, request, until},
    },
};
use isthmus_control_api::{Retries, ServicePolicy, ServicePort};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// What no stream here waits for.
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
        let none = ServicePolicy { retries: Retries { percent: 0, per_second: 0 }, ..ServicePolicy::default() };
        let east = east(&[late, address], none);
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

//! Each impairment, as sockets on both sides of it see it.

use crate::{
    pings::{Answers, Echo},
    west_and_east,
};
use isthmus_tests::{Cluster, Endpoint, Pattern, Topology, client, endpoint, eventually};
use isthmus_wan::Impairments;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MS: Duration = Duration::from_millis(1);

/// Six standard deviations around what `n` dice with probability `p` show, and one for the corners.
fn binomial(n: u32, p: f64) -> std::ops::RangeInclusive<f64> {
    let (mean, bound) = (f64::from(n) * p, 6.0 * (f64::from(n) * p * (1.0 - p)).sqrt() + 1.0);
    mean - bound..=mean + bound
}

fn set(topology: &Topology, from: &str, to: &str, spec: &str) {
    topology.emulator().set(from, to, spec.parse::<Impairments>().unwrap()).unwrap();
}

fn in_order(answers: &Answers) -> bool {
    answers.is_sorted_by_key(|(number, _)| *number)
}

/// Where servers of TCP listen.
fn tcp(cluster: &Cluster) -> SocketAddr {
    cluster.tunnel_address()
}

#[test]
fn a_round_trip_takes_what_was_configured_and_jitter_keeps_the_order() {
    let topology = west_and_east("50ms");
    let echo = Echo::start(&topology);
    let answers = echo.ping(200, 100, 2 * MS);
    assert_eq!(answers.len(), 200);
    assert!(in_order(&answers) && answers.iter().all(|(_, took)| *took >= 50 * MS), "{answers:?}");
    topology.emulator().set_all("20ms,jitter=20ms".parse().unwrap()).unwrap();
    let answers = echo.ping(200, 100, 2 * MS);
    assert_eq!(answers.len(), 200);
    assert!(in_order(&answers) && answers.iter().all(|(_, took)| *took >= 20 * MS), "{answers:?}");
    topology.emulator().set_all("20ms,jitter=20ms,unordered".parse().unwrap()).unwrap();
    assert!(!in_order(&echo.ping(200, 100, 2 * MS)));
}

#[test]
fn a_delay_can_differ_from_one_direction_to_the_other() {
    let topology = west_and_east("0ms");
    let echo = Echo::start(&topology);
    set(&topology, "west", "east", "80ms");
    let there = echo.ping(20, 100, MS);
    set(&topology, "east", "west", "40ms");
    let both = echo.ping(20, 100, MS);
    assert!(there.iter().all(|(_, took)| *took >= 40 * MS) && both.iter().all(|(_, took)| *took >= 60 * MS));
    assert_eq!((there.len(), both.len()), (20, 20));
}

#[test]
fn loss_is_within_its_bounds_and_counted() {
    let topology = west_and_east("10ms");
    let echo = Echo::start(&topology);
    set(&topology, "west", "east", "10ms,5%");
    let answers = echo.ping(2000, 100, MS / 4);
    let lost = topology.emulator().counters("west", "east").unwrap().lost;
    assert!(binomial(2000, 0.05).contains(&(lost as f64)), "{lost}");
    assert_eq!((answers.len() as u64, echo.finish()), (2000 - lost, 2000 - lost), "nothing else was lost");
}

#[test]
fn reordered_pings_are_overtaken() {
    let topology = west_and_east("10ms");
    let echo = Echo::start(&topology);
    set(&topology, "west", "east", "10ms,reorder=10%");
    let answers = echo.ping(1000, 100, MS / 2);
    let reordered = topology.emulator().counters("west", "east").unwrap().reordered;
    assert!(binomial(1000, 0.1).contains(&(reordered as f64)), "{reordered}");
    assert!(answers.len() == 1000 && !in_order(&answers));
}

#[test]
fn a_rate_is_never_exceeded_and_its_queue_drops() {
    let topology = west_and_east("10ms,20mbit,queue=64k");
    let east = topology.cluster("east");
    let _sink =
        Endpoint::serve(east.edge(), east.tasks(), tcp(east), |stream| endpoint::answer_after_end(stream, 5, 1));
    let took = topology.block_on(async {
        let mut stream = client::connect(topology.cluster("west").edge(), tcp(east)).await.unwrap();
        let begun = Instant::now();
        client::send(&mut stream, 4, 2_000_000).await.unwrap();
        stream.shutdown().await.unwrap();
        client::receive(&mut stream).await;
        begun.elapsed()
    });
    // A property of the rate: with the headers of IP and TCP it took a little longer still.
    assert!(took.as_secs_f64() >= 2_000_000.0 * 8.0 / 20e6, "{took:?}");
    let echo = Echo::start(&topology);
    echo.ping(300, 1400, Duration::ZERO);
    assert!(topology.emulator().counters("west", "east").unwrap().overflowed > 0);
}

#[test]
fn path_mtu_discovery_finds_a_small_mtu() {
    let topology = west_and_east("2ms,mtu=1300");
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = Endpoint::serve(east.edge(), east.tasks(), tcp(east), endpoint::echo);
    topology.block_on(async {
        let mut stream = client::connect(west.edge(), tcp(east)).await.unwrap();
        client::exchange(&mut stream, &Pattern::new(1).take(200_000)).await.unwrap();
    });
    assert!(topology.emulator().counters("west", "east").unwrap().too_big > 0);
}

#[test]
fn large_packets_vanish_for_good_where_nobody_tells() {
    let topology = west_and_east("2ms,silent-mtu=1300");
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = Endpoint::serve(east.edge(), east.tasks(), tcp(east), endpoint::echo);
    let dropped = || topology.emulator().counters("west", "east").unwrap().too_big;
    // No more than the socket takes at once: nothing of it is acknowledged.
    let large = Pattern::new(1).take(8000);
    topology.block_on(async {
        let mut stream = client::connect(west.edge(), tcp(east)).await.unwrap();
        client::exchange(&mut stream, b"small").await.unwrap();
        assert_eq!(dropped(), 0);
        stream.write_all(&large).await.unwrap();
        eventually("the segments vanish", || if dropped() > 7 { Ok(()) } else { Err(format!("{}", dropped())) });
        topology.emulator().set_all("2ms".parse().unwrap()).unwrap();
        let mut back = vec![0; large.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert!(back == large);
    });
}

#[test]
fn udp_is_blocked_and_tcp_passes() {
    let topology = west_and_east("2ms,noudp");
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _tcp = Endpoint::serve(east.edge(), east.tasks(), tcp(east), endpoint::echo);
    let echo = Echo::start(&topology);
    assert_eq!(echo.ping(10, 100, MS), []);
    assert_eq!(topology.emulator().counters("west", "east").unwrap().udp_blocked, 10);
    topology.block_on(async {
        let mut stream = client::connect(west.edge(), tcp(east)).await.unwrap();
        client::exchange(&mut stream, b"hello").await.unwrap();
    });
    topology.emulator().set_all("2ms,noudp=53".parse().unwrap()).unwrap();
    assert_eq!(echo.ping(10, 100, MS).len(), 10);
    topology.emulator().set_all("2ms,noudp=7".parse().unwrap()).unwrap();
    assert_eq!(echo.ping(10, 100, MS), []);
}

#[test]
fn a_black_hole_swallows_one_direction_and_a_cut_both() {
    let topology = west_and_east("2ms");
    let wan = topology.emulator();
    let echo = Echo::start(&topology);
    set(&topology, "east", "west", "2ms,blackhole");
    assert_eq!(echo.ping(10, 100, MS), []);
    let passed = |from, to| wan.counters(from, to).unwrap();
    assert_eq!((passed("west", "east").packets, passed("east", "west").black_holed), (10, 10));
    set(&topology, "east", "west", "2ms");
    assert_eq!(echo.ping(10, 100, MS).len(), 10);
    topology.cut_wan();
    assert_eq!(echo.ping(10, 100, MS), []);
    topology.restore_wan();
    assert_eq!(echo.ping(10, 100, MS).len(), 10);
    assert_eq!(echo.finish(), 30);
}

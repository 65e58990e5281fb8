//! Endpoints that refuse, are not there, or die: another one is tried as long as nothing can be lost by it.

use crate::over_each_transport;
use isthmus_tests::{
    End, Endpoint, Nginx, Pattern, Topology, Transport, check, client, endpoint, eventually,
    load::Reuse,
    pair::{self, Pair},
    topology::pod,
};
use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, task::JoinSet};

over_each_transport!(
    the_only_one_refuses,
    one_refuses_and_the_other_serves,
    half_of_them_swallow_every_packet_and_the_others_serve,
    one_dies_under_load,
);

/// Enough to see that a choice of two is made right, whichever comes first.
const STREAMS: usize = 40;

fn the_only_one_refuses(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        for _ in 0..5 {
            // The gateway may have reset it before this client has seen that it is connected.
            let mut stream = match pair.connect().await {
                Ok(stream) => stream,
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::ConnectionReset);
                    continue;
                }
            };
            let _ = stream.write_all(b"anybody?").await;
            let received = client::receive(&mut stream).await;
            assert_eq!((received.bytes, received.end), (0, End::Error(ErrorKind::ConnectionReset)));
        }
    });
    let line = check::wait_named(&pair.west, "import shop/api:80", &["connection refused"]);
    assert!(line["fix"].as_str().unwrap().contains("at east"), "{line}");
    check::wait_named(&pair.east, "export shop/api:80", &[&pair::endpoint().to_string(), "refused"]);
    // It comes back, and nobody has to be told.
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    pair.wait_echo();
}

fn one_refuses_and_the_other_serves(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let serving = Endpoint::serve(east.pods(), east.tasks(), pod(3, 8080), endpoint::echo);
    let pair = Pair::start(&topology, transport, &[pod(2, 8080), pod(3, 8080), pod(4, 8080)]);
    nothing_is_lost(&pair);
    assert_eq!(serving.accepted(), STREAMS);
}

/// Has these endpoints of a cluster swallow every packet, silently.
pub(crate) fn swallow(topology: &Topology, cluster: &str, hosts: impl IntoIterator<Item = u8>) {
    let pods = topology.cluster(cluster).pods();
    pods.exec("nft", &["add table ip deaf; add chain ip deaf in { type filter hook input priority 0; }"]);
    for host in hosts {
        pods.exec("nft", &[&format!("add rule ip deaf in ip daddr {} tcp dport 8080 drop", pod(host, 8080).ip())]);
    }
}

/// Connects that nobody answers: the bytes that the clients sent meanwhile go to other endpoints, all of them, and within a second.
fn half_of_them_swallow_every_packet_and_the_others_serve(transport: Transport) {
    for endpoints in [2, 8] {
        let topology = Topology::west_and_east();
        let east = topology.cluster("east");
        let hosts = 2..2 + endpoints;
        let all: Vec<_> = hosts.clone().map(|host| pod(host, 8080)).collect();
        let _all: Vec<_> =
            all.iter().map(|&at| Endpoint::serve(east.pods(), east.tasks(), at, endpoint::echo)).collect();
        let pair = Pair::start(&topology, transport, &all);
        // Before anything is known of them, and while all are known to be well.
        swallow(&topology, "east", hosts.clone().step_by(2));
        assert_each_within_a_second(&pair);
        east.pods().exec("nft", &["delete table ip deaf"]);
        eventually("all are well", || {
            pair.wait_echo();
            let status = pair.east.status();
            let endpoints = status["services"][0]["endpoints"].as_array().cloned().unwrap_or_default();
            let well = endpoints.iter().all(|endpoint| endpoint["health"] == "healthy");
            if well { Ok(()) } else { Err(status.to_string()) }
        });
        swallow(&topology, "east", hosts.skip(1).step_by(2));
        assert_each_within_a_second(&pair);
        let won = pair.east.metrics().sum("isthmus_endpoint_hedges_total", &[r#"result="won""#]);
        assert!(won >= 2.0, "{won}");
    }
}

/// Many clients at once, and each has all of its bytes back within a second.
pub(crate) fn assert_each_within_a_second(pair: &Pair<'_>) {
    let took = pair.topology.block_on(async {
        let mut clients = JoinSet::new();
        for seed in 0..STREAMS as u64 {
            let begun = Instant::now();
            let mut stream = pair.connect().await.unwrap();
            clients.spawn(async move {
                client::exchange(&mut stream, &Pattern::new(seed).take(20_000)).await.unwrap();
                begun.elapsed()
            });
        }
        clients.join_all().await
    });
    let slowest = took.iter().max().unwrap();
    assert!(*slowest < Duration::from_secs(1), "{slowest:?} for the slowest of {took:?}");
}

fn nothing_is_lost(pair: &Pair<'_>) {
    pair.topology.block_on(async {
        for seed in 0..STREAMS as u64 {
            let mut stream = pair.connect().await.unwrap();
            client::exchange(&mut stream, &Pattern::new(seed).take(200_000)).await.unwrap();
        }
    });
}

fn one_dies_under_load(transport: Transport) {
    const CLIENTS: usize = 8;
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let mut first = Nginx::start(east.pods(), east.dir(), pod(2, 8080), "served");
    let _second = Nginx::start(east.pods(), east.dir(), pod(3, 8080), "served");
    let pair = Pair::start(&topology, transport, &[pod(2, 8080), pod(3, 8080)]);
    let load = pair.load(CLIENTS, Reuse::ConnectionPerRequest, "served");
    load.wait_for(200);
    first.kill();
    let refuses = || east.pods().connect(pod(2, 8080)).is_err();
    eventually("the first endpoint is gone", || if refuses() { Ok(()) } else { Err("it is there".into()) });
    load.wait_for(500);
    let outcome = load.stop();
    // What nginx had taken when it died is lost, one request a client at most; everything since went to the other.
    assert!(outcome.failed <= CLIENTS as u64, "{outcome:?}");
    let load = pair.load(CLIENTS, Reuse::ConnectionPerRequest, "served");
    load.wait_for(500);
    load.stop().assert_no_failure();
}

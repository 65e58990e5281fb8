//! The harness itself: that namespaces are what they claim, that endpoints do what they say, that nothing stays behind.
#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

mod peers;

use isthmus_tests::{
    Endpoint, Load, Netns, Nginx, Pattern, Process, Topology, client, endpoint, eventually, load::Reuse, topology::pod,
};
use std::{io, path::Path, time::Duration};
use tokio::io::AsyncWriteExt;

/// A topology without identities, for which no binary is needed.
fn clusters() -> Topology {
    Topology::new(&["west", "east"])
}

#[test]
fn clusters_have_the_same_pod_cidr_and_the_wan_routes_neither() {
    let topology = clusters();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _east_only = Endpoint::serve(east.pods(), east.tasks(), pod(2, 8080), endpoint::echo);
    assert!(east.pods().connect(pod(2, 8080)).is_ok());
    let in_west = west.pods().connect(pod(2, 8080)).map(drop).map_err(|e| e.kind());
    assert_eq!(in_west, Err(io::ErrorKind::ConnectionRefused), "the same address is another host in west");
    let from_edge = west.edge().connect(pod(2, 8080)).map(drop).map_err(|e| e.kind());
    assert_eq!(from_edge, Err(io::ErrorKind::ConnectionRefused));
    assert!(!topology.wan().ip("route").contains("10.0.0."), "the WAN knows no pod");
}

#[test]
fn gateways_reach_each_other_until_the_wan_is_cut() {
    let topology = clusters();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _tunnel = Endpoint::serve(east.edge(), east.tasks(), east.tunnel_address(), endpoint::echo);
    topology.block_on(async {
        let mut stream = client::connect(west.edge(), east.tunnel_address()).await.unwrap();
        client::exchange(&mut stream, &Pattern::new(1).take(100_000)).await.unwrap();
        topology.cut_wan();
        stream.write_all(b"lost").await.unwrap();
        let echoed =
            tokio::time::timeout(Duration::from_millis(300), tokio::io::AsyncReadExt::read_u8(&mut stream)).await;
        assert!(echoed.is_err(), "the cut drops silently: {echoed:?}");
        topology.restore_wan();
        let mut back = [0; 4];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut back).await.unwrap();
        assert_eq!(&back, b"lost", "TCP sends again what was dropped");
    });
}

#[test]
fn endpoints_end_as_they_say() {
    let topology = clusters();
    let west = topology.cluster("west");
    let (pods, tasks) = (west.pods(), west.tasks());
    let _late = Endpoint::serve(pods, tasks, pod(2, 1), |stream| endpoint::answer_after_end(stream, 5, 300_000));
    let _reset = Endpoint::serve(pods, tasks, pod(2, 2), |stream| endpoint::reset_after(stream, 6, 10_000));
    topology.block_on(async {
        let mut stream = client::connect(pods, pod(2, 1)).await.unwrap();
        client::send(&mut stream, 4, 100_000).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut digest = [0; 32];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut digest).await.unwrap();
        assert_eq!(&digest, Pattern::digest(4, 100_000).as_bytes());
        client::receive(&mut stream).await.assert_whole(5, 300_000);

        let mut stream = client::connect(pods, pod(2, 2)).await.unwrap();
        let mut head = [0; 10_000];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head).await.unwrap();
        stream.write_all(b"!").await.unwrap();
        client::receive(&mut stream).await.assert_reset(0);
    });
}

#[test]
fn load_counts_what_nginx_answers_and_what_its_death_costs() {
    let topology = clusters();
    let west = topology.cluster("west");
    let mut nginx = Nginx::start(west.pods(), west.dir(), pod(2, 8080), "hello");
    for reuse in [Reuse::ConnectionPerRequest, Reuse::KeepAlive] {
        let load = Load::start(west.pods(), west.tasks(), pod(2, 8080), 4, reuse, "hello");
        load.wait_for(100);
        load.stop().assert_no_failure();
    }
    let wrong = Load::start(west.pods(), west.tasks(), pod(2, 8080), 1, Reuse::KeepAlive, "goodbye");
    eventually("wrong bodies are failures", || if wrong.failed() > 0 { Ok(()) } else { Err("none".into()) });
    assert_eq!(wrong.stop().succeeded, 0);
    let load = Load::start(west.pods(), west.tasks(), pod(2, 8080), 1, Reuse::KeepAlive, "hello");
    load.wait_for(10);
    nginx.kill();
    let refused = |load: &Load| west.pods().connect(pod(2, 8080)).is_err() && load.succeeded() > 0;
    eventually("nginx is gone", || if refused(&load) { Ok(()) } else { Err("it is there".into()) });
    load.stop();
}

#[test]
fn nothing_stays_behind_when_a_test_panics() {
    let (told, hear) = std::sync::mpsc::sync_channel(1);
    let panicked = std::thread::spawn(move || {
        let topology = clusters();
        let west = topology.cluster("west");
        let log = topology.dir().join("log");
        let sleeper = Process::start(west.edge(), "sleep", &log, Path::new("sleep"), &["1000"]);
        told.send((sleeper.pid(), topology.dir().to_owned(), west.edge().path().clone())).unwrap();
        panic!("on purpose");
    });
    let (pid, dir, netns) = hear.recv().unwrap();
    assert!(panicked.join().is_err());
    assert!(!Path::new(&format!("/proc/{pid}")).exists() && !dir.exists() && !netns.exists());
}

#[test]
fn a_namespace_hands_on_panics_and_stays_usable() {
    let netns = Netns::new("solo");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| netns.run(|| panic!("inside"))));
    assert!(caught.is_err());
    assert_eq!(netns.run(|| 7), 7);
}

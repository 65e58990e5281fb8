//! Limits of a link: all streams of a peer together, whatever their service.

use super::{TRIED, WEST, still_served, try_many};
use crate::over_each_transport;
use isthmus_tests::{
    Config, Endpoint, Topology, Transport, UdpEcho, client, datagrams, endpoint, eventually,
    pair::{self, Pair},
    topology::pod,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt as _, task::JoinSet};

over_each_transport!(all_services_of_a_peer_share_what_its_link_allows);

const OTHER: &str = "shop/other";

fn other() -> SocketAddr {
    SocketAddr::new(pair::import().ip(), 18081)
}

/// West and east, where east allows west so much; two services, which echo.
fn configs(topology: &Topology, transport: Transport, limits: &'static str) -> (Config, Config) {
    let west = pair::west_config(topology, transport).imports(OTHER, other());
    let east = pair::east_config(topology, transport, &[pair::endpoint()]).exports(OTHER, &[pod(3, 8080)]);
    (west, east.with_link_limits(limits))
}

fn echoes(topology: &Topology) -> [Endpoint; 2] {
    let east = topology.cluster("east");
    [pair::endpoint(), pod(3, 8080)].map(|at| Endpoint::serve(east.pods(), east.tasks(), at, endpoint::echo))
}

fn all_services_of_a_peer_share_what_its_link_allows(transport: Transport) {
    let topology = Topology::west_and_east();
    let _echoes = echoes(&topology);
    let (west_config, east_config) = configs(&topology, transport, "{streams: 5}");
    let east_config = east_config.imports(pair::SERVICE, pair::import()).with_affinity("local");
    let pair = Pair::start_with(&topology, &west_config, &east_config);
    pair.west.wait_imported(OTHER, &["east"]);
    let (east, west) = (topology.cluster("east"), topology.cluster("west"));
    let mut open = topology.block_on(async {
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut stream = client::connect(west.pods(), other()).await.unwrap();
            client::exchange(&mut stream, b"let me in").await.unwrap();
            open.push(stream);
        }
        open
    });
    open.extend(try_many(&pair, WEST));
    assert_eq!(open.len(), 5);
    let refused = (TRIED - 2) as f64;
    pair.east.wait_metric("isthmus_refusals_total", &[r#"bound="link_streams""#], |n| n == refused);
    pair.west.wait_metric("isthmus_streams_closed_total", &[r#"reason="refused_limit""#], |n| n == refused);
    // The cluster's own clients come over no link.
    let _own: Vec<_> = topology.block_on(async {
        let mut own = Vec::new();
        for _ in 0..6 {
            let mut stream = client::connect(east.pods(), pair::import()).await.unwrap();
            client::exchange(&mut stream, b"let me in").await.unwrap();
            own.push(stream);
        }
        own
    });
    // More is allowed at once, and what is open goes on.
    pair.east.configure(&east_config.clone().with_link_limits("{streams: 8}"));
    eventually("more are let in", || {
        open.extend(try_many(&pair, WEST));
        if open.len() >= 8 { Ok(()) } else { Err(format!("{} are open", open.len())) }
    });
    still_served(&pair, &mut open);
    assert_eq!(open.len(), 8);
    // So is less, and takes nothing from those that are open.
    pair.east.configure(&east_config.with_link_limits("{streams: 2}"));
    drop(open.split_off(4));
    pair.east.wait_metric("isthmus_streams_active", &[r#"direction="ingress""#], |n| n == 4.0);
    let refused = pair.east.metrics().sum("isthmus_refusals_total", &[r#"bound="link_streams""#]);
    eventually("none is let in", || {
        let more = try_many(&pair, WEST).len();
        pair.east.wait_metric("isthmus_streams_active", &[r#"direction="ingress""#], |n| n == 4.0);
        if more == 0 { Ok(()) } else { Err(format!("{more} were")) }
    });
    pair.east.wait_metric("isthmus_refusals_total", &[r#"bound="link_streams""#], |n| n >= refused + TRIED as f64);
    still_served(&pair, &mut open);
}

/// Each by its own bound.
#[test]
fn opens_and_what_waits_are_bounded_together() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    east.pods().exec("nft", &["add table ip deaf; add chain ip deaf in { type filter hook input priority 0; }"]);
    east.pods().exec("nft", &["add rule ip deaf in ip daddr 10.0.0.2 tcp dport 8080 drop"]);
    let (west, waiting) = configs(&topology, Transport::Tls, "{pending: 3}");
    let _echoes = echoes(&topology);
    let pair = Pair::start_with(&topology, &west, &waiting.clone().with_export_policy("{timeouts: {connect: 1s}}"));
    assert!(try_many(&pair, WEST).is_empty());
    pair.east.wait_metric("isthmus_refusals_total", &[r#"bound="link_pending""#], |n| n >= (TRIED - 3) as f64);
    east.pods().exec("nft", &["delete table ip deaf"]);
    pair.wait_echo();
    pair.east.configure(&waiting.with_link_limits("{opensPerSecond: 10}"));
    let mut served = Vec::new();
    eventually("so many a second are let in", || {
        served = try_many(&pair, WEST);
        let refused = pair.east.metrics().sum("isthmus_refusals_total", &[r#"bound="link_opens""#]);
        if refused > 0.0 { Ok(()) } else { Err(format!("{} were", served.len())) }
    });
    still_served(&pair, &mut served);
    // It comes back by itself.
    pair.wait_echo();
}

#[test]
fn bytes_of_all_services_move_at_the_rate_of_the_link() {
    const LENGTH: u64 = 1 << 20;
    let topology = Topology::west_and_east();
    let (west, east) = configs(&topology, Transport::Tls, "{bytesPerSecond: 2MiB}");
    let pods = topology.cluster("east").pods();
    let _sources = [pair::endpoint(), pod(3, 8080)].map(|at| {
        Endpoint::serve(pods, topology.cluster("east").tasks(), at, |stream| endpoint::source(stream, 7, LENGTH))
    });
    let pair = Pair::start_with(&topology, &west, &east);
    pair.west.wait_imported(OTHER, &["east"]);
    let begun = Instant::now();
    topology.block_on(async {
        let mut receiving = JoinSet::new();
        for at in [pair::import(), other(), pair::import(), other()] {
            let mut stream = client::connect(topology.cluster("west").pods(), at).await.unwrap();
            receiving.spawn(async move { client::receive(&mut stream).await });
        }
        for received in receiving.join_all().await {
            received.assert_whole(7, LENGTH);
        }
    });
    // Four MiB at two a second, but for what may move at once.
    assert!(begun.elapsed() >= Duration::from_millis(1200), "{:?}", begun.elapsed());
}

/// A bound of the link says nothing of what others can take.
#[test]
fn what_a_link_refuses_is_served_elsewhere() {
    let topology = Topology::west_and_east();
    let _echoes = echoes(&topology);
    let west = topology.cluster("west");
    let _own = Endpoint::serve(west.pods(), west.tasks(), pair::endpoint(), endpoint::echo);
    let (west_config, east_config) = configs(&topology, Transport::Tls, "{streams: 3}");
    let west_config = west_config.exports(pair::SERVICE, &[pair::endpoint()]).with_affinity("remote");
    let pair = Pair::start_with(&topology, &west_config, &east_config);
    pair.west.wait_imported(pair::SERVICE, &["east", "west"]);
    let mut served = try_many(&pair, WEST);
    assert_eq!(served.len(), TRIED);
    still_served(&pair, &mut served);
    let link_streams = &[r#"bound="link_streams""#];
    assert!(pair.east.metrics().sum("isthmus_refusals_total", link_streams) > 0.0);
    pair.east.wait_metric("isthmus_streams_active", &[r#"direction="ingress""#], |n| n == 3.0);
}

/// Datagrams do not wait for the rate, so that they would always come before those who do.
#[test]
fn a_flood_of_datagrams_leaves_streams_their_half() {
    const LENGTH: u64 = 1 << 20;
    for transport in [Transport::Tls, Transport::Quic] {
        let topology = Topology::west_and_east();
        let east = topology.cluster("east");
        let (west_config, east_config) = configs(&topology, transport, "{bytesPerSecond: 1MiB}");
        let (udp, udp_at) = ("net/udp", SocketAddr::new(pair::import().ip(), 5400));
        let _echo = UdpEcho::serve(east.pods(), pod(2, 5400), "");
        let _source =
            Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |stream| endpoint::source(stream, 7, LENGTH));
        let pair = Pair::start_with(
            &topology,
            &west_config.imports_both(udp, udp_at),
            &east_config.exports_both(udp, 5400, &[pod(2, 0).ip()]),
        );
        pair.west.wait_imported(udp, &["east"]);
        let flood = datagrams::client(topology.cluster("west").pods(), udp_at);
        assert_eq!(datagrams::ask(&flood, b"there?").unwrap(), b"there?");
        let over = Arc::new(AtomicBool::new(false));
        let flooding = std::thread::spawn({
            let over = over.clone();
            move || {
                while !over.load(Ordering::Relaxed) {
                    // Three MB a second; what there is no room for anywhere is part of the flood.
                    let _ = flood.send(&[7; 1000]);
                    std::thread::sleep(Duration::from_micros(333));
                }
            }
        });
        let rate_dropped = [r#"reason="rate""#];
        pair.east.wait_metric("isthmus_datagrams_dropped_total", &rate_dropped, |n| n > 100.0);
        let received = topology.block_on(async {
            let mut stream = pair.connect().await.unwrap();
            tokio::time::timeout(Duration::from_secs(60), client::receive(&mut stream)).await
        });
        over.store(true, Ordering::Relaxed);
        flooding.join().unwrap();
        received.expect("the stream has its half").assert_whole(7, LENGTH);
    }
}

/// One stream that began when little was allowed is no measure for the others.
#[test]
fn more_bytes_a_second_count_for_all_streams() {
    const LENGTH: u64 = 8 << 20;
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let (west_config, east_config) = configs(&topology, Transport::Tls, "{bytesPerSecond: 64KiB}");
    let _sources = [pair::endpoint(), pod(3, 8080)]
        .map(|at| Endpoint::serve(east.pods(), east.tasks(), at, |stream| endpoint::source(stream, 7, LENGTH)));
    let pair = Pair::start_with(&topology, &west_config, &east_config);
    pair.west.wait_imported(OTHER, &["east"]);
    let mut old = topology.block_on(async {
        let mut old = pair.connect().await.unwrap();
        old.read_exact(&mut [0; 10_000]).await.unwrap();
        old
    });
    pair.east.configure(&east_config.with_link_limits("{bytesPerSecond: 1GiB}"));
    // At 64 KiB a second each of them takes two minutes.
    topology.block_on(async {
        let both = async {
            let mut new = client::connect(topology.cluster("west").pods(), other()).await.unwrap();
            client::receive(&mut new).await.assert_whole(7, LENGTH);
            let mut rest = vec![0; LENGTH as usize - 10_000];
            old.read_exact(&mut rest).await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("the old rate is over");
    });
}

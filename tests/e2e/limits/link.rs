//! Limits of a link: all streams of a peer together, whatever their service.

use super::{TRIED, WEST, still_served, try_many};
use crate::over_each_transport;
use isthmus_tests::{
    Config, Endpoint, Topology, Transport, client, endpoint, eventually,
    pair::{self, Pair},
    topology::pod,
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

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

/// Ten a second, three that nobody has taken yet.
#[test]
fn opens_and_what_waits_are_bounded_together() {
    let topology = Topology::west_and_east();
    let (west, east) = configs(&topology, Transport::Tls, "{opensPerSecond: 10, pending: 3}");
    let _echoes = echoes(&topology);
    let pair = Pair::start_with(&topology, &west, &east);
    let begun = Instant::now();
    let mut served = try_many(&pair, WEST);
    let most = 10 + (begun.elapsed().as_secs_f64() * 10.0).ceil() as usize;
    assert!((3..=most).contains(&served.len()), "{} of at most {most}", served.len());
    still_served(&pair, &mut served);
    let metrics = pair.east.metrics();
    let refused: f64 = ["link_opens", "link_pending"]
        .map(|bound| metrics.sum("isthmus_refusals_total", &[&format!("bound=\"{bound}\"")]))
        .iter()
        .sum();
    assert_eq!(refused, (TRIED - served.len()) as f64);
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

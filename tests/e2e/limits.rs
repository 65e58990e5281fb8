//! Limits, budgets and timeouts of a service: what is beyond them is refused, what is within them goes on.

mod link;

use crate::over_each_transport;
use isthmus_tests::{
    Endpoint, Topology, Transport, client, endpoint,
    pair::{self, Pair},
    process::allow_descriptors,
    topology::pod,
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

over_each_transport!(
    no_more_streams_than_a_service_may_have,
    a_stream_that_takes_too_long_is_reset,
    streams_that_share_a_rate_take_turns,
    clients_that_have_gone_are_noticed_before_their_turn,
);

/// Streams that are tried at once, many more than any limit here.
const TRIED: usize = 40;

const WEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 8));

/// West imports and east exports with these policies; the endpoints echo.
fn start<'a>(
    topology: &'a Topology,
    transport: Transport,
    import: &'static str,
    export: &'static str,
) -> (Pair<'a>, Endpoint) {
    let east = topology.cluster("east");
    let echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start_with(
        topology,
        &pair::west_config(topology, transport).with_import_policy(import),
        &pair::east_config(topology, transport, &[pair::endpoint()]).with_export_policy(export),
    );
    (pair, echo)
}

async fn open(socket: tokio::net::TcpSocket, from: IpAddr) -> io::Result<TcpStream> {
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(pair::import()).await?;
    client::exchange(&mut stream, b"let me in").await?;
    Ok(stream)
}

/// Tries [`TRIED`] streams at once from an address of west's, and keeps those that are served.
fn try_many(pair: &Pair<'_>, from: IpAddr) -> Vec<TcpStream> {
    let pods = pair.west.cluster().pods();
    let sockets: Vec<_> = (0..TRIED).map(|_| pods.run(tokio::net::TcpSocket::new_v4).unwrap()).collect();
    pair.topology.block_on(async {
        let mut tries = JoinSet::new();
        for socket in sockets {
            tries.spawn(open(socket, from));
        }
        tries.join_all().await.into_iter().filter_map(Result::ok).collect()
    })
}

fn still_served(pair: &Pair<'_>, streams: &mut [TcpStream]) {
    pair.topology.block_on(async {
        for stream in streams {
            client::exchange(stream, b"still there?").await.unwrap();
        }
    });
}

fn no_more_streams_than_a_service_may_have(transport: Transport) {
    let topology = Topology::west_and_east();
    let (pair, _echo) = start(&topology, transport, "{}", "{limits: {streams: 5}}");
    let mut served = try_many(&pair, WEST);
    assert_eq!(served.len(), 5);
    still_served(&pair, &mut served);
    let beyond = (TRIED - 5) as f64;
    pair.east.wait_metric("isthmus_refusals_total", &[r#"bound="service_streams""#], |n| n >= beyond);
    pair.west.wait_metric("isthmus_streams_closed_total", &[r#"reason="refused_limit""#], |n| n == beyond);
    // What ends makes room.
    drop(served.drain(..2));
    pair.east.wait_metric("isthmus_streams_active", &[], |n| n == 3.0);
    let more = try_many(&pair, WEST);
    assert_eq!(more.len(), 2);
    still_served(&pair, &mut served);
}

#[test]
fn an_import_has_limits_of_its_own() {
    let topology = Topology::west_and_east();
    let (pair, echo) = start(&topology, Transport::Tls, "{limits: {streams: 7}}", "{}");
    let mut served = try_many(&pair, WEST);
    assert_eq!((served.len(), echo.accepted()), (7, 7), "the peer is not asked for the others");
    still_served(&pair, &mut served);
    let metrics = pair.west.metrics();
    assert_eq!(metrics.sum("isthmus_refusals_total", &[r#"bound="service_streams""#]), (TRIED - 7) as f64);
}

#[test]
fn each_source_has_its_own_and_leaves_the_others_theirs() {
    let topology = Topology::west_and_east();
    let (pair, _echo) = start(&topology, Transport::Tls, "{}", "{limits: {streams: 10, perSource: {streams: 3}}}");
    let mut first = try_many(&pair, WEST);
    let mut second = try_many(&pair, OTHER);
    assert_eq!((first.len(), second.len()), (3, 3));
    still_served(&pair, &mut first);
    still_served(&pair, &mut second);
    let metrics = pair.east.metrics();
    assert_eq!(metrics.sum("isthmus_refusals_total", &[r#"bound="source_streams""#]), (2 * (TRIED - 3)) as f64);
    assert_eq!(metrics.sum("isthmus_refusals_total", &[r#"bound="service_streams""#]), 0.0);
}

#[test]
fn a_peer_has_its_own_and_leaves_the_clusters_clients_theirs() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let config =
        pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]).imports(pair::SERVICE, pair::import());
    let config = config.with_export_policy("{limits: {perPeer: {streams: 4}}}").with_affinity("local");
    let pair = Pair::start_with(&topology, &pair::west_config(&topology, Transport::Tls), &config);
    let mut served = try_many(&pair, WEST);
    assert_eq!(served.len(), 4);
    topology.block_on(async {
        let mut own = Vec::new();
        for _ in 0..4 {
            let mut stream = client::connect(east.pods(), pair::import()).await.unwrap();
            client::exchange(&mut stream, b"let me in").await.unwrap();
            own.push(stream);
        }
        let beyond = client::connect(east.pods(), pair::import()).await;
        let refused = match beyond {
            Ok(mut stream) => client::exchange(&mut stream, b"let me in").await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "the cluster's own clients are a peer as well");
    });
    still_served(&pair, &mut served);
    pair.east.wait_metric("isthmus_refusals_total", &[r#"bound="peer_streams""#], |n| n == (TRIED - 4) as f64 + 1.0);
}

#[test]
fn so_many_streams_a_second() {
    for (policy, bound) in [
        ("{limits: {opensPerSecond: 10}}", "service_opens"),
        ("{limits: {perPeer: {opensPerSecond: 10}}}", "peer_opens"),
        ("{limits: {perSource: {opensPerSecond: 10}}}", "source_opens"),
    ] {
        let topology = Topology::west_and_east();
        let (pair, _echo) = start(&topology, Transport::Tls, "{}", policy);
        let begun = Instant::now();
        let mut served = try_many(&pair, WEST);
        let most = 10 + (begun.elapsed().as_secs_f64() * 10.0).ceil() as usize;
        assert!((10..=most).contains(&served.len()), "{policy}: {} of at most {most}", served.len());
        still_served(&pair, &mut served);
        let label = format!(r#"bound="{bound}""#);
        pair.east.wait_metric("isthmus_refusals_total", &[&label], |n| n == (TRIED - served.len()) as f64);
        // It comes back by itself.
        pair.wait_echo();
    }
}

/// Those that wait for an endpoint that says nothing do not pile up.
#[test]
fn no_more_wait_for_an_endpoint_than_may() {
    for (policy, bound) in [
        ("{limits: {pending: 3}, timeouts: {connect: 1s}}", "service_pending"),
        ("{limits: {perPeer: {pending: 3}}, timeouts: {connect: 1s}}", "peer_pending"),
        ("{limits: {perSource: {pending: 3}}, timeouts: {connect: 1s}}", "source_pending"),
    ] {
        let topology = Topology::west_and_east();
        let east = topology.cluster("east");
        east.pods().exec("nft", &["add table ip deaf; add chain ip deaf in { type filter hook input priority 0; }"]);
        east.pods().exec("nft", &["add rule ip deaf in ip daddr 10.0.0.2 tcp dport 8080 drop"]);
        let (pair, _echo) = start(&topology, Transport::Tls, "{}", policy);
        assert!(try_many(&pair, WEST).is_empty());
        let label = format!(r#"bound="{bound}""#);
        pair.east.wait_metric("isthmus_refusals_total", &[&label], |n| n == (TRIED - 3) as f64);
        pair.west.wait_metric("isthmus_streams_closed_total", &[r#"reason="refused_timeout""#], |n| n == 3.0);
        east.pods().exec("nft", &["delete table ip deaf"]);
        pair.wait_echo();
    }
}

#[test]
fn bytes_move_at_the_rate_that_streams_share() {
    const LENGTH: u64 = 1 << 20;
    for policy in [
        "{limits: {bytesPerSecond: 2MiB}}",
        "{limits: {perPeer: {bytesPerSecond: 2MiB}}}",
        "{limits: {perSource: {bytesPerSecond: 2MiB}}}",
    ] {
        let topology = Topology::west_and_east();
        let east = topology.cluster("east");
        let _source =
            Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |stream| endpoint::source(stream, 7, LENGTH));
        let pair = Pair::start_with(
            &topology,
            &pair::west_config(&topology, Transport::Tls),
            &pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]).with_export_policy(policy),
        );
        let begun = Instant::now();
        topology.block_on(async {
            let mut all = Vec::new();
            for _ in 0..4 {
                all.push(pair.connect().await.unwrap());
            }
            let mut receiving = JoinSet::new();
            for mut stream in all {
                receiving.spawn(async move { client::receive(&mut stream).await });
            }
            for received in receiving.join_all().await {
                received.assert_whole(7, LENGTH);
            }
        });
        // Four MiB at two a second, but for what may move at once.
        assert!(begun.elapsed() >= Duration::from_millis(1200), "{policy}: {:?}", begun.elapsed());
    }
}

/// However little there is of it.
fn streams_that_share_a_rate_take_turns(transport: Transport) {
    const STREAMS: usize = 10;
    const ENOUGH: usize = 320 * 1024;
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _source =
        Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |stream| endpoint::source(stream, 7, 1 << 30));
    let pair = Pair::start_with(
        &topology,
        &pair::west_config(&topology, transport),
        &pair::east_config(&topology, transport, &[pair::endpoint()])
            .with_export_policy("{limits: {bytesPerSecond: 128KiB}}"),
    );
    let had: Vec<usize> = topology.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push((pair.connect().await.unwrap(), 0));
        }
        let (mut room, mut total) = (vec![0; 64 * 1024], 0);
        while total < ENOUGH {
            for (stream, had) in &mut streams {
                let read = tokio::time::timeout(Duration::from_millis(10), stream.read(&mut room)).await;
                *had += read.map_or(0, Result::unwrap);
            }
            total = streams.iter().map(|(_, had)| had).sum();
        }
        streams.into_iter().map(|(_, had)| had).collect()
    });
    let fair = ENOUGH / STREAMS;
    assert!(had.iter().all(|&had| had >= fair / 2 && had <= fair * 2), "{had:?}");
}

/// So many that their turns come round once a minute.
fn clients_that_have_gone_are_noticed_before_their_turn(transport: Transport) {
    const STREAMS: usize = 600;
    allow_descriptors(20_000);
    let topology = Topology::west_and_east();
    let (pair, _echo) = start(&topology, transport, "{}", "{limits: {bytesPerSecond: 64KiB}}");
    topology.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let mut stream = pair.connect().await.unwrap();
            stream.write_all(&[7; 16 * 1024]).await.unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            streams.push(stream);
        }
        pair.east.wait_metric("isthmus_streams_active", &[], |active| active == STREAMS as f64);
    });
    pair.east.wait_metric("isthmus_streams_active", &[], |active| active == 0.0);
    pair.east.wait_metric("isthmus_streams_closed_total", &[r#"reason="reset_peer""#], |n| n == STREAMS as f64);
}

/// Out of a tunnel bytes go to the local socket by themselves, if nobody holds them.
#[test]
fn bytes_out_of_a_tunnel_move_at_that_rate_too() {
    const LENGTH: u64 = 4 << 20;
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let (told, mut heard) = mpsc::channel(1);
    let _sink = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), move |stream| {
        endpoint::sink(stream, told.clone())
    });
    let _source =
        Endpoint::serve(east.pods(), east.tasks(), pod(3, 8080), |stream| endpoint::source(stream, 7, LENGTH));
    let policy = "{limits: {bytesPerSecond: 2MiB}}";
    let (source, source_at) = ("shop/source", SocketAddr::new(pair::import().ip(), 18081));
    let pair = Pair::start_with(
        &topology,
        &pair::west_config(&topology, Transport::Tls).imports(source, source_at).with_import_policy(policy),
        &pair::east_config(&topology, Transport::Tls, &[pair::endpoint()])
            .exports(source, &[pod(3, 8080)])
            .with_export_policy(policy),
    );
    pair.west.wait_imported(source, &["east"]);
    topology.block_on(async {
        let begun = Instant::now();
        let mut up = pair.connect().await.unwrap();
        client::send(&mut up, 7, LENGTH).await.unwrap();
        up.shutdown().await.unwrap();
        heard.recv().await.unwrap().assert_whole(7, LENGTH);
        assert!(begun.elapsed() >= Duration::from_millis(1200), "up: {:?}", begun.elapsed());
        let begun = Instant::now();
        let mut down = client::connect(topology.cluster("west").pods(), source_at).await.unwrap();
        client::receive(&mut down).await.assert_whole(7, LENGTH);
        assert!(begun.elapsed() >= Duration::from_millis(1200), "down: {:?}", begun.elapsed());
    });
}

/// A gateway that may open no more files: streams are refused, and nobody takes the endpoints to be dead for that.
#[test]
fn a_gateway_without_descriptors_refuses_and_blames_no_endpoint() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _others: Vec<_> =
        [3, 4].map(|host| Endpoint::serve(east.pods(), east.tasks(), pod(host, 8080), endpoint::echo)).into();
    let pair = Pair::start_with(
        &topology,
        &pair::west_config(&topology, Transport::Tls),
        &pair::east_config(&topology, Transport::Tls, &[pod(3, 8080), pod(4, 8080)]),
    );
    pair.wait_echo();
    pair.east.bound_descriptors(pair.east.descriptors() + 5);
    let mut served = try_many(&pair, WEST);
    // The admin address has need of one, too.
    pair.east.bound_descriptors(20_000);
    assert!(served.len() < TRIED, "{} of {TRIED}", served.len());
    pair.east.wait_metric("isthmus_refusals_total", &[r#"bound="sockets""#], |n| n > 0.0);
    pair.west.wait_metric("isthmus_streams_closed_total", &[r#"reason="refused_limit""#], |n| n > 0.0);
    still_served(&pair, &mut served);
    assert_eq!(pair.east.metrics().sum("isthmus_endpoint_ejections_total", &[]), 0.0);
    assert_eq!(try_many(&pair, WEST).len(), TRIED, "all are served at once again");
}

fn a_stream_that_takes_too_long_is_reset(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let _hangs = Endpoint::serve(east.pods(), east.tasks(), pod(3, 8080), endpoint::hang);
    let timeouts = "{timeouts: {firstByte: 500ms, idle: 2s, maxAge: 6s}}";
    let (silent, silent_at) = ("shop/silent", SocketAddr::new(pair::import().ip(), 18081));
    let pair = Pair::start_with(
        &topology,
        &pair::west_config(&topology, transport).imports(silent, silent_at),
        &pair::east_config(&topology, transport, &[pair::endpoint()])
            .exports(silent, &[pod(3, 8080)])
            .with_export_policy(timeouts),
    );
    pair.west.wait_imported(silent, &["east"]);
    topology.block_on(async {
        // One that is asked and does not answer.
        let mut asking = client::connect(topology.cluster("west").pods(), silent_at).await.unwrap();
        assert!(
            client::exchange(&mut asking, b"anybody?").await.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
        );
        // One that falls silent, and one that does not until it is too old.
        let mut idle = pair.connect().await.unwrap();
        let mut busy = pair.connect().await.unwrap();
        client::exchange(&mut idle, b"once").await.unwrap();
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        let begun = Instant::now();
        let ended = loop {
            ticks.tick().await;
            if let Err(error) = client::exchange(&mut busy, b"tick").await {
                break error;
            }
        };
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
        assert!(begun.elapsed() >= Duration::from_secs(5), "it was not idle: {:?}", begun.elapsed());
        client::receive(&mut idle).await.assert_reset(0);
    });
    let reset = &[r#"reason="timeout""#, r#"direction="ingress""#];
    pair.east.wait_metric("isthmus_streams_closed_total", reset, |n| n == 3.0);
}

/// Streams are tried again within the budget, and fail beyond it.
#[test]
fn where_an_endpoint_is_dead_no_more_is_tried_again_than_the_budget_allows() {
    for (policy, spared) in [("{}", true), ("{retries: {budget: 0%, perSecond: 0}}", false)] {
        let topology = Topology::west_and_east();
        let east = topology.cluster("east");
        let _echo = Endpoint::serve(east.pods(), east.tasks(), pod(3, 8080), endpoint::echo);
        let pair = Pair::start_with(
            &topology,
            &pair::west_config(&topology, Transport::Tls),
            &pair::east_config(&topology, Transport::Tls, &[pod(2, 8080), pod(3, 8080)]).with_export_policy(policy),
        );
        let served = try_many(&pair, WEST).len();
        // What a stream was tried again is counted when it ends.
        pair.east.wait_metric("isthmus_streams_active", &[], |active| active == 0.0);
        let metrics = pair.east.metrics();
        let retries = metrics.sum("isthmus_stream_retries_total", &[r#"direction="ingress""#]);
        let refused = metrics.sum("isthmus_refusals_total", &[r#"bound="retry_budget""#]);
        if spared {
            assert_eq!((served, refused), (TRIED, 0.0), "the budget of a service that is idle is enough");
            assert!(retries > 0.0);
        } else {
            assert_eq!(retries, 0.0, "what was not tried again is not counted as if it were");
            assert!(served < TRIED && refused >= (TRIED - served) as f64, "{served} served, {refused} not tried again");
        }
    }
}

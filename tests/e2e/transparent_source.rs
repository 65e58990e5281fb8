//! Endpoints that see the client's own address: what has to be routed for it, and what becomes of streams where it is not.

use isthmus_tests::{
    Cluster, Config, Endpoint, Gateway, Netns, Pattern, Topology, Transport, check, client,
    client::End,
    endpoint,
    gateway::Surroundings,
    pair::{self, Pair},
    topology::pod,
};
use serde_json::Value;
use std::{
    io,
    net::{IpAddr, SocketAddr},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

/// Clients of west, in networks that no other cluster has addresses of.
const CLIENTS: [&str; 2] = ["10.1.0.9", "fd00:1::9"];
/// The service over IPv6, where west's clients find it, and where it is.
const SERVICE6: &str = "shop/api6";
const IMPORT6: &str = "[fd00:a::1]:18081";
const ENDPOINT6: &str = "[fd00:a::2]:8080";
const POLICY: &str =
    "{transparentSource: [{cluster: west, cidrs: [10.1.0.0/24, \"fd00:1::/64\"]}], timeouts: {connect: 1s}}";
/// What east's own file allows.
const ALLOWED: &str = "transparentSources: [10.1.0.0/24, \"fd00:1::/64\"]";
/// Bytes that come back behind a client's end.
const TAIL: usize = 70_000;

/// West and east with IPv6 beside IPv4, and networks of clients of their own in west.
fn topology() -> Topology {
    let topology = Topology::west_and_east();
    for name in ["west", "east"] {
        let cluster = topology.cluster(name);
        cluster.edge().ip("-6 address add fd00:a::1/64 dev pods nodad");
        cluster.pods().ip("-6 address add fd00:a::2/64 dev eth0 nodad");
    }
    let west = topology.cluster("west");
    west.pods().ip("address add 10.1.0.9/32 dev eth0");
    west.pods().ip("-6 address add fd00:1::9/128 dev eth0 nodad");
    west.edge().ip("route add 10.1.0.0/24 dev pods");
    west.edge().ip("-6 route add fd00:1::/64 dev pods");
    topology
}

fn west(topology: &Topology) -> Config {
    pair::west_config(topology, Transport::Tls).imports(SERVICE6, IMPORT6.parse().unwrap())
}

fn east(topology: &Topology) -> Config {
    let config = pair::east_config(topology, Transport::Tls, &[pair::endpoint()]);
    config.exports(SERVICE6, &[ENDPOINT6.parse().unwrap()]).with_export_policy(POLICY).with(ALLOWED)
}

/// Where each of [`CLIENTS`] finds its service.
fn ways() -> [(IpAddr, SocketAddr); 2] {
    let [v4, v6] = CLIENTS.map(|client| client.parse().unwrap());
    [(v4, pair::import()), (v6, IMPORT6.parse().unwrap())]
}

/// Does what a stream's first byte says: tells who has connected, answers behind the client's end, resets, or tells how it ended.
fn serve(east: &Cluster, address: SocketAddr, told: mpsc::Sender<client::Received>) -> Endpoint {
    Endpoint::serve(east.pods(), east.tasks(), address, move |mut stream| {
        let told = told.clone();
        async move {
            match stream.read_u8().await? {
                b'?' => {
                    let peer = stream.peer_addr()?.ip().to_string();
                    stream.write_all(peer.as_bytes()).await?;
                    stream.shutdown().await
                }
                b'h' => endpoint::answer_after_end(stream, 2, TAIL).await,
                b'r' => {
                    endpoint::reset(stream);
                    Ok(())
                }
                // It answers, so that what comes next comes on a stream that is open.
                _ => {
                    stream.write_u8(b's').await?;
                    endpoint::sink(stream, told).await
                }
            }
        }
    })
}

async fn open(topology: &Topology, (from, to): (IpAddr, SocketAddr), what: u8) -> io::Result<TcpStream> {
    let mut stream = client::connect_from(topology.cluster("west").pods(), from, to).await?;
    stream.write_u8(what).await?;
    Ok(stream)
}

/// Whom the endpoint sees.
async fn seen(topology: &Topology, way: (IpAddr, SocketAddr)) -> io::Result<String> {
    let mut seen = String::new();
    open(topology, way, b'?').await?.read_to_string(&mut seen).await?;
    Ok(seen)
}

/// What `check` says of addresses that endpoints see.
fn sources(gateway: &Gateway<'_>) -> Vec<Value> {
    let report = check::check(gateway, &[]);
    let lines = report["lines"].as_array().cloned().unwrap_or_default();
    lines.into_iter().filter(|line| line["check"] == "export.source").collect()
}

/// Runs the commands of a fix, each where it says.
fn put_right(east: &Cluster, fix: &str) {
    let mut place: &Netns = east.edge();
    for line in fix.lines() {
        match line.strip_suffix(':') {
            Some("at the gateway's host") => place = east.edge(),
            Some(at) if at.starts_with("at ") => place = east.pods(),
            _ => drop(place.exec("sh", &["-c", line])),
        }
    }
}

#[test]
fn check_names_what_is_missing_and_with_it_endpoints_see_the_client() {
    let topology = topology();
    let cluster = topology.cluster("east");
    let (told, mut hear) = mpsc::channel(1);
    let _endpoints = [pair::endpoint(), ENDPOINT6.parse().unwrap()].map(|at| serve(cluster, at, told.clone()));
    let pair = Pair::start_with(&topology, &west(&topology), &east(&topology));
    pair.west.wait_imported(SERVICE6, &["east"]);

    let missing = sources(&pair.east);
    assert_eq!(missing.len(), 2, "{missing:?}");
    for line in &missing {
        assert_eq!(line["mark"], "failed", "{line}");
        assert!(line["found"].as_str().unwrap().contains("no rule and route"), "{line}");
        let routes = line["fix"].as_str().unwrap().lines();
        let routes = routes.filter(|line| line.contains(" rule add ") || line.contains(" route add local "));
        routes.for_each(|route| drop(cluster.edge().exec("sh", &["-c", route])));
    }
    let unmarked = sources(&pair.east);
    for line in &unmarked {
        assert!(line["found"].as_str().unwrap().contains("this host has rule and route"), "{line}");
        put_right(cluster, line["fix"].as_str().unwrap());
    }
    let marks: Vec<_> = sources(&pair.east).iter().map(|line| line["mark"].clone()).collect();
    assert_eq!(marks, ["ok", "ok"]);

    topology.block_on(async {
        for way in ways() {
            assert_eq!(seen(&topology, way).await.unwrap(), way.0.to_string());

            let mut stream = open(&topology, way, b'h').await.unwrap();
            client::send(&mut stream, 1, 100_000).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut digest = [0; 32];
            stream.read_exact(&mut digest).await.unwrap();
            assert_eq!(&digest, Pattern::digest(1, 100_000).as_bytes(), "from {}", way.0);
            client::receive(&mut stream).await.assert_whole(2, TAIL as u64);

            let reset = End::Error(io::ErrorKind::ConnectionReset);
            let mut stream = open(&topology, way, b'r').await.unwrap();
            assert_eq!(client::receive(&mut stream).await.end, reset, "by the endpoint of {}", way.0);
            let mut stream = open(&topology, way, b's').await.unwrap();
            stream.read_u8().await.unwrap();
            endpoint::reset(stream);
            assert_eq!(hear.recv().await.unwrap().end, reset, "by {}", way.0);
        }
        let other = (pod(9, 0).ip(), pair::import());
        assert_eq!(seen(&topology, other).await.unwrap(), "10.0.0.1", "who is not listed comes from the gateway");
    });
    let metrics = pair.east.metrics();
    let count = |source: &str| metrics.sum("isthmus_endpoint_sources_total", &[&format!("source=\"{source}\"")]);
    assert!(count("transparent") >= 8.0 && count("unlisted") >= 1.0 && count("unanswered") == 0.0, "{metrics:?}");
}

/// Two endpoints, one of which may be left out, and soon would be.
fn start_two(topology: &Topology) -> Pair<'_> {
    const TOUCHY: &str = "{transparentSource: [{cluster: west, cidrs: [10.1.0.0/24]}], timeouts: {connect: 800ms}, \
                          outliers: {failures: 2, resets: 2}}";
    let west = pair::west_config(topology, Transport::Tls).with("cores: 1");
    let east = pair::east_config(topology, Transport::Tls, &both()).with_export_policy(TOUCHY);
    Pair::start_with(topology, &west, &east.with(ALLOWED).with("cores: 1"))
}

fn both() -> [SocketAddr; 2] {
    [pair::endpoint(), pod(2, 8081)]
}

fn count(pair: &Pair<'_>, source: &str) -> f64 {
    pair.east.metrics().sum("isthmus_endpoint_sources_total", &[&format!("source=\"{source}\"")])
}

/// What is wrong with a client's address is nobody else's loss: no way back, a host that rejects it, no way there, resets.
#[test]
fn addresses_that_connections_fail_from_cost_others_no_endpoint() {
    const STREAMS: usize = 8;
    let topology = topology();
    let cluster = topology.cluster("east");
    let (told, _hear) = mpsc::channel(1);
    let _endpoints = both().map(|at| serve(cluster, at, told.clone()));
    let pair = start_two(&topology);
    let [lost, _] = ways();
    let lose = |what: u8| {
        let before = count(&pair, "unanswered");
        topology.block_on(async {
            for _ in 0..STREAMS {
                let answer = async { open(&topology, lost, what).await?.read_to_end(&mut Vec::new()).await };
                assert!(answer.await.is_err());
            }
        });
        before + STREAMS as f64
    };
    let nobody_has_lost_anything = || {
        let other = (pod(9, 0).ip(), pair::import());
        for _ in 0..4 {
            assert_eq!(topology.block_on(seen(&topology, other)).unwrap(), "10.0.0.1");
        }
        let status = pair.east.status();
        for endpoint in status["services"][0]["endpoints"].as_array().unwrap() {
            assert_eq!(endpoint["health"], "healthy", "{status}");
        }
        assert_eq!(pair.east.metrics().sum("isthmus_endpoint_ejections_total", &[]), 0.0);
    };
    let wait = |lost: f64| {
        pair.east.wait_metric("isthmus_endpoint_sources_total", &["source=\"unanswered\""], |count| count >= lost);
    };

    wait(lose(b'?'));
    assert_eq!(count(&pair, "transparent"), 0.0, "each is counted once, at its end");
    nobody_has_lost_anything();

    sources(&pair.east).iter().for_each(|line| put_right(cluster, line["fix"].as_str().unwrap()));
    assert_eq!(topology.block_on(seen(&topology, lost)).unwrap(), CLIENTS[0]);

    let rejecting = "nft add table inet rejecting && \
                     nft add chain inet rejecting in '{ type filter hook input priority 0; }' && \
                     nft add rule inet rejecting in ip saddr 10.1.0.9 tcp dport '{ 8080, 8081 }' reject with tcp reset";
    cluster.pods().exec("sh", &["-c", rejecting]);
    wait(lose(b'?'));
    nobody_has_lost_anything();
    cluster.pods().exec("nft", &["delete", "table", "inet", "rejecting"]);

    cluster.edge().ip("rule add from 10.1.0.9 to 10.0.0.2 unreachable");
    wait(lose(b'?'));
    nobody_has_lost_anything();
    cluster.edge().ip("rule delete from 10.1.0.9 to 10.0.0.2 unreachable");

    lose(b'r');
    nobody_has_lost_anything();
    assert_eq!(topology.block_on(seen(&topology, lost)).unwrap(), CLIENTS[0]);
}

#[test]
fn whoever_is_only_late_for_a_clients_own_address_has_a_way_back() {
    const MOST: usize = 64;
    let topology = topology();
    let cluster = topology.cluster("east");
    let (told, _hear) = mpsc::channel(1);
    let _endpoints = both().map(|at| serve(cluster, at, told.clone()));
    const PATIENT: &str = "{transparentSource: [{cluster: west, cidrs: [10.1.0.0/24]}], timeouts: {connect: 60s}}";
    let east = pair::east_config(&topology, Transport::Tls, &both()).with_export_policy(PATIENT);
    let pair = Pair::start_with(&topology, &pair::west_config(&topology, Transport::Tls), &east.with(ALLOWED));
    sources(&pair.east).iter().for_each(|line| put_right(cluster, line["fix"].as_str().unwrap()));
    let hedges =
        |result: &str| pair.east.metrics().sum("isthmus_endpoint_hedges_total", &[&format!("result=\"{result}\"")]);

    // The first packets to one of the two are lost.
    let losing = "nft add table inet losing && \
                  nft add chain inet losing in '{ type filter hook input priority 0; }' && \
                  nft add rule inet losing in ip saddr 10.1.0.9 tcp dport 8080 drop";
    cluster.pods().exec("sh", &["-c", losing]);
    let mut streams = 0;
    while hedges("won") < 1.0 {
        assert!(streams < MOST, "nobody was late");
        assert_eq!(topology.block_on(seen(&topology, ways()[0])).unwrap(), CLIENTS[0]);
        streams += 1;
    }
    cluster.pods().exec("nft", &["delete", "table", "inet", "losing"]);

    let all = streams as f64 + hedges("won");
    pair.east.wait_metric("isthmus_endpoint_sources_total", &["source=\"transparent\""], |count| count >= all);
    assert_eq!(count(&pair, "unanswered"), 0.0);
    assert_eq!(pair.east.metrics().sum("isthmus_endpoint_ejections_total", &[]), 0.0);
}

#[test]
fn the_gateway_uses_no_address_that_its_own_file_does_not_allow() {
    let topology = topology();
    let (told, _hear) = mpsc::channel(1);
    let _endpoint = serve(topology.cluster("east"), pair::endpoint(), told);
    let east = pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]).with_export_policy(POLICY);
    let east = east.with("transparentSources: [10.2.0.0/16]");
    let pair = Pair::start_with(&topology, &pair::west_config(&topology, Transport::Tls), &east);
    let [way, _] = ways();
    assert_eq!(topology.block_on(seen(&topology, way)).unwrap(), "10.0.0.1");
    pair.east.wait_metric("isthmus_endpoint_sources_total", &["source=\"not_permitted\""], |count| count == 1.0);
    let lines = sources(&pair.east);
    let fixes: Vec<_> = lines.iter().map(|line| line["fix"].to_string()).collect();
    assert!(fixes.len() == 1 && fixes[0].contains("add 10.1.0.0/24 to transparentSources"), "{lines:?}");
}

#[test]
fn without_the_capability_streams_come_from_the_gateway_and_check_says_so() {
    let topology = topology();
    let (told, _hear) = mpsc::channel(1);
    let _endpoint = serve(topology.cluster("east"), pair::endpoint(), told);
    let surroundings = Surroundings { without: &["net_raw", "net_admin"], ..Surroundings::default() };
    let gateway = Gateway::start_in(topology.cluster("east"), &east(&topology), &surroundings);
    let west = Gateway::start(topology.cluster("west"), &west(&topology));
    west.wait_imported(pair::SERVICE, &["east"]);
    let [way, _] = ways();
    assert_eq!(topology.block_on(seen(&topology, way)).unwrap(), "10.0.0.1");
    gateway.wait_metric("isthmus_endpoint_sources_total", &["source=\"not_permitted\""], |count| count == 1.0);
    let fixes: Vec<_> = sources(&gateway).iter().map(|line| line["fix"].to_string()).collect();
    assert!(fixes.iter().any(|fix| fix.contains("CAP_NET_RAW")), "{fixes:?}");
}

//! Peers that die, come back, or never come.

use crate::over_each_transport;
use isthmus_tests::{
    Config, End, Endpoint, Gateway, Load, Nginx, Topology, Transport, client, endpoint, eventually,
    load::Reuse,
    pair::{self, Pair},
    topology::{gateway, pod},
};

use std::io::ErrorKind;
use tokio::{io::AsyncReadExt, sync::mpsc};

over_each_transport!(killed_in_mid_stream_and_restarted, killed_with_an_uploading_client);

/// More than any buffer on the way: the transfer is in its middle when the gateway dies.
const ENDLESS: u64 = 1 << 40;

fn killed_in_mid_stream_and_restarted(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let mut pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let source =
        Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |stream| endpoint::source(stream, 2, ENDLESS));
    let mut streams = topology.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..8 {
            let mut stream = pair.connect().await.unwrap();
            stream.read_u8().await.unwrap();
            streams.push(stream);
        }
        streams
    });
    pair.east.kill();
    topology.block_on(async {
        for stream in &mut streams {
            let received = client::receive(stream).await;
            assert_eq!(received.end, End::Error(ErrorKind::ConnectionReset), "a broken transfer must not look whole");
        }
    });
    drop(source);
    let _echo = eventually_serve(east);
    pair.east.restart();
    pair.wait_echo();
}

/// The address may still be held by the connections of the endpoint before.
fn eventually_serve(east: &isthmus_tests::Cluster) -> Endpoint {
    eventually("the endpoint's address is free", || {
        let free = east.pods().connect(pair::endpoint()).is_err();
        if free { Ok(()) } else { Err("it is taken".into()) }
    });
    Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo)
}

fn killed_with_an_uploading_client(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let (told, mut hear) = mpsc::channel(1);
    let _sink = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), move |stream| {
        endpoint::sink(stream, told.clone())
    });
    let mut pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        let mut stream = pair.connect().await.unwrap();
        client::send(&mut stream, 1, 8 << 20).await.unwrap();
        // West's gateway, the one on the client's side: east must not take what came for the whole.
        pair.west.kill();
        let received = hear.recv().await.unwrap();
        assert_eq!(received.end, End::Error(ErrorKind::ConnectionReset), "after {} bytes", received.bytes);
    });
}

/// Three clusters; two export the same service, and one of those has another one besides.
#[test]
fn a_dead_peer_takes_only_its_own_endpoints_with_it() {
    let topology = Topology::new(&["west", "east", "north"]);
    topology.make_identities();
    let [west, east, north] = ["west", "east", "north"].map(|name| topology.cluster(name));
    let _of_east = Nginx::start(east.pods(), east.dir(), pod(2, 8080), "served");
    let _of_north = Nginx::start(north.pods(), north.dir(), pod(2, 8080), "served");
    let exporting = |cluster| Config::new(cluster).is_dialled_by(west).exports(pair::SERVICE, &[pod(2, 8080)]);
    let mut east_gateway = Gateway::start(east, &exporting(east));
    let _north_gateway = Gateway::start(north, &exporting(north).exports("shop/db", &[pod(2, 8080)]));
    let config = Config::new(west).dials(east, Transport::Tls).dials(north, Transport::Tls);
    let config = config.imports(pair::SERVICE, pair::import()).imports("shop/db", gateway(15432));
    let west_gateway = Gateway::start(west, &config);
    west_gateway.wait_imported(pair::SERVICE, &["east", "north"]);
    west_gateway.wait_imported("shop/db", &["north"]);
    let load = |address| Load::start(west.pods(), west.tasks(), address, 4, Reuse::ConnectionPerRequest, "served");
    let (shared, own) = (load(pair::import()), load(gateway(15432)));
    shared.wait_for(100);
    east_gateway.kill();
    west_gateway.wait_imported(pair::SERVICE, &["north"]);
    shared.stop();
    let shared = load(pair::import());
    shared.wait_for(200);
    shared.stop().assert_no_failure();
    own.wait_for(100);
    own.stop().assert_no_failure();
    assert_eq!(west_gateway.clusters_of("shop/db"), ["north"]);
    east_gateway.restart();
    west_gateway.wait_imported(pair::SERVICE, &["east", "north"]);
}

/// West starts while east is away: it knows from its last table what east has, and uses it as soon as east is back.
#[test]
fn the_last_table_is_used_at_a_start_without_the_peer() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let mut pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    pair.wait_echo();
    let kept = pair.west.cluster().dir().join("west-state/last-good.json");
    eventually("the table is on disk", || {
        let text = std::fs::read_to_string(&kept).map_err(|e| e.to_string())?;
        if text.contains("\"peers\":{\"east\":{\"services\":{\"shop/api\"") { Ok(()) } else { Err(text) }
    });
    let version = pair.west.status()["table"]["version"].as_u64();
    pair.east.kill();
    pair.west.kill();
    pair.west.restart();
    assert!(pair.west.status()["table"]["version"].as_u64() >= version, "{}", pair.west.status());
    // The listener is there; without east there is nothing behind it, and a client learns that.
    let received = topology.block_on(async { client::receive(&mut pair.connect().await.unwrap()).await });
    assert_eq!(received.end, End::Error(ErrorKind::ConnectionReset));
    pair.east.restart();
    pair.wait_echo();
}

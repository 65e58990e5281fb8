//! Trust is withdrawn under traffic: the tunnels end, and their streams with them, nothing new gets through, and what is put back
//! works again.

use crate::{over_each_transport, relay};
use isthmus_tests::{
    Cluster, Config, End, Endpoint, Gateway, Received, Topology, Transport, Trio, check, client, endpoint, eventually,
    identity,
    pair::{self, Pair},
    trio,
};
use std::{io::ErrorKind, path::PathBuf, time::Instant};
use tokio::{net::TcpStream, task::JoinSet};

over_each_transport!(
    the_service_takes_the_link_out,
    the_client_takes_the_link_out,
    the_service_takes_the_bundle_away,
    the_client_takes_the_bundle_away,
    the_clients_certificate_is_revoked,
    the_services_certificate_is_revoked,
);

/// More than can have passed when trust ends.
const ENDLESS: u64 = 1 << 40;
/// Streams that carry as much as they can.
const BUSY: u64 = 4;

fn the_service_takes_the_link_out(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_echo, pair) = start(&topology, transport);
    let streams = Streams::start(&pair);
    pair.east.configure(&Config::new(topology.cluster("east")).exports(pair::SERVICE, &[pair::endpoint()]));
    streams.are_reset();
    wait_no_link(&pair.east, "west");
    pair.east.wait_metric("isthmus_handshakes_refused_total", &["reason=\"not_linked\""], |sum| sum > 0.0);
    wait_down(&pair.west, "east", "down");
    assert_refused(&pair);
    pair.east.configure(&pair::east_config(&topology, transport, &[pair::endpoint()]));
    assert_restored(&pair);
}

fn the_client_takes_the_link_out(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_echo, pair) = start(&topology, transport);
    let streams = Streams::start(&pair);
    pair.west.configure(&Config::new(topology.cluster("west")).imports(pair::SERVICE, pair::import()));
    streams.are_reset();
    wait_no_link(&pair.west, "east");
    wait_down(&pair.east, "west", without(transport));
    assert_refused(&pair);
    pair.west.configure(&pair::west_config(&topology, transport));
    assert_restored(&pair);
}

fn the_service_takes_the_bundle_away(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_echo, pair) = start(&topology, transport);
    let streams = Streams::start(&pair);
    let bundle = Bundle::take(topology.cluster("east"), "west");
    streams.are_reset();
    pair.east.wait_log(&["not trusted any more"]);
    wait_down(&pair.east, "west", without(transport));
    let line = check::wait_named(&pair.east, "link west", &["found no CA certificates of west", "bundles/west.pem"]);
    assert!(line["fix"].as_str().unwrap().contains("isthmus identity trust "), "{line}");
    wait_down(&pair.west, "east", "down");
    assert_refused(&pair);
    bundle.put_back();
    assert_restored(&pair);
}

fn the_client_takes_the_bundle_away(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_echo, pair) = start(&topology, transport);
    let streams = Streams::start(&pair);
    let bundle = Bundle::take(topology.cluster("west"), "east");
    streams.are_reset();
    pair.west.wait_log(&["not trusted any more"]);
    wait_down(&pair.west, "east", "down");
    wait_down(&pair.east, "west", without(transport));
    assert_refused(&pair);
    bundle.put_back();
    assert_restored(&pair);
}

fn the_clients_certificate_is_revoked(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_echo, pair) = start(&topology, transport);
    let streams = Streams::start(&pair);
    revoke(&topology, "west", "east");
    streams.are_reset();
    pair.east.wait_log(&["not trusted any more", "revoked"]);
    pair.east.wait_metric("isthmus_handshakes_refused_total", &["reason=\"revoked\""], |sum| sum > 0.0);
    wait_down(&pair.west, "east", "down");
    identity::renew(&topology.cluster("west").identity_dir());
    assert_restored(&pair);
}

fn the_services_certificate_is_revoked(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_echo, pair) = start(&topology, transport);
    let streams = Streams::start(&pair);
    revoke(&topology, "east", "west");
    streams.are_reset();
    pair.west.wait_log(&["not trusted any more", "revoked"]);
    pair.west.wait_metric("isthmus_handshakes_refused_total", &["reason=\"revoked\""], |sum| sum > 0.0);
    wait_down(&pair.west, "east", "down");
    assert_refused(&pair);
    identity::renew(&topology.cluster("east").identity_dir());
    assert_restored(&pair);
}

/// The SVID of `cluster` counts no more: its own CA says so, and `peer` is told.
fn revoke(topology: &Topology, cluster: &str, peer: &str) {
    let list = identity::revoke(&topology.cluster(cluster).identity_dir());
    identity::trust_revocations(&topology.cluster(peer).identity_dir(), cluster, &list);
}

/// Tunnels inside those to a third cluster end, too, and those to that one go on.
fn a_relayed_peer_is_trusted_no_more(end: impl FnOnce(&Trio<'_>) -> Box<dyn FnOnce(&Trio<'_>)>) {
    let topology = relay::nats();
    let _echoes = relay::echoes(&topology);
    let trio = Trio::start(&topology, Transport::Tls, trio::RELAY);
    trio.wait_imported();
    trio.wait_via(Some("hub"));
    let [mut there, mut back] = topology.block_on(async {
        let mut streams = [trio.connect_east().await.unwrap(), trio.connect_west().await.unwrap()];
        for stream in &mut streams {
            client::exchange(stream, b"while trusted").await.unwrap();
        }
        streams
    });
    let restore = end(&trio);
    topology.block_on(async {
        for stream in [&mut there, &mut back] {
            assert_eq!(client::receive(stream).await.end, End::Error(ErrorKind::ConnectionReset));
        }
    });
    trio.west.wait_imported(pair::SERVICE, &[]);
    for link in [trio.hub.link("west"), trio.hub.link("east")] {
        assert_eq!(link["state"], "up", "{link}");
    }
    restore(&trio);
    trio.wait_imported();
    trio.wait_echo();
}

#[test]
fn a_relayed_peers_certificate_is_revoked() {
    a_relayed_peer_is_trusted_no_more(|trio| {
        revoke(trio.topology, "west", "east");
        Box::new(|trio| identity::renew(&trio.topology.cluster("west").identity_dir()))
    });
}

#[test]
fn a_relayed_peers_bundle_is_taken_away() {
    a_relayed_peer_is_trusted_no_more(|trio| {
        let bundle = Bundle::take(trio.topology.cluster("east"), "west");
        Box::new(move |_| bundle.put_back())
    });
}

#[test]
fn a_relayed_peers_link_is_taken_out() {
    a_relayed_peer_is_trusted_no_more(|trio| {
        let [_, east] = trio::ends(trio.topology, Transport::Tls);
        let mut without = east.clone();
        without.links.retain(|link| link.relay.is_none());
        trio.east.configure(&without);
        Box::new(move |trio| trio.east.configure(&east))
    });
}

/// What east calls its link while it cannot come up. Over h2 both sides dial.
fn without(transport: Transport) -> &'static str {
    if transport == Transport::H2 { "down" } else { "waiting" }
}

fn start(topology: &Topology, transport: Transport) -> (Endpoint, Pair<'_>) {
    let east = topology.cluster("east");
    let echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    (echo, Pair::start(topology, transport, &[pair::endpoint()]))
}

/// Streams under way: some that carry as much as they can both ways, and one that is idle.
struct Streams<'t> {
    topology: &'t Topology,
    busy: JoinSet<(u64, Received)>,
    idle: TcpStream,
}

impl<'t> Streams<'t> {
    fn start(pair: &Pair<'t>) -> Self {
        let topology = pair.topology;
        let mut busy = JoinSet::new();
        let idle = topology.block_on(async {
            for seed in 1..=BUSY {
                let stream = pair.connect().await.unwrap();
                busy.spawn(echoed(stream, seed));
            }
            let mut idle = pair.connect().await.unwrap();
            client::exchange(&mut idle, b"while trusted").await.unwrap();
            idle
        });
        pair.west.wait_metric("isthmus_streams_active", &[], |active| active == (BUSY + 1) as f64);
        pair.west.wait_metric("isthmus_stream_bytes_total", &["flow=\"down\""], |bytes| bytes > 16e6);
        Self { topology, busy, idle }
    }

    /// Each must end as broken off, with nothing wrong before. How long that takes from now is told, and nothing is asserted of it.
    #[expect(clippy::print_stdout, reason = "the captured output of a test is standard output")]
    fn are_reset(mut self) {
        let withdrawn = Instant::now();
        self.topology.block_on(async {
            let idle = client::receive(&mut self.idle).await;
            assert_eq!(idle.end, End::Error(ErrorKind::ConnectionReset));
            for (seed, received) in self.busy.join_all().await {
                received.assert_reset(seed);
            }
        });
        println!("streams were reset {:.0} ms after trust was withdrawn", withdrawn.elapsed().as_secs_f64() * 1e3);
    }
}

/// Sends on and on, and reads what comes back to the end.
async fn echoed(stream: TcpStream, seed: u64) -> (u64, Received) {
    let (mut reader, mut writer) = stream.into_split();
    let (mut received, sent) = tokio::join!(client::receive(&mut reader), client::send(&mut writer, seed, ENDLESS));
    if let Err(e) = sent
        && e.kind() == ErrorKind::ConnectionReset
    {
        // The kernel tells of a reset once: whoever asks next sees an end.
        received.end = End::Error(e.kind());
    }
    (seed, received)
}

/// A bundle that was taken out of its directory.
struct Bundle {
    path: PathBuf,
    pem: String,
}

impl Bundle {
    fn take(of: &Cluster, peer: &str) -> Self {
        let path = of.identity_dir().join(format!("bundles/{peer}.pem"));
        let pem = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        Self { path, pem }
    }

    fn put_back(&self) {
        std::fs::write(&self.path, &self.pem).unwrap();
    }
}

fn wait_no_link(gateway: &Gateway<'_>, peer: &str) {
    gateway.wait_log(&["tunnel ended", "closed by this gateway"]);
    eventually("the link is gone", || {
        let status = gateway.status();
        let there = status["links"].as_array().is_some_and(|links| links.iter().any(|link| link["cluster"] == peer));
        if there { Err(status.to_string()) } else { Ok(()) }
    });
}

/// Waits until a link says that there is no way through; one that is dialled says why.
fn wait_down(gateway: &Gateway<'_>, peer: &str, state: &str) {
    gateway.wait_link(peer, &[state]);
    let link = gateway.link(peer);
    assert_eq!((&link["streams_in"], &link["streams_out"]), (&0.into(), &0.into()), "{link}");
    assert!(state == "waiting" || link["message"].as_str().is_some_and(|why| !why.is_empty()), "{link}");
    check::wait_named(gateway, &format!("link {peer}"), &[state]);
}

/// New clients are refused, and /status says that there is nobody for them.
fn assert_refused(pair: &Pair<'_>) {
    pair.west.wait_imported(pair::SERVICE, &[]);
    let status = pair.west.status();
    let import = status["services"].as_array().unwrap().iter().find(|service| service["kind"] == "import").unwrap();
    assert_eq!(import["message"], "no cluster has a ready endpoint");
    let received = pair.topology.block_on(async { client::receive(&mut pair.connect().await.unwrap()).await });
    assert_eq!((received.bytes, received.end), (0, End::Error(ErrorKind::ConnectionReset)));
}

fn assert_restored(pair: &Pair<'_>) {
    pair.west.wait_imported(pair::SERVICE, &["east"]);
    pair.west.wait_link("east", &["up"]);
    pair.east.wait_link("west", &["up"]);
    pair.wait_echo();
}

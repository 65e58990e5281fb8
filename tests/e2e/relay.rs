//! No side dialable: a third cluster relays, and sees nothing.

use isthmus_tests::{
    Endpoint, Gateway, NatKind, Pattern, Topology, Transport, check, client, endpoint, eventually, pair,
    trio::{self, RELAY, Trio},
};
use std::time::{Duration, Instant};

/// Endpoints that echo, in west and in east.
pub(crate) fn echoes(topology: &Topology) -> [Endpoint; 2] {
    [("east", pair::endpoint()), ("west", trio::wests_endpoint())].map(|(name, address)| {
        let cluster = topology.cluster(name);
        Endpoint::serve(cluster.pods(), cluster.tasks(), address, endpoint::echo)
    })
}

/// Symmetric NATs on both sides: there is no other way.
pub(crate) fn nats() -> Topology {
    Topology::behind_nats(NatKind::Symmetric, NatKind::Symmetric)
}

fn services_work_both_ways(transport: Transport) {
    let topology = nats();
    let _echoes = echoes(&topology);
    let trio = Trio::start(&topology, transport, RELAY);
    trio.wait_imported();
    trio.wait_via(Some("hub"));
    topology.block_on(async {
        let (mut there, mut back) = (trio.connect_east().await.unwrap(), trio.connect_west().await.unwrap());
        let bytes = Pattern::new(1).take(4 << 20);
        let (one, other) = tokio::join!(client::exchange(&mut there, &bytes), client::exchange(&mut back, &bytes));
        one.unwrap();
        other.unwrap();
    });
    // The bytes went through hub, which carries nothing else and serves nothing.
    trio.hub.wait_metric("isthmus_relayed_bytes_total", &["from=\"east\"", "to=\"west\""], |bytes| bytes > 16e6);
    assert_eq!(trio.hub.metrics().sum("isthmus_streams_opened_total", &[]), 0.0);
}

#[test]
fn services_work_both_ways_through_tls() {
    services_work_both_ways(Transport::Tls);
}

#[test]
fn services_work_both_ways_through_quic() {
    services_work_both_ways(Transport::Quic);
}

/// Waits until a gateway says this of its link with a cluster.
fn wait_message(gateway: &Gateway<'_>, cluster: &str, words: &str) {
    eventually(&format!("a link with {cluster} that says {words:?}"), || {
        let link = gateway.link(cluster);
        let said = link["message"].as_str().unwrap_or_default();
        if said.contains(words) { Ok(()) } else { Err(link.to_string()) }
    });
}

#[test]
fn a_hub_relays_when_it_is_told_to_and_no_longer() {
    let topology = nats();
    let _echoes = echoes(&topology);
    let trio = Trio::start(&topology, Transport::Tls, "");
    wait_message(&trio.east, "west", "denied: hub does not relay between east and west");
    wait_message(&trio.west, "east", "waits for east to come through hub");
    let line = check::wait_named(&trio.east, "link west", &["hub does not relay between east and west"]);
    assert!(line["fix"].as_str().unwrap().contains("allow: [east, west]"), "{line}");
    trio.hub.configure(&trio::hub(&topology).with(RELAY));
    trio.wait_imported();
    trio.wait_echo();
    trio.hub.configure(&trio::hub(&topology));
    wait_message(&trio.east, "west", "denied: hub does not relay between east and west");
    trio.west.wait_link("east", &["waiting"]);
    trio.hub.wait_metric("isthmus_relayed_tunnels", &[], |tunnels| tunnels == 0.0);
}

#[test]
fn a_link_that_one_side_alone_wants_relayed_says_why_it_is_down() {
    let topology = nats();
    let [mut west, east] = trio::ends(&topology, Transport::Tls);
    west.links.retain(|link| link.relay.is_none());
    let west = west.is_dialled_by(topology.cluster("east"));
    let trio = Trio::start_with(&topology, &west, &east, &trio::hub(&topology).with(RELAY));
    wait_message(&trio.east, "west", "denied: west through hub: west has no link with east that hub is to relay");
}

#[test]
fn tunnels_beyond_the_bound_are_refused_and_streams_take_those_that_are_there() {
    let topology = nats();
    let _echoes = echoes(&topology);
    let [west, east] = trio::ends(&topology, Transport::Tls);
    let hub = trio::hub(&topology).with("relay: {allow: [west, east], tunnels: 1}");
    let trio = Trio::start_with(&topology, &west, &east.with("cores: 2"), &hub);
    trio.hub.wait_metric("isthmus_refusals_total", &["bound=\"relayed_tunnels\""], |refused| refused > 0.0);
    trio.hub.wait_metric("isthmus_relayed_tunnels", &[], |tunnels| tunnels == 1.0);
    trio.wait_imported();
    for _ in 0..8 {
        trio.wait_echo();
    }
}

#[test]
fn a_hub_that_is_killed_and_comes_back_relays_again() {
    let topology = nats();
    let _echoes = echoes(&topology);
    let mut trio = Trio::start(&topology, Transport::Tls, RELAY);
    trio.wait_imported();
    trio.wait_echo();
    let mut open = topology.block_on(trio.connect_east()).unwrap();
    topology.block_on(client::exchange(&mut open, b"before")).unwrap();
    trio.hub.kill();
    let received = topology.block_on(client::receive(&mut open));
    received.assert_reset(0);
    wait_message(&trio.east, "west", "relay hub: no tunnel to it");
    trio.hub.restart();
    trio.wait_imported();
    trio.wait_echo();
}

#[test]
fn streams_through_a_hub_that_drains_go_on_to_their_end() {
    let topology = nats();
    let _echoes = echoes(&topology);
    let mut trio = Trio::start(&topology, Transport::Tls, RELAY);
    trio.wait_imported();
    trio.wait_echo();
    let mut open = topology.block_on(trio.connect_east()).unwrap();
    topology.block_on(client::exchange(&mut open, b"before")).unwrap();
    trio.hub.terminate();
    trio.east.wait_link("west", &["draining", "down"]);
    topology.block_on(client::exchange(&mut open, &Pattern::new(3).take(1 << 20))).unwrap();
    assert!(trio.hub.runs());
    drop(open);
    assert!(trio.hub.wait_end().success());
}

#[test]
fn a_stream_that_nobody_reads_holds_up_no_other() {
    let topology = nats();
    let _echoes = echoes(&topology);
    let trio = Trio::start(&topology, Transport::Tls, RELAY);
    trio.wait_imported();
    trio.wait_echo();
    topology.block_on(async {
        let mut stalled = trio.connect_east().await.unwrap();
        // Its echo stays unread: it stands still when every window on the way is full.
        let stalling = client::send(&mut stalled, 1, 1 << 30);
        let others = async {
            for seed in 0..20 {
                let mut stream = trio.connect_east().await.unwrap();
                client::exchange(&mut stream, &Pattern::new(seed).take(1 << 20)).await.unwrap();
            }
        };
        tokio::select! {
            sent = stalling => panic!("{sent:?}"),
            () = others => {}
        }
    });
}

/// A new stream's first answer is there after one round trip between west and east. With a handshake or a question to the hub it
/// would be two.
#[test]
fn a_new_stream_costs_one_round_trip() {
    let topology = Topology::over(&["west", "east", "hub"], "80ms".parse().unwrap(), 1);
    topology.make_identities();
    let _echoes = echoes(&topology);
    let trio = Trio::start(&topology, Transport::Tls, RELAY);
    trio.wait_imported();
    trio.wait_echo();
    let fastest = (0..10).map(|_| {
        let begun = Instant::now();
        topology.block_on(async {
            let mut stream = trio.connect_east().await.unwrap();
            client::exchange(&mut stream, b"?").await.unwrap();
        });
        begun.elapsed()
    });
    // Two round trips of 80 ms, west's to hub and hub's to east, are the one through hub.
    let (fastest, round_trip) = (fastest.min().unwrap(), Duration::from_millis(160));
    assert!(fastest >= round_trip && fastest < round_trip * 3 / 2, "{fastest:?}");
    let rtt = trio.west.link("east")["rtt_ms"].as_f64().unwrap();
    assert!(rtt >= 160.0, "{rtt} ms");
}

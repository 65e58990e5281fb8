//! Direct paths beside a relayed one: which NATs let them be, and what happens when they fail. docs/relay.md has the table.

use isthmus_tests::{
    Endpoint, Gateway, NatKind, Pattern, Topology, Transport, client, endpoint, eventually, pair,
    trio::{self, RELAY, Trio},
};

/// Endpoints that echo, in west and in east.
fn echoes(topology: &Topology) -> [Endpoint; 2] {
    [("east", pair::endpoint()), ("west", trio::wests_endpoint())].map(|(name, address)| {
        let cluster = topology.cluster(name);
        Endpoint::serve(cluster.pods(), cluster.tasks(), address, endpoint::echo)
    })
}

/// West and east behind such NATs, linked through hub over QUIC; streams work.
fn linked(topology: &Topology) -> Trio<'_> {
    let trio = Trio::start(topology, Transport::Quic, RELAY);
    trio.wait_imported();
    trio.wait_echo();
    trio
}

/// Bytes that hub has carried between west and east.
fn relayed(hub: &Gateway<'_>) -> f64 {
    hub.metrics().sum("isthmus_relayed_bytes_total", &[])
}

/// Streams move to a direct path, and hub carries no more than what keeps the relayed tunnel alive.
fn goes_direct(west: NatKind, east: NatKind) {
    let topology = Topology::behind_nats(west, east);
    let _echoes = echoes(&topology);
    let trio = linked(&topology);
    trio.wait_via(None);
    assert_eq!(trio.east.link("west")["chosen"], "quic");
    let (before, bytes) = (relayed(&trio.hub), Pattern::new(1).take(4 << 20));
    topology.block_on(async {
        client::exchange(&mut trio.connect_east().await.unwrap(), &bytes).await.unwrap();
        client::exchange(&mut trio.connect_west().await.unwrap(), &bytes).await.unwrap();
    });
    let more = relayed(&trio.hub) - before;
    assert!(more < 1e6, "hub has carried {more} bytes more");
}

/// Both sides have dialled, nobody got through, and streams work through hub.
fn stays_relayed(west: NatKind, east: NatKind) {
    let topology = Topology::behind_nats(west, east);
    let _echoes = echoes(&topology);
    let trio = linked(&topology);
    trio.east.wait_metric("isthmus_punches_total", &["result=\"failed\""], |failed| failed >= 4.0);
    assert_eq!(trio.east.metrics().sum("isthmus_punches_total", &["result=\"direct\""]), 0.0);
    trio.wait_via(Some("hub"));
    trio.wait_echo();
}

macro_rules! outcomes {
    ($($test:ident: $west:ident, $east:ident => $outcome:ident;)+) => {
        $(#[test] fn $test() { $outcome(NatKind::$west, NatKind::$east); })+
    };
}

// East, whose name comes first, dials the relayed tunnel and proposes: so each pair is tried both ways round.
outcomes! {
    full_cone_and_full_cone: FullCone, FullCone => goes_direct;
    full_cone_and_port_restricted: FullCone, PortRestricted => goes_direct;
    port_restricted_and_full_cone: PortRestricted, FullCone => goes_direct;
    full_cone_and_symmetric: FullCone, Symmetric => goes_direct;
    symmetric_and_full_cone: Symmetric, FullCone => goes_direct;
    port_restricted_and_port_restricted: PortRestricted, PortRestricted => goes_direct;
    port_restricted_and_symmetric: PortRestricted, Symmetric => stays_relayed;
    symmetric_and_port_restricted: Symmetric, PortRestricted => stays_relayed;
    symmetric_and_symmetric: Symmetric, Symmetric => stays_relayed;
}

const CUT: &str = "add table ip direct; add chain ip direct passing { type filter hook forward priority 0; }; \
                   add rule ip direct passing ip saddr 192.0.2.0/24 ip daddr 198.51.100.0/24 drop; \
                   add rule ip direct passing ip saddr 198.51.100.0/24 ip daddr 192.0.2.0/24 drop";

/// What is between the two NATs is dropped, silently; the ways to hub stay.
#[test]
fn streams_go_back_to_the_relay_when_the_direct_path_fails_and_leave_it_again() {
    let topology = Topology::behind_nats(NatKind::PortRestricted, NatKind::PortRestricted);
    let _echoes = echoes(&topology);
    let trio = linked(&topology);
    trio.wait_via(None);
    topology.wan().exec("nft", &[CUT]);
    // Each stream that is opened meanwhile gets through, over the one or the other.
    let mut opened = 0;
    eventually("new streams go through hub again", || {
        topology.block_on(async {
            client::exchange(&mut trio.connect_east().await.unwrap(), b"still?").await.unwrap();
        });
        opened += 1;
        if trio.west.link("east")["via"] == "hub" { Ok(()) } else { Err(format!("after {opened} streams")) }
    });
    trio.wait_via(Some("hub"));
    trio.wait_echo();
    topology.wan().exec("nft", &["delete table ip direct"]);
    trio.wait_via(None);
    trio.wait_echo();
}

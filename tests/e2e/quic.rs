//! QUIC beside TLS: which is taken, what happens when one of both is cut off, and NATs that move.

use isthmus_tests::{
    Config, Endpoint, Gateway, Link, Nat, Nginx, Pattern, Topology, Transport, client, endpoint, eventually,
    load::Reuse,
    pair::{self, Pair},
};
use std::net::SocketAddr;

/// A path on which QUIC is worth its price.
const LOSSY: &str = "20ms,2%";

/// Waits until a gateway's new streams to a cluster go over `transport`.
fn wait_chosen(gateway: &Gateway<'_>, cluster: &str, transport: &str) -> String {
    eventually(&format!("new streams to {cluster} go over {transport}"), || {
        let link = gateway.link(cluster);
        let because = link["chosen_because"].as_str().unwrap_or_default();
        if link["chosen"] == transport { Ok(because.to_owned()) } else { Err(link.to_string()) }
    })
}

/// Waits until a gateway has live tunnels over exactly these transports.
fn wait_live(gateway: &Gateway<'_>, transports: &[&str]) {
    for transport in ["tls", "quic"] {
        let labels = [format!("transport=\"{transport}\""), "health=\"live\"".to_owned()];
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        let wanted = transports.contains(&transport);
        gateway.wait_metric("isthmus_tunnels", &labels, |live| (live > 0.0) == wanted);
    }
}

#[test]
fn auto_keeps_both_and_takes_tls_on_a_clean_path() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let pair = Pair::start(&topology, Transport::Auto, &[pair::endpoint()]);
    for (gateway, peer) in [(&pair.west, "east"), (&pair.east, "west")] {
        wait_live(gateway, &["tls", "quic"]);
        assert!(wait_chosen(gateway, peer, "tls").contains("CPU"));
        assert_eq!(gateway.link(peer)["transport"], "quic+tls");
    }
    let load = pair.load(8, Reuse::ConnectionPerRequest, "served");
    load.wait_for(200);
    load.stop().assert_no_failure();
}

/// What a link is told to use counts for the next stream; those that are open go on where they began.
#[test]
fn a_link_that_is_told_to_use_tls_leaves_quic_at_once() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, Transport::Quic, &[pair::endpoint()]);
    let mut old = topology.block_on(pair.connect()).unwrap();
    topology.block_on(client::exchange(&mut old, b"over QUIC")).unwrap();
    let wait_transport = |transport: &str| {
        for (gateway, peer) in [(&pair.west, "east"), (&pair.east, "west")] {
            eventually(&format!("the link with {peer} is over {transport}"), || {
                let link = gateway.link(peer);
                let is_so = link["state"] == "up" && link["transport"] == transport;
                if is_so { Ok(()) } else { Err(link.to_string()) }
            });
        }
    };
    pair.west.configure(&pair::west_config(&topology, Transport::Auto));
    wait_transport("quic+tls");
    pair.west.configure(&pair::west_config(&topology, Transport::Tls));
    wait_transport("tls");
    pair.west.wait_metric("isthmus_tunnels", &["transport=\"quic\"", "health=\"draining\""], |some| some > 0.0);
    topology.block_on(client::exchange(&mut old, b"still there")).unwrap();
    drop(old);
    pair.west.wait_metric("isthmus_tunnels", &["transport=\"quic\""], |none| none == 0.0);
}

#[test]
fn udp_is_cut_off_under_load_and_taken_back() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let pair = Pair::start(&topology, Transport::Auto, &[pair::endpoint()]);
    wait_live(&pair.west, &["tls", "quic"]);
    let load = pair.load(8, Reuse::ConnectionPerRequest, "served");
    load.wait_for(100);
    topology.block("udp");
    load.wait_for(500);
    // Nothing is sent there but a PING now and then, so it takes a while to be noticed; nobody waits for it.
    wait_live(&pair.west, &["tls"]);
    topology.unblock("udp");
    wait_live(&pair.west, &["tls", "quic"]);
    load.stop().assert_no_failure();
}

#[test]
fn tcp_is_cut_off_under_load_and_quic_takes_over() {
    const CLIENTS: usize = 8;
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let pair = Pair::start(&topology, Transport::Auto, &[pair::endpoint()]);
    wait_live(&pair.west, &["tls", "quic"]);
    let load = pair.load(CLIENTS, Reuse::ConnectionPerRequest, "served");
    load.wait_for(100);
    topology.block("tcp");
    wait_chosen(&pair.west, "east", "quic");
    load.wait_for(500);
    // And UDP in turn, while all of the traffic is on it: what was left is dialled again and taken back.
    topology.unblock("tcp");
    wait_live(&pair.west, &["tls", "quic"]);
    wait_chosen(&pair.west, "east", "tls");
    topology.block("udp");
    load.wait_for(500);
    let outcome = load.stop();
    // Streams that were open on a tunnel when it was cut off are lost, one a client at most; what was being opened was not.
    assert!(outcome.failed <= CLIENTS as u64, "{outcome:?}");
    wait_live(&pair.west, &["tls"]);
    topology.unblock("udp");
    wait_live(&pair.west, &["tls", "quic"]);
}

/// UDP vanishes from a lossy path while all of the traffic is on it. What that has cost in packets says nothing of the path when it
/// is back.
#[test]
fn quic_is_taken_back_where_udp_had_vanished_from_a_lossy_path() {
    let topology = Topology::west_and_east_over(LOSSY);
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let pair = Pair::start(&topology, Transport::Auto, &[pair::endpoint()]);
    let load = pair.load(8, Reuse::ConnectionPerRequest, "served");
    let path = |udp: &str| topology.emulator().set_all(format!("{LOSSY}{udp}").parse().unwrap()).unwrap();
    // By one core at least: each judges by what it has carried itself.
    let wait_quic = || {
        eventually("new streams go over quic", || {
            let link = pair.west.link("east");
            let chosen = link["chosen"].as_str().unwrap_or_default();
            if chosen.contains("quic") { Ok(()) } else { Err(link.to_string()) }
        });
    };
    for _ in 0..3 {
        wait_quic();
        load.wait_for(200);
        path(",noudp");
        wait_chosen(&pair.west, "east", "tls");
        load.wait_for(200);
        path("");
    }
    wait_quic();
    load.stop();
}

/// QUIC alone, cut off with streams on it: they end as errors or go on, and new ones work when it is back.
#[test]
fn quic_alone_is_cut_off_and_comes_back() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, Transport::Quic, &[pair::endpoint()]);
    pair.wait_echo();
    topology.block("udp");
    pair.west.wait_link("east", &["unresponsive", "down", "dialling"]);
    pair.east.wait_link("west", &["unresponsive", "waiting"]);
    topology.unblock("udp");
    pair.wait_echo();
    pair.west.wait_link("east", &["up"]);
}

#[test]
fn streams_survive_a_nat_that_forgets() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let outside: SocketAddr = ([192, 0, 2, 1], 15008).into();
    let nat = Nat::start(topology.wan(), topology.tasks(), outside, east.tunnel_address());
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let mut west_config = Config::new(west).imports(pair::SERVICE, pair::import());
    west_config.links.push(Link {
        cluster: "east".to_owned(),
        endpoints: vec![outside.to_string()],
        transport: Some(Transport::Quic),
        services: Vec::new(),
        relay: None,
    });
    let east_config = pair::east_config(&topology, Transport::Quic, &[pair::endpoint()]);
    let pair = Pair::start_with(&topology, &west_config, &east_config);
    topology.block_on(async {
        let mut streams = Vec::new();
        for seed in 0..8 {
            let mut stream = pair.connect().await.unwrap();
            client::exchange(&mut stream, &Pattern::new(seed).take(100_000)).await.unwrap();
            streams.push(stream);
        }
        for round in 0..5 {
            nat.forget();
            for (seed, stream) in (100 * round..).zip(&mut streams) {
                client::exchange(stream, &Pattern::new(seed).take(100_000)).await.unwrap();
            }
        }
    });
}

#[test]
fn a_stranger_that_dials_quic_is_refused_with_a_reason() {
    let topology = Topology::new(&["west", "east", "north"]);
    topology.make_identities();
    let [west, east, north] = ["west", "east", "north"].map(|name| topology.cluster(name));
    let east_gateway = Gateway::start(east, &Config::new(east).is_dialled_by(west));
    let _north_gateway = Gateway::start(north, &Config::new(north).dials(east, Transport::Quic));
    let reason = ["reason=\"not_linked\""];
    east_gateway.wait_metric("isthmus_handshakes_refused_total", &reason, |refused| refused > 0.0);
    east_gateway.wait_log(&["refused a peer", "not_linked"]);
}

/// With a bound of one, every handshake is one of many: each dialler has to prove its address first.
#[test]
fn tunnels_come_up_where_addresses_have_to_be_proven() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let east_config = pair::east_config(&topology, Transport::Quic, &[pair::endpoint()]);
    let west_config = pair::west_config(&topology, Transport::Quic);
    let pair = Pair::start_with(&topology, &west_config, &east_config.with("limits: {handshakes: 1}"));
    pair.wait_echo();
}

#[test]
fn a_udp_port_that_is_taken_leaves_tcp_until_it_is_free() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let address = east.tunnel_address();
    let taken = east.edge().run(move || std::net::UdpSocket::bind(address)).unwrap();
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, Transport::Auto, &[pair::endpoint()]);
    pair.wait_echo();
    pair.east.wait_log(&["cannot listen for QUIC"]);
    assert_eq!(pair.west.link("east")["transport"], "tls");
    assert_eq!(wait_chosen(&pair.west, "east", "tls"), "no other transport has a live tunnel");
    drop(taken);
    wait_live(&pair.west, &["tls", "quic"]);
}

//! Peers that are dialled by name: what moves is found, and a resolver that fails takes nothing away.

use isthmus_tests::{
    Cluster, Gateway, Nginx, Surroundings, Topology, Transport, check,
    load::{Load, Reuse},
    names::{self, Names},
    pair,
    several::{self, wait_message, wait_reached, wait_served},
};
use std::{
    net::{IpAddr, UdpSocket},
    time::Instant,
};

const NAME: &str = "gw.east.example";

/// West, which dials east by name, and both of east's gateways.
struct Named<'t> {
    names: Names,
    west: Gateway<'t>,
    east: [Gateway<'t>; 2],
    _served: [Nginx; 2],
}

fn east(topology: &Topology) -> [&Cluster; 2] {
    ["east-1", "east-2"].map(|name| topology.cluster(name))
}

impl<'t> Named<'t> {
    /// The name has the addresses of these of east's gateways.
    fn start(topology: &'t Topology, transport: Transport, at: &[usize]) -> Self {
        Self::start_at(topology, transport, &addresses(topology, at))
    }

    /// The name has these addresses.
    fn start_at(topology: &'t Topology, transport: Transport, at: &[IpAddr]) -> Self {
        let (west, east) = (topology.cluster("west-1"), east(topology));
        let served = east.map(|at| Nginx::start(at.pods(), at.dir(), pair::endpoint(), "served"));
        let east_gateways = east.map(|at| {
            let config = several::config(at).exports(pair::SERVICE, &[pair::endpoint()]);
            Gateway::start(at, &config.links("west", &[], None))
        });
        let names = Names::start(west, NAME, at);
        let config = several::config(west).imports(pair::SERVICE, pair::import());
        let config = config.links("east", &[format!("{NAME}:15008")], Some(transport));
        let surroundings = Surroundings { resolv_conf: Some(names::resolv_conf(west)), ..Surroundings::default() };
        let west = Gateway::start_in(west, &config, &surroundings);
        wait_served(&west, "east");
        Self { names, west, east: east_gateways, _served: served }
    }

    fn load(&self) -> Load {
        let west = self.west.cluster();
        Load::start(west.pods(), west.tasks(), pair::import(), 4, Reuse::ConnectionPerRequest, "served")
    }
}

fn addresses(topology: &Topology, of: &[usize]) -> Vec<IpAddr> {
    of.iter().map(|&n| east(topology)[n].tunnel_address().ip()).collect()
}

#[test]
fn every_address_of_a_name_is_dialled_and_new_ones_are_found() {
    let topology = several::topology(1, 2);
    let mut named = Named::start(&topology, Transport::Auto, &[0]);
    wait_reached(&named.west, "east", 1, 1);
    named.names.set(NAME, &addresses(&topology, &[0, 1]));
    wait_reached(&named.west, "east", 2, 2);
    let load = named.load();
    load.wait_for(100);
    named.east[0].kill();
    let killed = Instant::now();
    load.wait_for(500);
    load.stop().assert_no_failure_since(killed, 4);
}

/// The load balancer is elsewhere from one moment to the next, and the old address does not answer any more.
#[test]
fn a_load_balancer_that_moves_is_found() {
    for transport in [Transport::Tls, Transport::Quic] {
        let topology = several::topology(1, 2);
        let mut named = Named::start(&topology, transport, &[0]);
        named.names.set(NAME, &addresses(&topology, &[1]));
        named.east[0].kill();
        named.east[1].wait_link("west", &["up"]);
        wait_served(&named.west, "east");
        let load = named.load();
        load.wait_for(100);
        load.stop().assert_no_failure();
        assert_eq!(named.east[1].link("west")["state"], "up");
    }
}

/// Where the old address still answers, it is left without a stream noticing.
#[test]
fn an_address_that_a_name_has_no_more_is_left_in_peace() {
    let topology = several::topology(1, 2);
    let named = Named::start(&topology, Transport::Tls, &[0]);
    let load = named.load();
    load.wait_for(100);
    named.names.set(NAME, &addresses(&topology, &[1]));
    named.east[1].wait_link("west", &["up"]);
    named.east[0].wait_link("west", &["waiting"]);
    load.wait_for(100);
    load.stop().assert_no_failure();
}

#[test]
fn a_resolver_that_fails_takes_nothing_away() {
    let topology = several::topology(1, 2);
    let mut named = Named::start(&topology, Transport::Tls, &[0, 1]);
    wait_reached(&named.west, "east", 2, 2);
    let load = named.load();
    named.names.stop();
    let words = ["cannot look up gw.east.example", "its last addresses stay in use"];
    let link = wait_message(&named.west, "east", &words);
    assert_eq!((&link["state"], &link["degraded"]), (&"up".into(), &true.into()), "{link}");
    check::wait_named(&named.west, "link east", &words);
    assert!(named.west.metrics().sum("isthmus_tunnel_dial_failures_total", &["reason=\"resolve\""]) > 0.0);
    // Its last addresses are dialled again where that is needed.
    named.east[0].restart();
    wait_reached(&named.west, "east", 2, 2);
    load.wait_for(100);
    load.stop();
    named.names = Names::start(named.west.cluster(), NAME, &addresses(&topology, &[0, 1]));
    isthmus_tests::eventually("the link is well again", || {
        let link = named.west.link("east");
        if link["degraded"] == false { Ok(()) } else { Err(link.to_string()) }
    });
}

/// Hosts without IPv6 meet names that have an address of each family: the other one is no gateway that is missing.
#[test]
fn an_address_of_a_family_that_is_not_routed_is_not_missed() {
    let topology = several::topology(1, 2);
    let at = [addresses(&topology, &[0])[0], "2001:db8::1".parse().unwrap()];
    let named = Named::start_at(&topology, Transport::Tls, &at);
    let link = wait_reached(&named.west, "east", 1, 1);
    assert_eq!(link["degraded"], false, "{link}");
}

#[test]
fn a_lookup_that_hangs_holds_up_no_drain() {
    let topology = several::topology(1, 1);
    let west = topology.cluster("west-1");
    // Takes questions and never answers.
    let _deaf = west.edge().run(|| UdpSocket::bind("127.0.0.1:53")).unwrap();
    let config = several::config(west).links("east", &[format!("{NAME}:15008")], Some(Transport::Auto));
    let resolv_conf = west.dir().join("resolv.conf");
    // The resolver is far more patient than the test.
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n").unwrap();
    let surroundings = Surroundings { resolv_conf: Some(resolv_conf), ..Surroundings::default() };
    let mut west = Gateway::start_in(west, &config.with("drain: 1s"), &surroundings);
    wait_message(&west, "east", &["looking up gw.east.example took over 5 s"]);
    check::wait_named(&west, "link east", &["looking up gw.east.example took over 5 s"]);
    west.terminate();
    assert!(west.wait_end().success());
}

#[test]
fn a_name_that_does_not_exist_says_so() {
    let topology = several::topology(1, 1);
    let west = topology.cluster("west-1");
    let _names = Names::start(west, "other.example", &[]);
    let config = several::config(west).links("east", &[format!("{NAME}:15008")], Some(Transport::Auto));
    let surroundings = Surroundings { resolv_conf: Some(names::resolv_conf(west)), ..Surroundings::default() };
    let west = Gateway::start_in(west, &config, &surroundings);
    let link = wait_message(&west, "east", &["cannot look up gw.east.example"]);
    assert_eq!(link["state"], "down", "{link}");
    let line = check::wait_named(&west, "link east", &["cannot look up gw.east.example"]);
    assert!(line["fix"].as_str().unwrap().contains("getent"), "{line}");
}

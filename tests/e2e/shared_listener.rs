//! One listening socket a core for all service ports: that thousands are served, come and go, and stay others' where others have them;
//! and what there is instead where this cannot be.

use isthmus_tests::{
    Config, Endpoint, Gateway, Nginx, Part, Surroundings, Topology, Transport, client, endpoint, eventually,
    load::Reuse,
    pair::{self, LOCAL_HOP, Pair},
    topology::gateway,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

const ON: &str = "sharedListener: on";
/// The first of many ports.
const FIRST: u16 = 20_000;

fn west(topology: &Topology) -> Config {
    pair::west_config(topology, Transport::Tls).with(ON)
}

fn pair_of<'a>(topology: &'a Topology, west: &Config) -> Pair<'a> {
    Pair::start_with(topology, west, &pair::east_config(topology, Transport::Tls, &[pair::endpoint()]))
}

fn echo(topology: &Topology) -> Endpoint {
    let east = topology.cluster("east");
    Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo)
}

/// Whether a new connection of a pod's to a port of west's gateway has its bytes given back.
fn is_served(pair: &Pair<'_>, port: u16) -> Result<(), String> {
    let there = async {
        let mut stream = client::connect(pair.west.cluster().pods(), gateway(port)).await?;
        client::exchange(&mut stream, b"there and back").await
    };
    pair.topology.block_on(there).map_err(|error: std::io::Error| format!("{port}: {error}"))
}

fn is_refused(pair: &Pair<'_>, port: u16) -> Result<(), String> {
    match pair.west.cluster().pods().connect(gateway(port)) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// The addresses that somebody listens on, for TCP.
fn listeners(gateway: &Gateway<'_>) -> Vec<String> {
    let text = gateway.cluster().edge().exec("ss", &["-ltnH"]);
    text.lines().filter_map(|line| line.split_whitespace().nth(3).map(str::to_owned)).collect()
}

#[test]
fn thousands_of_ports_are_served_by_a_few_sockets() {
    const PORTS: u16 = 3000;
    let topology = Topology::west_and_east();
    let _echo = echo(&topology);
    let config = (0..PORTS).fold(west(&topology), |config, n| config.imports(pair::SERVICE, gateway(FIRST + n)));
    let mut pair = pair_of(&topology, &config);
    let status = pair.west.status();
    let shared = &status["shared_listener"];
    assert_eq!((shared["state"].as_str(), shared["places"].as_u64()), (Some("on"), Some(3001)), "{shared}");
    assert_eq!(pair.west.metrics().sum("isthmus_shared_listener_places", &[]), 3001.0);
    let listeners = listeners(&pair.west);
    assert!(listeners.len() < 100, "{listeners:?}");
    for port in (FIRST..FIRST + PORTS).step_by(61) {
        is_served(&pair, port).unwrap();
    }
    is_refused(&pair, FIRST - 1).unwrap();
    is_refused(&pair, FIRST + PORTS).unwrap();
    // Nothing of it stays: others can have the ports at once, and it can have them again.
    pair.west.kill();
    is_refused(&pair, FIRST).unwrap();
    let other = pair.west.cluster().edge().listen(gateway(FIRST));
    let client = pair.west.cluster().pods().connect(gateway(FIRST)).unwrap();
    assert_eq!(other.accept().unwrap().1, client.local_addr().unwrap());
    drop((other, client));
    pair.west.restart();
    pair.west.wait_imported(pair::SERVICE, &["east"]);
    is_served(&pair, FIRST).unwrap();
}

#[test]
fn imports_come_and_go_under_load() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let config = west(&topology);
    let pair = pair_of(&topology, &config);
    let load = pair.load(8, Reuse::ConnectionPerRequest, "served");
    let kept = pair.load(2, Reuse::KeepAlive, "served");
    for round in 1..4 {
        load.wait_for(100);
        let more = (0..round * 300).fold(config.clone(), |more, n| more.imports(pair::SERVICE, gateway(FIRST + n)));
        pair.west.configure(&more);
        eventually("the new imports are served", || {
            pair.west.cluster().pods().connect(gateway(FIRST + round * 300 - 1)).map(drop).map_err(|e| e.to_string())
        });
        pair.west.configure(&config);
        eventually("the imports that were taken out refuse", || is_refused(&pair, FIRST + 7));
    }
    kept.stop().assert_no_failure();
    let outcome = load.stop();
    outcome.assert_no_failure();
    assert_eq!(outcome.refused, 0);
}

/// As with listeners of their own.
#[test]
fn streams_outlive_their_import_and_no_request_fails_while_it_drains() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let config = west(&topology);
    let mut pair = pair_of(&topology, &config.clone().imports(pair::SERVICE, gateway(FIRST)));
    let mut stream = pair.west.cluster().pods().connect(gateway(FIRST)).unwrap();
    ask(&mut stream);
    pair.west.configure(&config);
    eventually("the import refuses", || is_refused(&pair, FIRST));
    ask(&mut stream);
    drop(stream);
    let load = pair.load(16, Reuse::ConnectionPerRequest, "served");
    load.wait_for(500);
    pair.west.terminate();
    assert!(pair.west.wait_end().success());
    load.stop().assert_no_failure();
}

fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..length]));
}

/// Somebody has listened there before: he goes on, the gateway says what is in its way, and takes the port when he has gone.
#[test]
fn a_port_that_somebody_else_has_is_left_to_him() {
    let topology = Topology::west_and_east();
    let _echo = echo(&topology);
    let edge = topology.cluster("west").edge();
    let other = edge.listen(SocketAddr::from(([0, 0, 0, 0], FIRST)));
    let config = west(&topology);
    let pair = pair_of(&topology, &config);
    let more = config.imports(pair::SERVICE, gateway(FIRST)).imports(pair::SERVICE, gateway(FIRST + 1));
    pair.west.configure(&more);
    eventually("the free port is served", || is_served(&pair, FIRST + 1));
    pair.west.wait_log(&["cannot listen", "10.0.0.1:20000", "in use"]);
    let status = pair.west.status().to_string();
    assert!(status.contains("in use"), "{status}");
    assert_eq!(pair.west.readyz().unwrap().0, 503);
    for _ in 0..20 {
        let client = pair.west.cluster().pods().connect(gateway(FIRST)).unwrap();
        assert_eq!(other.accept().unwrap().1, client.local_addr().unwrap());
    }
    drop(other);
    eventually("the port that is free now is served", || is_served(&pair, FIRST));
    assert_eq!(pair.west.status()["shared_listener"]["places"], 3);
}

#[test]
fn addresses_of_both_families_are_served() {
    let topology = Topology::west_and_east();
    let _echo = echo(&topology);
    let any = |port: u16| SocketAddr::new("::".parse().unwrap(), port);
    let loopback = |port: u16| SocketAddr::new("::1".parse().unwrap(), port);
    let config = west(&topology)
        .imports(pair::SERVICE, any(FIRST))
        .imports(pair::SERVICE, loopback(FIRST + 1))
        .imports(pair::SERVICE, SocketAddr::from(([0, 0, 0, 0], FIRST + 2)));
    let pair = pair_of(&topology, &config);
    // West's own import, three, and that of both families a second time.
    assert_eq!(pair.west.status()["shared_listener"]["places"], 5);
    is_served(&pair, FIRST).unwrap();
    is_served(&pair, FIRST + 2).unwrap();
    is_refused(&pair, FIRST + 1).unwrap();
    let exchange = move |to: SocketAddr| {
        pair.west.cluster().edge().run(move || {
            let mut stream = TcpStream::connect(to)?;
            stream.write_all(b"there and back")?;
            stream.read_exact(&mut [0; 14])
        })
    };
    for to in [loopback(FIRST), loopback(FIRST + 1), SocketAddr::from(([127, 0, 0, 1], FIRST + 2))] {
        exchange(to).unwrap_or_else(|error| panic!("{to}: {error}"));
    }
    assert_eq!(exchange(loopback(FIRST + 2)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// Without the capability there are listeners as ever, and the reason is said.
#[test]
fn where_it_cannot_be_each_port_has_listeners_of_its_own() {
    let topology = Topology::west_and_east();
    let _echo = echo(&topology);
    let east_config = pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]);
    let east = Gateway::start(topology.cluster("east"), &east_config);
    let surroundings = Surroundings { without: &["net_admin"], ..Surroundings::default() };
    let config = west(&topology).imports(pair::SERVICE, gateway(FIRST));
    let west = Gateway::start_part(topology.cluster("west"), Part::Both, &config.to_yaml(), &surroundings);
    west.wait_imported(pair::SERVICE, &["east"]);
    let pair = Pair { topology: &topology, west, east };
    is_served(&pair, FIRST).unwrap();
    let status = pair.west.status();
    let shared = &status["shared_listener"];
    assert_eq!((shared["state"].as_str(), shared["places"].as_u64()), (Some("off"), Some(0)), "{shared}");
    assert_eq!(shared["reason"], "not permitted: CAP_NET_ADMIN missing");
    pair.west.wait_log(&["the shared listener is off", "CAP_NET_ADMIN"]);
    assert_eq!(pair.west.metrics().sum("isthmus_shared_listener", &["state=\"off\""]), 1.0);
    assert!(listeners(&pair.west).contains(&gateway(FIRST).to_string()));
}

/// Nobody asks for it: nothing is loaded.
#[test]
fn by_default_each_port_has_listeners_of_its_own() {
    let topology = Topology::west_and_east();
    let _echo = echo(&topology);
    let pair = pair_of(&topology, &pair::west_config(&topology, Transport::Tls));
    assert_eq!(pair.west.status()["shared_listener"]["state"], "unused");
    assert!(listeners(&pair.west).contains(&pair::import().to_string()));
    pair.wait_echo();
}

/// Clients of the node are redirected to the sockets that it accepts, too.
#[test]
fn its_connections_take_part_in_the_local_hop() {
    let topology = Topology::west_and_east();
    let _echo = echo(&topology);
    let pair = pair_of(&topology, &west(&topology).with_import_policy(LOCAL_HOP));
    let joined = || pair.west.metrics().sum("isthmus_local_hop_ends_total", &["result=\"joined\""]);
    // Each core hears of the local hop, and of a table, by itself.
    let wait = |ends: f64| {
        eventually("what new connections do", || {
            let before = joined();
            is_served(&pair, pair::import().port()).unwrap();
            let more = joined() - before;
            if more == ends { Ok(()) } else { Err(format!("{more} ends joined, expected {ends}")) }
        });
    };
    wait(2.0);
    // Another port has another policy, and the same sockets.
    pair.west.configure(&west(&topology));
    pair.west.wait_log(&["configuration reloaded"]);
    wait(0.0);
}

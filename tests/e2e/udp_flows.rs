//! The life of UDP flows: where they go, how long they live, and what takes them elsewhere.

use isthmus_tests::{
    Config, Gateway, Netns, Topology, Transport, UdpEcho,
    datagrams::{ask, client, set_patience},
    eventually,
    topology::{gateway, pod},
};
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

const SERVICE: &str = "net/udp";
const PORT: u16 = 5400;

/// Two gateways, the service with endpoints in east, imported in west; `more` goes into both configurations.
struct Flows<'a> {
    west: Gateway<'a>,
    east: Gateway<'a>,
}

impl<'a> Flows<'a> {
    fn start(topology: &'a Topology, transport: Transport, endpoints: &[u8], more: &str) -> Self {
        let (west_config, east_config) = configs(topology, transport, endpoints);
        Self::start_with(topology, &west_config.with(more), &east_config.with(more))
    }

    fn start_with(topology: &'a Topology, west: &Config, east: &Config) -> Self {
        let east = Gateway::start(topology.cluster("east"), east);
        let west = Gateway::start(topology.cluster("west"), west);
        west.wait_imported(SERVICE, &["east"]);
        Self { west, east }
    }

    fn client(&self) -> UdpSocket {
        client(self.west.cluster().pods(), gateway(PORT))
    }
}

fn configs(topology: &Topology, transport: Transport, endpoints: &[u8]) -> (Config, Config) {
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let endpoints: Vec<IpAddr> = endpoints.iter().map(|&host| pod(host, 0).ip()).collect();
    let east_config = Config::new(east).is_dialled_by(west).exports_both(SERVICE, PORT, &endpoints);
    (Config::new(west).dials(east, transport).imports_both(SERVICE, gateway(PORT)), east_config)
}

/// Asks until there is an answer, a second apart at the most.
fn ask_again(client: &UdpSocket, question: &[u8]) -> Vec<u8> {
    set_patience(client, Duration::from_secs(1));
    eventually("an answer", || ask(client, question).map_err(|e| e.to_string()))
}

#[test]
fn a_silent_flow_ends_on_both_sides() {
    for transport in [Transport::Tls, Transport::Quic] {
        let topology = Topology::west_and_east();
        let _echo = UdpEcho::serve(topology.cluster("east").pods(), pod(2, PORT), "");
        let flows = Flows::start(&topology, transport, &[2], "udp: {idleTimeout: 500ms}");
        let client = flows.client();
        assert_eq!(ask(&client, b"one").unwrap(), b"one");
        let udp = "service=\"net/udp:5400/udp\"";
        flows.west.wait_metric("isthmus_streams_closed_total", &[udp, "reason=\"idle\""], |closed| closed == 1.0);
        flows.east.wait_metric("isthmus_streams_closed_total", &[udp, "reason=\"fin\""], |closed| closed == 1.0);
        for gateway in [&flows.west, &flows.east] {
            gateway.wait_metric("isthmus_streams_active", &[udp], |active| active == 0.0);
        }
        assert_eq!(ask(&client, b"two").unwrap(), b"two", "the same client again");
    }
}

/// The timeout is a minute, longer than this test waits for anything.
#[test]
fn one_question_and_its_answer_do_not_stay_as_long_as_a_conversation() {
    let topology = Topology::west_and_east();
    let _echo = UdpEcho::serve(topology.cluster("east").pods(), pod(2, PORT), "");
    let flows = Flows::start(&topology, Transport::Quic, &[2], "");
    let (resolver, talker) = (flows.client(), flows.client());
    assert_eq!(ask(&resolver, b"who?").unwrap(), b"who?");
    for words in [b"one", b"two"] {
        assert_eq!(ask(&talker, words).unwrap(), words);
    }
    let udp = "service=\"net/udp:5400/udp\"";
    // The client's side ends it, so that the other one does not forget it first.
    flows.west.wait_metric("isthmus_streams_closed_total", &[udp, "reason=\"idle\""], |closed| closed == 1.0);
    flows.east.wait_metric("isthmus_streams_closed_total", &[udp, "reason=\"fin\""], |closed| closed == 1.0);
    flows.west.wait_metric("isthmus_streams_active", &[udp], |active| active == 1.0);
}

#[test]
fn a_full_table_refuses_until_somebody_has_been_silent() {
    let topology = Topology::west_and_east();
    let _echo = UdpEcho::serve(topology.cluster("east").pods(), pod(2, PORT), "");
    let flows = Flows::start(&topology, Transport::Tls, &[2], "cores: 1\nlimits: {udpFlows: 4}");
    let clients: Vec<_> = (0..8).map(|_| flows.client()).collect();
    for client in &clients {
        client.send(b"here I am").unwrap();
    }
    flows.west.wait_metric("isthmus_refusals_total", &["bound=\"udp_flows\""], |refused| refused >= 1.0);
    // Whoever insists is let in: the others have been silent for a second by then.
    let late = flows.client();
    assert_eq!(ask_again(&late, b"let me in"), b"let me in");
    let metrics = flows.west.metrics();
    assert!(metrics.sum("isthmus_streams_closed_total", &["reason=\"evicted\""]) >= 1.0);
    assert!(metrics.sum("isthmus_streams_active", &["/udp\""]) <= 4.0);
}

#[test]
fn an_endpoint_that_is_dead_costs_no_datagram() {
    for transport in [Transport::Tls, Transport::Quic] {
        let topology = Topology::west_and_east();
        let _echo = UdpEcho::serve(topology.cluster("east").pods(), pod(3, PORT), "3:");
        let flows = Flows::start(&topology, transport, &[2, 3], "");
        for _ in 0..20 {
            assert_eq!(ask(&flows.client(), b"who?").unwrap(), b"3:who?");
        }
    }
}

/// A router on the way to the endpoint takes less than the gateway's network: it says so to whoever forbids it to cut datagrams.
#[test]
fn a_narrow_way_to_the_endpoint_loses_no_datagram() {
    let topology = Topology::west_and_east();
    let (east, far) = (topology.cluster("east"), Netns::new("far"));
    let pods = east.pods();
    pods.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    pods.ip(&format!("link add far mtu 600 type veth peer name eth0 mtu 600 netns {}", far.path().display()));
    for (netns, device, address) in [(&**pods, "far", "10.9.0.1/24"), (&far, "eth0", "10.9.0.2/24")] {
        netns.ip(&format!("address add {address} dev {device}"));
        netns.ip(&format!("link set {device} up"));
    }
    far.ip("route add default via 10.9.0.1");
    east.edge().ip(&format!("route add 10.9.0.0/24 via {}", pod(2, 0).ip()));
    let endpoint = SocketAddr::from(([10, 9, 0, 2], PORT));
    let _echo = UdpEcho::serve(&far, endpoint, "");
    let (west_config, _) = configs(&topology, Transport::Quic, &[]);
    let east_config = Config::new(east).is_dialled_by(topology.cluster("west"));
    let east_config = east_config.exports_both(SERVICE, PORT, &[endpoint.ip()]);
    let flows = Flows::start_with(&topology, &west_config, &east_config);
    let client = flows.client();
    for size in [1, 1000, 1, 1100] {
        assert_eq!(ask(&client, &vec![7; size]).unwrap().len(), size);
    }
}

#[test]
fn what_an_endpoint_says_while_the_tunnel_takes_nothing_is_dropped_and_counted() {
    let topology = Topology::west_and_east();
    let pods = topology.cluster("east").pods();
    let endpoint = pods.run(|| UdpSocket::bind(pod(2, PORT))).unwrap();
    let flows = Flows::start(&topology, Transport::Quic, &[2], "");
    let client = flows.client();
    client.send(b"tell me all").unwrap();
    let (_, flow) = endpoint.recv_from(&mut [0; 64]).unwrap();
    topology.block("udp");
    eventually("datagrams are dropped", || {
        for _ in 0..500 {
            endpoint.send_to(&[7; 1000], flow).map_err(|e| e.to_string())?;
        }
        let dropped = flows.east.metrics().sum("isthmus_datagrams_dropped_total", &["/udp\"", "reason=\"slow\""]);
        if dropped > 0.0 { Ok(()) } else { Err("none so far".into()) }
    });
}

#[test]
fn a_flow_leaves_an_endpoint_that_dies_or_is_withdrawn() {
    let topology = Topology::west_and_east();
    let pods = topology.cluster("east").pods();
    let second = UdpEcho::serve(pods, pod(2, PORT), "2:");
    let flows = Flows::start(&topology, Transport::Quic, &[2], "");
    let client = flows.client();
    assert_eq!(ask(&client, b"who?").unwrap(), b"2:who?");

    let _third = UdpEcho::serve(pods, pod(3, PORT), "3:");
    let (_, both) = configs(&topology, Transport::Quic, &[2, 3]);
    flows.east.configure(&both);
    flows.east.wait_log(&["configuration reloaded"]);
    assert_eq!(ask(&client, b"who?").unwrap(), b"2:who?", "a flow stays where it is");
    drop(second);
    assert_eq!(ask_again(&client, b"who?"), b"3:who?");

    let _second = UdpEcho::serve(pods, pod(2, PORT), "2:");
    let (_, one) = configs(&topology, Transport::Quic, &[2]);
    flows.east.configure(&one);
    eventually("the flow is at the endpoint that is left", || {
        let answer = ask_again(&client, b"who?");
        if answer == b"2:who?" { Ok(()) } else { Err(String::from_utf8_lossy(&answer).into_owned()) }
    });
}

#[test]
fn a_flow_goes_on_over_tcp_when_udp_is_cut_off() {
    let topology = Topology::west_and_east();
    let _echo = UdpEcho::serve(topology.cluster("east").pods(), pod(2, PORT), "");
    let flows = Flows::start(&topology, Transport::Auto, &[2], "");
    for transport in ["tls", "quic"] {
        let labels = [format!("transport=\"{transport}\""), "health=\"live\"".to_owned()];
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        flows.west.wait_metric("isthmus_tunnels", &labels, |live| live > 0.0);
    }
    let client = flows.client();
    // Where there is a choice, it is QUIC: once the flow is open, a large datagram is too large for it.
    assert_eq!(ask(&client, b"hello").unwrap(), b"hello");
    assert_eq!(ask(&client, &[7; 4000]).unwrap(), [7; 4000]);
    flows.west.wait_metric("isthmus_datagrams_framed_total", &["direction=\"egress\""], |framed| framed > 0.0);
    topology.block("udp");
    assert_eq!(ask_again(&client, b"still there?"), b"still there?");
    topology.unblock("udp");
    assert_eq!(ask_again(&client, b"and now?"), b"and now?");
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let topology = Topology::west_and_east();
    let west = topology.cluster("west");
    let _echo = UdpEcho::serve(topology.cluster("east").pods(), pod(2, PORT), "");
    west.edge().ip("address add 10.0.0.99/24 dev pods");
    let (_, east_config) = configs(&topology, Transport::Tls, &[2]);
    let any: SocketAddr = ([0, 0, 0, 0], PORT).into();
    let west_config = Config::new(west).dials(topology.cluster("east"), Transport::Tls).imports_both(SERVICE, any);
    let flows = Flows::start_with(&topology, &west_config, &east_config);
    let clients = [gateway(PORT), pod(99, PORT)].map(|asked| client(west.pods(), asked));
    for (name, client) in [b"one", b"two"].into_iter().zip(&clients) {
        assert_eq!(ask(client, name).unwrap(), name);
    }
    drop(flows);
}

/// East has two cores, and west dials it from one: a client on the other one is served nevertheless.
#[test]
fn a_core_without_a_tunnel_hands_its_flows_to_one_with() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = UdpEcho::serve(west.pods(), pod(2, PORT), "");
    let west_config = Config::new(west).dials(east, Transport::Tls).exports_both(SERVICE, PORT, &[pod(2, 0).ip()]);
    let east_config = Config::new(east).is_dialled_by(west).imports_both(SERVICE, gateway(PORT));
    let east_gateway = Gateway::start(east, &east_config.with("cores: 4"));
    let _west = Gateway::start(west, &west_config.with("cores: 1"));
    east_gateway.wait_imported(SERVICE, &["west"]);
    for _ in 0..20 {
        let client = client(east.pods(), gateway(PORT));
        for question in [&b"once"[..], b"again"] {
            assert_eq!(ask(&client, question).unwrap(), question);
        }
    }
}

#[test]
fn a_drain_does_not_wait_for_silent_flows_and_clients_are_told() {
    let topology = Topology::west_and_east();
    let _echo = UdpEcho::serve(topology.cluster("east").pods(), pod(2, PORT), "");
    let mut flows = Flows::start(&topology, Transport::Quic, &[2], "drain: 1h");
    let client = flows.client();
    assert_eq!(ask(&client, b"one").unwrap(), b"one");
    flows.west.terminate();
    assert!(flows.west.wait_end().success());
    set_patience(&client, Duration::from_secs(1));
    let told = eventually("the client is told", || match ask(&client, b"two") {
        Err(error) => Ok(error.kind()),
        Ok(_) => Err("an answer".into()),
    });
    assert_eq!(told, io::ErrorKind::ConnectionRefused);
    flows.west.restart();
    flows.west.wait_imported(SERVICE, &["east"]);
    assert_eq!(ask_again(&client, b"three"), b"three");
    // The ingress side alike: its flow ends, and the client's next datagram finds the successor.
    flows.east.terminate();
    assert!(flows.east.wait_end().success());
    flows.east.restart();
    assert_eq!(ask_again(&client, b"four"), b"four");
}

#[test]
fn an_import_that_goes_takes_its_flows_along() {
    let topology = Topology::west_and_east();
    let _echo = UdpEcho::serve(topology.cluster("east").pods(), pod(2, PORT), "");
    let flows = Flows::start(&topology, Transport::Tls, &[2], "");
    let client = flows.client();
    assert_eq!(ask(&client, b"one").unwrap(), b"one");
    let (config, _) = configs(&topology, Transport::Tls, &[2]);
    flows.west.configure(&Config { imports: Vec::new(), ..config.clone() });
    flows.west.wait_metric("isthmus_streams_active", &["/udp\""], |active| active == 0.0);
    eventually("the client is told", || match ask(&client, b"two") {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    });
    flows.west.configure(&config);
    flows.west.wait_imported(SERVICE, &["east"]);
    assert_eq!(ask_again(&client, b"three"), b"three");
}

#[test]
fn http2_refuses_flows_and_says_so() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = UdpEcho::serve(east.pods(), pod(2, PORT), "");
    let east_config = Config::new(east).dials(west, Transport::H2).exports_both(SERVICE, PORT, &[pod(2, 0).ip()]);
    let west_config = Config::new(west).dials(east, Transport::H2).imports_both(SERVICE, gateway(PORT));
    let flows = Flows::start_with(&topology, &west_config, &east_config);
    flows.client().send(b"anybody?").unwrap();
    let refused = "reason=\"refused_no_endpoint\"";
    flows.west.wait_metric("isthmus_streams_closed_total", &["/udp\"", refused], |closed| closed == 1.0);
    flows.west.wait_metric("isthmus_datagrams_dropped_total", &["reason=\"unopened\""], |dropped| dropped == 1.0);
}

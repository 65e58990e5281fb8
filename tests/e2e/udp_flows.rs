//! The life of UDP flows: where they go, how long they live, and what takes them elsewhere.

use isthmus_tests::{
    Config, Gateway, Topology, Transport, UdpEcho,
    datagrams::{ask, client, receive, set_patience},
    eventually,
    topology::{gateway, pod},
};
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

mod endpoints;
mod limits;

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

/// The peer does not answer the goodbye, which takes a second then. The client's silence is long enough for it to begin.
#[test]
fn what_comes_during_the_goodbye_is_not_lost() {
    let topology = Topology::west_and_east();
    let _echo = UdpEcho::serve(topology.cluster("east").pods(), pod(2, PORT), "");
    let flows = Flows::start(&topology, Transport::Quic, &[2], "udp: {idleTimeout: 100ms}");
    let client = flows.client();
    assert_eq!(ask(&client, b"one").unwrap(), b"one");
    topology.block("udp");
    std::thread::sleep(Duration::from_millis(500));
    client.send(b"two").unwrap();
    topology.unblock("udp");
    let mut answer = [0; 64];
    let n = receive(&client, &mut answer).unwrap();
    assert_eq!(&answer[..n], b"two");
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

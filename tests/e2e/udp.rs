//! UDP services with the programs that people run: a DNS server and dig, iperf3. And datagrams of every size.

use isthmus_tests::{
    Config, Gateway, Netns, Process, Topology, Transport, UdpEcho,
    datagrams::{ask, client},
    eventually,
    topology::{gateway, pod},
};
use std::{net::SocketAddr, path::Path};

/// The service of these tests.
const SERVICE: &str = "net/udp";

/// Makes each test once for each transport that carries UDP.
macro_rules! over_tls_and_quic {
    ($($test:ident),+ $(,)?) => {
        mod over_tls {
            $(#[test] fn $test() { super::$test(isthmus_tests::Transport::Tls); })+
        }
        mod over_quic {
            $(#[test] fn $test() { super::$test(isthmus_tests::Transport::Quic); })+
        }
    };
}
over_tls_and_quic!(
    names_are_resolved_over_udp_and_tcp,
    iperf3_loses_nothing_to_speak_of,
    datagrams_of_every_size_come_whole,
    a_datagram_that_cannot_be_delivered_is_reported,
);

/// West imports `port` of the service from east, where 10.0.0.2 serves it, on the same port of its gateway.
fn start<'a>(topology: &'a Topology, transport: Transport, port: u16) -> (Gateway<'a>, Gateway<'a>) {
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let east_config = Config::new(east).is_dialled_by(west).exports_both(SERVICE, port, &[pod(2, 0).ip()]);
    let west_config = Config::new(west).dials(east, transport).imports_both(SERVICE, gateway(port));
    let east = Gateway::start(east, &east_config);
    let west = Gateway::start(west, &west_config);
    west.wait_imported(SERVICE, &["east"]);
    (west, east)
}

fn names_are_resolved_over_udp_and_tcp(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let (text, log) = ("t".repeat(200), east.dir().join("dnsmasq.log"));
    let big = format!("--txt-record=big.example,{}", [text.as_str(); 5].join(","));
    let args = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--log-facility=-",
        "--user=root",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--except-interface=lo",
        "--listen-address=10.0.0.2",
        "--address=/api.example/192.0.2.77",
        &big,
    ];
    let _dns = Process::start(east.pods(), "dnsmasq", &log, Path::new("dnsmasq"), &args);
    let (west, _east) = start(&topology, transport, 53);
    let dig = |args: &[&str]| {
        let all = [&["@10.0.0.1", "+tries=1", "+time=10"], args].concat();
        west.cluster().pods().exec("dig", &all)
    };
    eventually("dnsmasq answers", || {
        let found = dig(&["+short", "api.example"]);
        if found == "192.0.2.77\n" { Ok(()) } else { Err(found) }
    });
    // One question, one flow, one answer: nothing is asked twice.
    for _ in 0..20 {
        assert_eq!(dig(&["+short", "api.example"]), "192.0.2.77\n");
    }
    let whole = dig(&["+bufsize=4096", "+notcp", "big.example", "TXT"]);
    assert!(whole.contains(&text) && whole.contains("(UDP)"), "{whole}");
    let cut = dig(&["+noedns", "big.example", "TXT"]);
    assert!(cut.contains("retrying in TCP mode") && cut.contains(&text) && cut.contains("(TCP)"), "{cut}");
    let streams = |service: &str| west.metrics().sum("isthmus_streams_opened_total", &[service]);
    assert!(streams("service=\"net/udp:53/udp\"") >= 22.0 && streams("service=\"net/udp:53\"") >= 1.0);
}

/// What iperf3's own sockets had no room for, because it was not let run, is not counted against the gateways.
fn iperf3_loses_nothing_to_speak_of(transport: Transport) {
    let _turn = super::heavy();
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let log = east.dir().join("iperf3.log");
    let _server = Process::start(east.pods(), "iperf3", &log, Path::new("iperf3"), &["-s", "-B", "10.0.0.2"]);
    let (west, east) = start(&topology, transport, 5201);
    for (direction, receiver) in [(&[][..], &east), (&["--reverse"], &west)] {
        let before = overflowed(receiver.cluster().pods());
        let args = ["-c", "10.0.0.1", "--udp", "--bitrate", "10M", "--time", "2", "--length", "1200", "--json"];
        let said = west.cluster().pods().exec("iperf3", &[&args[..], direction].concat());
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let sum = &said["end"]["sum"];
        let figure = |name: &str| sum[name].as_f64().unwrap_or_else(|| panic!("iperf3 has no {name}: {said}"));
        let lost = figure("lost_packets") - (overflowed(receiver.cluster().pods()) - before);
        // 10 Mbit/s for two seconds are 2,083 datagrams of 1,200 bytes.
        let dropped = [&west, &east].map(|gateway| gateway.metrics().sum("isthmus_datagrams_dropped_total", &[]));
        let packets = figure("packets");
        assert!(packets > 2000.0 && lost < packets / 50.0, "{direction:?}: {lost} of {sum}; dropped {dropped:?}");
    }
}

/// Datagrams that the sockets in a namespace had no room for.
fn overflowed(netns: &Netns) -> f64 {
    let counters = netns.exec("cat", &["/proc/net/snmp"]);
    let mut udp = counters.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (udp.next().unwrap(), udp.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(name, _)| *name == "RcvbufErrors").unwrap().1.parse().unwrap()
}

fn datagrams_of_every_size_come_whole(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = UdpEcho::serve(east.pods(), pod(2, 5400), "");
    let (west, _east) = start(&topology, transport, 5400);
    let client = client(west.cluster().pods(), gateway(5400));
    for size in [0, 1, 1200, 1473, 8 << 10, 60 << 10, 65_507, 100] {
        let question: Vec<u8> = (0..size).map(|i: usize| (i * 7 + size) as u8).collect();
        assert!(ask(&client, &question).unwrap() == question, "{size} bytes");
    }
    let framed = west.metrics().sum("isthmus_datagrams_framed_total", &["direction=\"egress\""]);
    assert_eq!(framed > 0.0, transport == Transport::Quic, "only QUIC's have a size");
}

/// IPv6 has longer datagrams than IPv4: from a client of the one to an endpoint of the other the longest cannot go.
fn a_datagram_that_cannot_be_delivered_is_reported(transport: Transport) {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = UdpEcho::serve(east.pods(), pod(2, 5400), "");
    let listen: SocketAddr = "[::1]:5400".parse().unwrap();
    let east_config = Config::new(east).is_dialled_by(west).exports_both(SERVICE, 5400, &[pod(2, 0).ip()]);
    let west_config = Config::new(west).dials(east, transport).imports_both(SERVICE, listen);
    let east = Gateway::start(east, &east_config);
    let west = Gateway::start(west, &west_config);
    west.wait_imported(SERVICE, &["east"]);
    let client = client(west.cluster().edge(), listen);
    assert_eq!(ask(&client, b"hello").unwrap(), b"hello");
    client.send(&[7; 65_527]).unwrap();
    east.wait_metric("isthmus_datagrams_dropped_total", &["reason=\"too_large\""], |dropped| dropped == 1.0);
    let said = east.wait_log(&["too large to be delivered"]);
    assert!(said.contains("net/udp:5400/udp") && said.contains("65527") && said.contains("65507"), "{said}");
    assert_eq!(ask(&client, b"and on").unwrap(), b"and on");
}

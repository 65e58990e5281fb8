//! Limits and timeouts of a UDP service: what is beyond them is dropped and counted, and what is within goes on.

use super::{PORT, SERVICE, configs};
use isthmus_tests::{
    Config, Gateway, Topology, Transport, UdpEcho,
    datagrams::{ask, client, receive, set_patience},
    eventually,
    topology::{gateway, pod},
};
use std::{net::UdpSocket, time::Duration};

/// Flows that are tried, many more than may be.
const TRIED: usize = 20;
/// Of all, the flows.
const UDP: &str = "service=\"net/udp:5400/udp\"";

struct Limited<'a> {
    west: Gateway<'a>,
    east: Gateway<'a>,
    _echo: UdpEcho,
}

fn start<'a>(topology: &'a Topology, transport: Transport, import: &'static str, export: &'static str) -> Limited<'a> {
    start_over("{}", topology, transport, import, export)
}

/// The same where east's link with west has limits.
fn start_over<'a>(
    link: &'static str,
    topology: &'a Topology,
    transport: Transport,
    import: &'static str,
    export: &'static str,
) -> Limited<'a> {
    let echo = UdpEcho::serve(topology.cluster("east").pods(), pod(2, PORT), "");
    let (west, east): (Config, Config) = configs(topology, transport, &[2]);
    let east = Gateway::start(topology.cluster("east"), &east.with_export_policy(export).with_link_limits(link));
    let west = Gateway::start(topology.cluster("west"), &west.with_import_policy(import));
    west.wait_imported(SERVICE, &["east"]);
    Limited { west, east, _echo: echo }
}

impl Limited<'_> {
    fn client(&self) -> UdpSocket {
        let client = client(self.west.cluster().pods(), gateway(PORT));
        set_patience(&client, Duration::from_millis(500));
        client
    }

    /// Clients that have sent one datagram.
    fn try_many(&self) -> Tried {
        let clients: Vec<_> = (0..TRIED).map(|_| (self.client(), false)).collect();
        for (client, _) in &clients {
            client.set_nonblocking(true).unwrap();
            client.send(b"?").unwrap();
        }
        Tried(clients)
    }
}

/// Clients, and whether each has had an answer so far.
struct Tried(Vec<(UdpSocket, bool)>);

impl Tried {
    fn answered(&mut self) -> usize {
        for (client, answered) in &mut self.0 {
            *answered = *answered || receive(client, &mut [0; 8]).is_ok();
        }
        self.0.iter().filter(|(_, answered)| *answered).count()
    }

    fn wait_answered(&mut self, wanted: usize) {
        eventually("those who may have an answer have it", || match self.answered() {
            answered if answered >= wanted => Ok(()),
            answered => Err(format!("{answered} of {wanted}")),
        });
    }
}

/// At either side, as many flows are served as may be, and these go on.
#[test]
fn no_more_flows_than_a_service_may_have() {
    for transport in [Transport::Tls, Transport::Quic] {
        for (link, import, export, bound) in [
            ("{}", "{limits: {streams: 5}}", "{}", "service_streams"),
            ("{}", "{}", "{limits: {streams: 5}}", "service_streams"),
            ("{}", "{limits: {perSource: {streams: 5}}}", "{}", "source_streams"),
            ("{}", "{}", "{limits: {perPeer: {streams: 5}}}", "peer_streams"),
            ("{streams: 5}", "{}", "{}", "link_streams"),
        ] {
            let topology = Topology::west_and_east();
            let limited = start_over(link, &topology, transport, import, export);
            let mut tried = limited.try_many();
            tried.wait_answered(5);
            let side = if import == "{}" { &limited.east } else { &limited.west };
            side.wait_metric("isthmus_refusals_total", &[&format!("bound=\"{bound}\"")], |n| n >= (TRIED - 5) as f64);
            limited.west.wait_metric("isthmus_streams_closed_total", &[UDP, "reason=\"refused_limit\""], |n| {
                n >= (TRIED - 5) as f64
            });
            assert_eq!(tried.answered(), 5, "{link} {import} {export}");
            for (client, _) in tried.0.iter().filter(|(_, answered)| *answered) {
                client.set_nonblocking(false).unwrap();
                assert_eq!(ask(client, b"again").unwrap(), b"again");
            }
        }
    }
}

/// A client that is refused and goes on costs one attempt a second, whatever it sends.
#[test]
fn a_flood_of_a_refused_client_is_no_flood_of_flows() {
    let topology = Topology::west_and_east();
    let limited = start(&topology, Transport::Quic, "{limits: {streams: 1}}", "{}");
    let first = limited.client();
    assert_eq!(ask(&first, b"one").unwrap(), b"one");
    let second = limited.client();
    for _ in 0..500 {
        second.send(b"two").unwrap();
    }
    let dropped = [UDP, "reason=\"unopened\""];
    limited.west.wait_metric("isthmus_datagrams_dropped_total", &dropped, |n| n >= 400.0);
    let refused = limited.west.metrics().sum("isthmus_streams_closed_total", &[UDP, "reason=\"refused_limit\""]);
    assert!(refused <= 5.0, "{refused} flows for 500 datagrams");
    assert_eq!(ask(&first, b"three").unwrap(), b"three");
}

#[test]
fn so_many_flows_a_second() {
    let topology = Topology::west_and_east();
    let limited = start(&topology, Transport::Tls, "{limits: {opensPerSecond: 5}}", "{}");
    let mut tried = limited.try_many();
    tried.wait_answered(5);
    limited.west.wait_metric("isthmus_refusals_total", &["bound=\"service_opens\""], |n| n > 0.0);
    let answered = tried.answered();
    assert!(answered < TRIED, "{answered}");
}

/// What is beyond the rate is dropped, and does not come late.
#[test]
fn bytes_beyond_the_rate_are_dropped() {
    for (import, export) in [("{limits: {bytesPerSecond: 100KiB}}", "{}"), ("{}", "{limits: {bytesPerSecond: 100KiB}}")]
    {
        let topology = Topology::west_and_east();
        let limited = start(&topology, Transport::Quic, import, export);
        let client = limited.client();
        assert_eq!(ask(&client, b"one").unwrap(), b"one");
        for _ in 0..300 {
            client.send(&[7; 1000]).unwrap();
        }
        let side = if import == "{}" { &limited.east } else { &limited.west };
        side.wait_metric("isthmus_datagrams_dropped_total", &[UDP, "reason=\"rate\""], |n| n >= 100.0);
        eventually("it goes on", || match ask(&client, b"two") {
            Ok(answer) if answer == b"two" => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

#[test]
fn a_flow_of_a_service_ends_by_the_services_own_times() {
    let topology = Topology::west_and_east();
    let limited = start(&topology, Transport::Quic, "{timeouts: {idle: 1s}}", "{}");
    let client = limited.client();
    assert_eq!(ask(&client, b"one").unwrap(), b"one");
    limited.west.wait_metric("isthmus_streams_closed_total", &[UDP, "reason=\"idle\""], |n| n == 1.0);
    let topology = Topology::west_and_east();
    let limited = start(&topology, Transport::Quic, "{timeouts: {maxAge: 1s}}", "{}");
    let client = limited.client();
    eventually("a flow that never falls silent reaches its age", || {
        let _ = ask(&client, b"still there");
        match limited.west.metrics().sum("isthmus_streams_closed_total", &[UDP, "reason=\"timeout\""]) {
            0.0 => Err("it goes on".into()),
            _ => Ok(()),
        }
    });
    assert_eq!(ask(&client, b"two").map_err(|e| e.to_string()).as_deref(), Ok(&b"two"[..]), "another one begins");
}

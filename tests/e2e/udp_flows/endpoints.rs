//! Endpoints that are dead, die, talk too much or are behind a narrow network.

use super::*;
use isthmus_tests::Netns;

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

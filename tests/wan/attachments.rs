//! What can be attached: three clusters, a namespace in front of one; and what is not behind any.

use isthmus_tests::{Cluster, Endpoint, Netns, Topology, client, endpoint, eventually, topology::pod};
use isthmus_wan::{Attachment, Error, Impairments, Tun, Wan};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

#[test]
fn three_clusters_reach_each_other_each_way_as_bad_as_it_is_set() {
    let names = ["west", "east", "relay"];
    let topology = Topology::over(&names, "2ms".parse().unwrap(), 1);
    let [west, east, relay] = names.map(|name| topology.cluster(name));
    let echo = |c: &'_ Cluster| Endpoint::serve(c.edge(), c.tasks(), c.tunnel_address(), endpoint::echo);
    let _echoes = [west, east, relay].map(echo);
    topology.emulator().set("west", "east", Impairments { black_hole: true, ..Impairments::default() }).unwrap();
    for (from, to) in [(west, relay), (relay, west), (east, relay), (relay, east)] {
        topology.block_on(async {
            let mut stream = client::connect(from.edge(), to.tunnel_address()).await.unwrap();
            client::exchange(&mut stream, from.name().as_bytes()).await.unwrap();
        });
    }
    let (from, to) = (SocketAddr::new(west.tunnel_address().ip(), 0), east.tunnel_address());
    west.edge().run(move || UdpSocket::bind(from)?.send_to(b"lost", to)).unwrap();
    let swallowed = || topology.emulator().counters("west", "east").unwrap().black_holed;
    eventually("west's packet is swallowed", || if swallowed() == 1 { Ok(()) } else { Err("not yet".into()) });
    let unknown = topology.emulator().counters("west", "north").unwrap_err();
    assert_eq!(unknown.to_string(), r#"found "north", expected one of the WAN's attachments: west, east, relay"#);
}

#[test]
fn the_wan_knows_no_pod_and_says_so() {
    let topology = Topology::over(&["west", "east"], Impairments::default(), 1);
    let wan = topology.emulator();
    assert_eq!(wan.routes(pod(2, 8080).ip()), [""; 0]);
    assert_eq!(wan.routes(topology.cluster("east").tunnel_address().ip()), ["east"]);
    let nowhere: SocketAddr = "10.99.0.2:80".parse().unwrap();
    let error = topology.cluster("west").edge().connect(nowhere).unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable), "{error}");
    assert!(wan.unrouted().unwrap() > 0);
}

/// What is behind it has networks of its own. Whether that namespace routes or masquerades is no matter of the WAN's.
#[test]
fn an_attachment_may_be_a_namespace_in_front_of_another() {
    let (inside, front, outside) = (Netns::new("inside"), Netns::new("front"), Netns::new("outside"));
    front.ip(&format!("link add inside type veth peer name eth0 netns {}", inside.path().display()));
    front.ip("address add 172.16.0.1/24 dev inside");
    front.ip("link set inside up");
    inside.ip("address add 172.16.0.2/24 dev eth0");
    inside.ip("link set eth0 up");
    inside.ip("route add default via 172.16.0.1");
    front.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
    let attach = |netns: &Netns, address: &str, prefixes: &[&str]| {
        let tun = netns.run(|| Tun::create("wan")).unwrap();
        netns.ip(&format!("address add {address}/32 dev wan"));
        netns.ip("link set wan up");
        netns.ip("route add default dev wan");
        let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        Attachment { name: netns.name().to_owned(), tun, prefixes }
    };
    let front = attach(&front, "192.0.2.2", &["192.0.2.2/32", "172.16.0.0/24"]);
    let _wan = Wan::start(vec![front, attach(&outside, "203.0.113.2", &["203.0.113.2/32"])], "2ms".parse().unwrap(), 1);
    let listener = outside.listen("203.0.113.2:80".parse().unwrap());
    let accepting = std::thread::spawn(move || listener.accept().unwrap().1);
    let _connected = inside.connect("203.0.113.2:80".parse().unwrap()).unwrap();
    assert_eq!(accepting.join().unwrap().ip().to_string(), "172.16.0.2");
}

#[test]
fn a_device_needs_a_name_that_the_kernel_takes_and_a_gone_wan_says_so() {
    let netns = Netns::new("solo");
    for bad in ["", "sixteen-letters!"] {
        assert_eq!(netns.run(move || Tun::create(bad)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    let wan = Wan::start(Vec::new(), Impairments::default(), 1).unwrap();
    assert!(matches!(wan.set("a", "b", Impairments::default()), Err(Error::Unknown { .. })));
}

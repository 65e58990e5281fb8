//! Several gateways a side: those that die or restart take nothing but their own streams with them.

use isthmus_tests::{
    Cluster, Config, Endpoint, Gateway, Load, Nginx, Topology, Transport, check, client, endpoint,
    load::Reuse,
    pair,
    several::{self, wait_message, wait_reached, wait_served},
};
use std::time::Instant;

/// Makes each test once for each transport that tells gateways apart.
macro_rules! over_our_transports {
    ($($test:ident),+ $(,)?) => {
        mod over_tls {
            $(#[test] fn $test() { super::$test(isthmus_tests::Transport::Tls); })+
        }
        mod over_quic {
            $(#[test] fn $test() { super::$test(isthmus_tests::Transport::Quic); })+
        }
    };
}

over_our_transports!(
    a_gateway_is_killed_under_load,
    gateways_restart_one_by_one_under_load,
    a_load_balancer_hides_several_gateways,
);

/// Clients of each load.
const CLIENTS: u64 = 8;

/// Both clusters have two gateways, and both serve; only west dials.
struct Both<'t> {
    west: [Gateway<'t>; 2],
    east: [Gateway<'t>; 2],
    _served: [Nginx; 4],
}

impl<'t> Both<'t> {
    fn start(topology: &'t Topology, transport: Transport) -> Self {
        let [west, east] = ["west", "east"].map(|name| clusters(topology, name));
        let served = [west[0], west[1], east[0], east[1]]
            .map(|cluster| Nginx::start(cluster.pods(), cluster.dir(), pair::endpoint(), "served"));
        let config = |cluster| {
            several::config(cluster).exports(pair::SERVICE, &[pair::endpoint()]).imports(pair::SERVICE, pair::import())
        };
        // Their own endpoints are there for their peers.
        let remote = |config: Config| config.with_affinity("remote");
        let east_gateways = east.map(|at| Gateway::start(at, &remote(config(at).links("west", &[], None))));
        let endpoints = several::endpoints(&east);
        let west_gateways =
            west.map(|at| Gateway::start(at, &remote(config(at).links("east", &endpoints, Some(transport)))));
        let both = Self { west: west_gateways, east: east_gateways, _served: served };
        both.wait();
        assert!(both.west.iter().all(|gateway| gateway.link("east")["degraded"] == false));
        both
    }

    /// Waits until each gateway reaches both of its peer's, and is told what they serve.
    fn wait(&self) {
        for (gateways, peer) in [(&self.west, "east"), (&self.east, "west")] {
            for gateway in gateways {
                assert_eq!(wait_reached(gateway, peer, 2, 2)["state"], "up");
                gateway.wait_imported(pair::SERVICE, &["east", "west"]);
            }
        }
    }
}

fn clusters<'t>(topology: &'t Topology, name: &str) -> [&'t Cluster; 2] {
    [1, 2].map(|n| topology.cluster(&format!("{name}-{n}")))
}

fn load(gateway: &Gateway<'_>) -> Load {
    let at = gateway.cluster();
    Load::start(at.pods(), at.tasks(), pair::import(), 8, Reuse::ConnectionPerRequest, "served")
}

fn version(gateway: &Gateway<'_>) -> u64 {
    gateway.status()["table"]["version"].as_u64().unwrap()
}

fn a_gateway_is_killed_under_load(transport: Transport) {
    let topology = several::topology(2, 2);
    let mut both = Both::start(&topology, transport);
    // East's first one, under load from both gateways of west.
    let loads = [load(&both.west[0]), load(&both.west[1])];
    loads.iter().for_each(|load| load.wait_for(200));
    let versions = both.west.each_ref().map(version);
    both.east[0].kill();
    let killed = Instant::now();
    loads.iter().for_each(|load| load.wait_for(1000));
    let dead = topology.cluster("east-1").tunnel_address().to_string();
    for gateway in &both.west {
        let link = wait_message(gateway, "east", &["1 of 2 gateways are reached", &dead]);
        assert_eq!((&link["state"], &link["degraded"]), (&"up".into(), &true.into()), "{link}");
        check::wait_named(gateway, "link east", &["1 of 2 gateways are reached", &dead]);
    }
    loads.into_iter().for_each(|load| load.stop().assert_no_failure_since(killed, CLIENTS));
    assert_eq!(both.west.each_ref().map(version), versions, "the other gateway says the same of what east serves");
    both.east[0].restart();
    both.wait();
    // West's first one, which dialled, under load from both gateways of east.
    let loads = [load(&both.east[0]), load(&both.east[1])];
    loads.iter().for_each(|load| load.wait_for(200));
    both.west[0].kill();
    let killed = Instant::now();
    loads.iter().for_each(|load| load.wait_for(1000));
    loads.into_iter().for_each(|load| load.stop().assert_no_failure_since(killed, CLIENTS));
}

/// As an upgrade does it: the next one is not touched before the one before is back.
fn gateways_restart_one_by_one_under_load(transport: Transport) {
    let topology = several::topology(1, 2);
    let [west, east] = [vec![topology.cluster("west-1")], clusters(&topology, "east").to_vec()];
    let _served: Vec<_> =
        east.iter().map(|cluster| Nginx::start(cluster.pods(), cluster.dir(), pair::endpoint(), "served")).collect();
    let mut gateways: Vec<_> = east
        .iter()
        .map(|cluster| {
            let config = several::config(cluster).exports(pair::SERVICE, &[pair::endpoint()]);
            Gateway::start(cluster, &config.links("west", &[], None))
        })
        .collect();
    let config = several::config(west[0]).imports(pair::SERVICE, pair::import());
    let west = Gateway::start(west[0], &config.links("east", &several::endpoints(&east), Some(transport)));
    wait_reached(&west, "east", 2, 2);
    wait_served(&west, "east");
    let load = load(&west);
    load.wait_for(200);
    for gateway in &mut gateways {
        gateway.terminate();
        assert!(gateway.wait_end().success());
        load.wait_for(100);
        gateway.restart();
        wait_reached(&west, "east", 2, 2);
        load.wait_for(100);
    }
    load.stop().assert_no_failure();
}

/// West knows one address, behind which connections go to either gateway in turn.
fn a_load_balancer_hides_several_gateways(transport: Transport) {
    let topology = several::topology(1, 2);
    let [west, [one, two]] = [[topology.cluster("west-1"); 2], clusters(&topology, "east")];
    topology.wan().exec("nft", &[&balance("203.0.113.99", &[one, two])]);
    let _served = [one, two].map(|at| Nginx::start(at.pods(), at.dir(), pair::endpoint(), "served"));
    let mut gateways = [one, two].map(|at| {
        let config = several::config(at).exports(pair::SERVICE, &[pair::endpoint()]);
        Gateway::start(at, &config.links("west", &[], None))
    });
    let config = several::config(west[0]).imports(pair::SERVICE, pair::import()).with("cores: 2");
    let config = config.links("east", &["203.0.113.99:15008".into()], Some(transport));
    let west = Gateway::start(west[0], &config);
    let link = wait_reached(&west, "east", 2, 2);
    assert_eq!(link["gateways"]["addresses"][0]["gateways"].as_array().unwrap().len(), 2, "{link}");
    wait_served(&west, "east");
    // Every core has a tunnel to both: whichever takes a client, one gateway's death does not matter.
    gateways.iter().for_each(|gateway| {
        gateway.wait_metric("isthmus_tunnels", &["health=\"live\""], |live| live == 2.0);
    });
    let load = load(&west);
    load.wait_for(200);
    gateways[0].kill();
    let killed = Instant::now();
    load.wait_for(1000);
    load.stop().assert_no_failure_since(killed, CLIENTS);
}

/// A load balancer for TCP and UDP that takes turns, and stays with one for a connection.
fn balance(address: &str, to: &[&Cluster; 2]) -> String {
    let [one, two] = to.map(|cluster| cluster.tunnel_address().ip());
    format!(
        "add table ip lb; add chain ip lb incoming {{ type nat hook prerouting priority dstnat; }}; \
         add rule ip lb incoming ip daddr {address} dnat to numgen inc mod 2 map {{ 0 : {one}, 1 : {two} }}"
    )
}

/// A gateway that peers dial only, and that none has dialled, says so.
#[test]
fn a_gateway_that_nobody_dials_says_so() {
    let topology = several::topology(1, 2);
    let [one, two] = clusters(&topology, "east");
    let config = |at| several::config(at).links("west", &[], None).exports(pair::SERVICE, &[pair::endpoint()]);
    let [one_gateway, two_gateway] = [one, two].map(|at| Gateway::start(at, &config(at)));
    let west = topology.cluster("west-1");
    let _echo = Endpoint::serve(one.pods(), one.tasks(), pair::endpoint(), endpoint::echo);
    let config = several::config(west).imports(pair::SERVICE, pair::import());
    let west_gateway = Gateway::start(west, &config.links("east", &several::endpoints(&[one]), Some(Transport::Tls)));
    wait_served(&west_gateway, "east");
    one_gateway.wait_link("west", &["up"]);
    let link = two_gateway.link("west");
    assert_eq!((&link["state"], &link["gateways"]["reached"]), (&"waiting".into(), &0.into()), "{link}");
    let line = check::wait_named(&two_gateway, "link west", &["waiting"]);
    assert!(line["fix"].as_str().unwrap().contains("has to dial this one"), "{line}");
    topology.block_on(async {
        let mut stream = client::connect(west.pods(), pair::import()).await.unwrap();
        client::exchange(&mut stream, b"through the one that is dialled").await.unwrap();
    });
}

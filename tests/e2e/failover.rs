//! Endpoints die, and another cluster serves: within a second, and back again when they are there.

use crate::{
    balancing::{ask, teller},
    endpoints::{assert_each_within_a_second, swallow},
    over_each_transport,
};
use isthmus_tests::{
    Endpoint, Topology, Transport, endpoint, eventually,
    pair::{self, Pair},
    topology::pod,
};
use std::time::{Duration, Instant};

over_each_transport!(
    local_endpoints_die_and_the_other_cluster_serves,
    remote_endpoints_die_and_this_cluster_serves,
    endpoints_fall_silent_and_the_other_cluster_serves,
);

/// From a fault to the first good stream.
const FAILOVER: Duration = Duration::from_secs(1);
/// West's endpoint, and east's.
const HOSTS: [u8; 2] = [2, 3];

fn start<'a>(topology: &'a Topology, transport: Transport, affinity: &'static str) -> Pair<'a> {
    let [here, there] = HOSTS.map(|host| vec![pod(host, 8080)]);
    let mut west = pair::west_config(topology, transport).exports(pair::SERVICE, &here).with_affinity(affinity);
    west.import_more = Some("policy: {failover: {recovery: 1s}}");
    Pair::start_with(topology, &west, &pair::east_config(topology, transport, &there))
}

/// The endpoints of `preferred` die, and come back.
fn fail_over_and_back(topology: &Topology, [preferred, other]: [&str; 2], [first, second]: [u8; 2]) {
    let endpoint = || teller(topology, preferred, first, Duration::ZERO);
    let (serving, _other) = (endpoint(), teller(topology, other, second, Duration::ZERO));
    let who = || topology.block_on(ask(topology)).map_err(|e| e.to_string());
    for _ in 0..20 {
        assert_eq!(who(), Ok(first));
    }
    let fault = Instant::now();
    drop(serving);
    eventually("the other cluster serves", || {
        who().and_then(|host| if host == second { Ok(()) } else { Err("it does not".into()) })
    });
    assert!(fault.elapsed() < FAILOVER, "{:?} from the fault to the first good stream", fault.elapsed());
    // No stream is lost to an endpoint that does not take connections.
    for _ in 0..100 {
        assert_eq!(who(), Ok(second));
    }
    let _serving = endpoint();
    eventually("all streams are back", || {
        let back = (0..20).filter(|_| who() == Ok(first)).count();
        if back == 20 { Ok(()) } else { Err(format!("{back} of 20")) }
    });
}

fn local_endpoints_die_and_the_other_cluster_serves(transport: Transport) {
    let topology = Topology::west_and_east();
    let _pair = start(&topology, transport, "local");
    fail_over_and_back(&topology, ["west", "east"], HOSTS);
}

fn remote_endpoints_die_and_this_cluster_serves(transport: Transport) {
    let topology = Topology::west_and_east();
    let _pair = start(&topology, transport, "remote");
    fail_over_and_back(&topology, ["east", "west"], [HOSTS[1], HOSTS[0]]);
}

/// Nobody is refused by an endpoint whose host is gone. The bytes that clients have sent meanwhile go to the other cluster.
fn endpoints_fall_silent_and_the_other_cluster_serves(transport: Transport) {
    for (affinity, preferred, host) in [("local", "west", HOSTS[0]), ("remote", "east", HOSTS[1])] {
        let topology = Topology::west_and_east();
        let echo = |cluster: &str, host| {
            let cluster = topology.cluster(cluster);
            Endpoint::serve(cluster.pods(), cluster.tasks(), pod(host, 8080), endpoint::echo)
        };
        let (west, east) = (echo("west", HOSTS[0]), echo("east", HOSTS[1]));
        let pair = start(&topology, transport, affinity);
        assert_each_within_a_second(&pair);
        swallow(&topology, preferred, [host]);
        assert_each_within_a_second(&pair);
        assert_each_within_a_second(&pair);
        assert!(west.accepted() > 0 && east.accepted() > 0);
    }
}

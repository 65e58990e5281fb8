//! Two clusters with the same pod CIDR, and real programs at both ends.

use crate::over_each_transport;
use isthmus_tests::{
    Config, Endpoint, Gateway, Load, Nginx, Pattern, Topology, Transport, client, endpoint,
    load::Reuse,
    pair::{self, Pair},
    topology::{gateway, pod},
};
use std::io;

over_each_transport!(http_from_west_is_served_in_east, large_files_arrive_whole);

fn http_from_west_is_served_in_east(transport: Transport) {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served by east");
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    // The endpoint's address is a host of west's own, which serves nothing: only the tunnel can have reached east's.
    let local = west.pods().connect(pair::endpoint()).map(drop).map_err(|e| e.kind());
    assert_eq!(local, Err(io::ErrorKind::ConnectionRefused));
    for reuse in [Reuse::ConnectionPerRequest, Reuse::KeepAlive] {
        let load = pair.load(8, reuse, "served by east");
        load.wait_for(1000);
        load.stop().assert_no_failure();
    }
}

fn large_files_arrive_whole(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "");
    std::fs::write(nginx.files().join("large"), Pattern::new(11).take(64 << 20)).unwrap();
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let url = format!("http://{}/files/large", pair::import());
    let file = topology.dir().join("fetched");
    let fetched = pair.west.cluster().pods().exec("curl", &["-sS", "--fail", "-o", file.to_str().unwrap(), &url]);
    assert!(fetched.is_empty());
    assert!(std::fs::read(file).unwrap() == Pattern::new(11).take(64 << 20), "the file differs");
}

/// Only west dials, and east's clients use a service of west's through the tunnels that it dialled.
#[test]
fn a_service_of_west_is_used_from_east_through_tunnels_that_west_dialled() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _db = Endpoint::serve(west.pods(), west.tasks(), pod(3, 5432), endpoint::echo);
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served by east");
    let west_config = pair::west_config(&topology, Transport::Tls).exports("shop/db", &[pod(3, 5432)]);
    let east_config =
        pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]).imports("shop/db", gateway(15432));
    let pair = Pair::start_with(&topology, &west_config, &east_config);
    pair.east.wait_imported("shop/db", &["west"]);
    topology.block_on(async {
        let mut stream = client::connect(east.pods(), gateway(15432)).await.unwrap();
        client::exchange(&mut stream, &Pattern::new(1).take(1 << 20)).await.unwrap();
    });
    let load = pair.load(4, Reuse::ConnectionPerRequest, "served by east");
    load.wait_for(100);
    load.stop().assert_no_failure();
}

/// The exporting cluster's own clients can use it too, without a peer.
#[test]
fn a_cluster_uses_its_own_export() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "local");
    let config = Config::new(east).exports(pair::SERVICE, &[pair::endpoint()]).imports(pair::SERVICE, pair::import());
    let _gateway = Gateway::start(east, &config);
    let load = Load::start(east.pods(), east.tasks(), pair::import(), 4, Reuse::ConnectionPerRequest, "local");
    load.wait_for(100);
    load.stop().assert_no_failure();
}

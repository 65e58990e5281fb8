//! SVIDs are replaced under load.

use isthmus_tests::{
    Cluster, Endpoint, Nginx, Papers, Topology, Transport, endpoint, eventually, identity,
    load::Reuse,
    pair::{self, Pair},
    stranger,
};

/// Ten seconds are the shortest life that can be asked for: each gateway renews its own about every five.
#[test]
fn gateways_renew_their_own_svids_under_load() {
    let topology = Topology::new(&["west", "east"]);
    topology.make_identities_that_live("10s");
    let [west, east] = ["west", "east"].map(|name| topology.cluster(name));
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let load = pair.load(4, Reuse::ConnectionPerRequest, "served");
    let kept = pair.load(4, Reuse::KeepAlive, "served");
    for _ in 0..3 {
        let before = [west, east].map(svid);
        eventually("both have renewed", || {
            let renewed = before[0] != svid(west) && before[1] != svid(east);
            if renewed { Ok(()) } else { Err("not yet".into()) }
        });
        wait_shown(west, east);
        load.wait_for(50);
        kept.wait_for(50);
    }
    kept.stop().assert_no_failure();
    load.stop().assert_no_failure();
}

/// The files change, as cert-manager or an operator would change them.
#[test]
fn replaced_files_are_taken_up_under_load() {
    let topology = Topology::west_and_east();
    let [west, east] = ["west", "east"].map(|name| topology.cluster(name));
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let mut pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let load = pair.load(4, Reuse::ConnectionPerRequest, "served");
    let kept = pair.load(4, Reuse::KeepAlive, "served");
    for _ in 0..3 {
        for cluster in [west, east] {
            identity::renew(&cluster.identity_dir());
        }
        wait_shown(west, east);
        load.wait_for(50);
        kept.wait_for(50);
    }
    kept.stop().assert_no_failure();
    load.stop().assert_no_failure();
    // New tunnels are made with the new ones.
    pair.east.restart();
    let load = eventually("west is back", || {
        let load = pair.load(1, Reuse::ConnectionPerRequest, "served");
        load.wait_for(1);
        Ok(load)
    });
    load.stop();
}

/// A bundle that is broken off in the middle is refused, and what was trusted before stays trusted.
#[test]
fn a_broken_bundle_is_refused_and_the_last_good_one_stays() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let mut pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let bundle = east.identity_dir().join("bundles/west.pem");
    let good = std::fs::read_to_string(&bundle).unwrap();
    std::fs::write(&bundle, &good[..good.len() / 2]).unwrap();
    pair.east.wait_log(&["west.pem"]);
    pair.west.restart();
    pair.wait_echo();
}

fn svid(cluster: &Cluster) -> String {
    let pem = std::fs::read_to_string(cluster.identity_dir().join("svid.pem"));
    pem.map(|pem| stranger::leaf_of(&pem)).unwrap_or_default()
}

/// Waits until east shows the SVID that its directory has.
fn wait_shown(west: &Cluster, east: &Cluster) {
    eventually("east shows its new SVID", || {
        let shown = stranger::shown(west.edge(), east.tunnel_address(), &Papers::of(&west.identity_dir()));
        if shown == svid(east) { Ok(()) } else { Err("it shows another one".into()) }
    });
}

//! The peers that nobody here wrote work with each other: what they tell about us is then about us.

use isthmus_tests::{
    Envoy, Load, Nginx, Papers, Topology,
    envoy::Trust,
    identity,
    load::Reuse,
    stranger::{self, Authority, Validity, gateway_id},
    topology::{Cluster, gateway, pod},
};
use std::path::Path;

fn trust(cluster: &Cluster, peer: &str) -> Trust {
    let out = cluster.dir().join("envoy");
    identity::issue(&cluster.identity_dir(), &gateway_id(&format!("{}.e2e", cluster.name())), &out);
    let bundle = cluster.identity_dir().join(format!("bundles/{peer}.pem"));
    Trust { papers: Papers::of(&out), bundle, peer: gateway_id(&format!("{peer}.e2e")) }
}

#[test]
fn two_envoys_carry_hbone_with_svids_of_ours() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _nginx = Nginx::start(east.pods(), east.dir(), pod(2, 8080), "served");
    let authority = "api.shop.svc.clusterset.local:80";
    let tunnel = east.tunnel_address();
    let _ingress = Envoy::ingress(east.edge(), east.dir(), tunnel, pod(2, 8080), authority, &trust(east, "west"));
    let _egress = Envoy::egress(west.edge(), west.dir(), gateway(18080), tunnel, authority, &trust(west, "east"));
    let load = Load::start(west.pods(), west.tasks(), gateway(18080), 4, Reuse::KeepAlive, "served");
    load.wait_for(100);
    load.stop().assert_no_failure();
}

#[test]
fn openssl_takes_right_papers_and_refuses_expired_ones() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let expired = Authority::of(&west.identity_dir()).sign(topology.dir(), &gateway_id("west.e2e"), Validity::Over);
    let log = topology.dir().join("s_server.log");
    let bundle = east.identity_dir().join("bundles/west.pem");
    let papers = Papers::of(&east.identity_dir());
    let verify = ["-verify_return_error", "-naccept", "2", "-alpn", "isthmus/1", "-CAfile", identity::text(&bundle)];
    let _server = stranger::serve(east.edge(), &log, east.tunnel_address(), &papers, &verify);
    isthmus_tests::eventually("OpenSSL listens", || {
        let sockets = east.edge().exec("ss", &["-Hltn"]);
        if sockets.contains(":15008") { Ok(()) } else { Err(sockets) }
    });
    let shown = stranger::shown(west.edge(), east.tunnel_address(), &Papers::of(&west.identity_dir()));
    assert_eq!(shown, stranger::leaf_of(&std::fs::read_to_string(papers.certificate).unwrap()));
    let alpn = ["-alpn", "isthmus/1"];
    let said = stranger::dial(west.edge(), east.tunnel_address(), Some(&expired), &alpn, Path::new("/dev/null"));
    assert!(said.contains("certificate expired"), "{said}");
}

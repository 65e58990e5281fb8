//! Names and ClusterIPs, in a namespace that plays the pods' part.

use isthmus_tests::{
    Endpoint, KubeCluster, Pattern, Topology, client, endpoint, eventually,
    kube::{Clusterset, CoreDns, KubeProxy, Options},
    topology::{GATEWAY, pod},
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A Service with a fixed ClusterIP, and one pod behind it, at an address where a server really listens.
const ECHO: &str = include_str!("manifests/echo.yaml");

/// An import as a control plane would write it.
const IMPORT: &str = include_str!("manifests/import.yaml");

/// Where CoreDNS listens.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

#[test]
fn a_name_leads_to_a_cluster_ip_and_that_to_a_pod() {
    let topology = Topology::west_and_east();
    let west = topology.cluster("west");
    let cluster = KubeCluster::start(&Options::new("west").inside(west.edge(), GATEWAY));
    let pods = west.pods();
    pods.ip(&format!("route add 10.96.0.0/16 via {GATEWAY}"));
    let _echo = Endpoint::serve(pods, west.tasks(), pod(5, 7), endpoint::echo);
    cluster.make_namespace("shop");
    cluster.apply(ECHO);
    let _proxy = KubeProxy::start(&cluster, pods, "node-a");
    let dns = CoreDns::start(&cluster, pods, DNS.into(), Clusterset::Served);
    let found = dns.ask(pods, "A", "echo.shop.svc.cluster.local");
    assert_eq!(found, ["10.96.0.77"]);
    let service = SocketAddr::new(found[0].parse::<IpAddr>().unwrap(), 80);
    // The pod becomes ready at its own pace: until then kube-proxy refuses.
    eventually("the ClusterIP leads to the pod", || pods.connect(service).map(drop).map_err(|e| e.to_string()));
    topology.block_on(async {
        let mut stream = client::connect(pods, service).await.unwrap();
        client::exchange(&mut stream, &Pattern::new(1).take(100_000)).await.unwrap();
    });
}

#[test]
fn core_dns_serves_an_import_in_the_clusterset_zone() {
    let cluster = KubeCluster::start(&Options::new("west"));
    cluster.make_namespace("shop");
    cluster.apply(IMPORT);
    let netns = cluster.netns();
    let dns = CoreDns::start(&cluster, netns, Ipv4Addr::LOCALHOST.into(), Clusterset::Served);
    eventually("the import has a name", || match dns.ask(netns, "A", "api.shop.svc.clusterset.local") {
        found if found == ["10.96.7.7"] => Ok(()),
        found => Err(format!("{found:?}")),
    });
    assert_eq!(dns.ask(netns, "AAAA", "api.shop.svc.clusterset.local"), ["fd00:96::77"]);
    let srv = dns.ask(netns, "SRV", "_http._tcp.api.shop.svc.clusterset.local");
    assert_eq!(srv, ["0 50 80 api.shop.svc.clusterset.local."]);
    assert!(dns.ask(netns, "A", "none.shop.svc.clusterset.local").is_empty());
}

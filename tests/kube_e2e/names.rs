//! From a name to a pod of the other cluster, as a pod goes: CoreDNS, kube-proxy, our gateways.

use crate::mesh::{API, EXPORT, Mesh, echo};
use isthmus_tests::{
    Gateway, Pattern, Topology, client, eventually,
    kube::{Clusterset, CoreDns, KubeProxy},
    netns::Netns,
    topology::GATEWAY,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A headless Service with a pod that has a host name, and its export.
const DB: &str = include_str!("manifests/db.yaml");
/// Where west's CoreDNS listens.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
/// Where west's isthmus answers.
const ISTHMUS: SocketAddr = SocketAddr::new(IpAddr::V4(GATEWAY), 5353);

/// Waits until a name has one address, and this leads to an echo in the other cluster.
fn wait_reached(topology: &Topology, dns: &CoreDns, pods: &Netns, name: &str, port: u16) {
    let mut found = None;
    eventually(&format!("{name} has an address"), || match &dns.ask(pods, "A", name)[..] {
        [one] => {
            found = one.parse::<IpAddr>().ok();
            found.map(drop).ok_or_else(|| one.clone())
        }
        other => Err(format!("{other:?}")),
    });
    let address = SocketAddr::new(found.unwrap(), port);
    // kube-proxy takes it up at its own pace.
    eventually(&format!("{address} is reached"), || {
        let exchanged = topology.block_on(async {
            let mut stream = client::connect(pods, address).await.map_err(|error| error.to_string())?;
            client::exchange(&mut stream, &Pattern::new(1).take(10_000)).await.map_err(|error| error.to_string())
        });
        exchanged.map(drop)
    });
}

#[test]
fn a_name_of_the_clusterset_leads_to_a_pod_of_the_other_cluster() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let pods = topology.cluster("west").pods();
    pods.ip(&format!("route add 10.96.0.0/16 via {GATEWAY}"));
    let _echo = echo(&topology, "east");
    let mut config = mesh.config(&topology, "west");
    config.more.push_str(&format!("dns: {{listen: \"{ISTHMUS}\"}}\n"));
    let _west = Gateway::start(topology.cluster("west"), &config);
    let _east = mesh.gateway(&topology, "east");
    let _proxy = KubeProxy::start(&mesh.west, pods, "node-a");
    let dns = CoreDns::start(&mesh.west, pods, DNS.into(), Clusterset::Forwarded(ISTHMUS));
    let name = "api.shop.svc.clusterset.local";
    assert!(dns.ask(pods, "A", name).is_empty());
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    wait_reached(&topology, &dns, pods, name, 80);
    assert_eq!(dns.ask(pods, "SRV", &format!("_http._tcp.{name}")), [format!("0 100 80 {name}.")]);
    assert_eq!(dns.ask(pods, "TXT", "dns-version.clusterset.local"), ["\"1.0.0\""]);

    mesh.east.apply(DB);
    wait_reached(&topology, &dns, pods, "db-0.east.db.shop.svc.clusterset.local", 5432);
    wait_reached(&topology, &dns, pods, "db.shop.svc.clusterset.local", 5432);
    assert!(dns.ask(pods, "A", "east.db.shop.svc.clusterset.local").is_empty());
}

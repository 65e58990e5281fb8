//! What clients get at an import's ClusterIP, by way of kube-proxy: UDP, and an endpoint to stay with.

use crate::mesh::{EXPORT, Imported, Mesh};
use isthmus_tests::{
    Endpoint, Topology, client,
    datagrams::{self, UdpEcho},
    eventually,
    kube::KubeProxy,
    topology::{GATEWAY, pod},
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A Service for TCP and UDP with three pods, 10.0.0.3 to .5, whose clients are to stay where they are.
const WHO: &str = include_str!("manifests/who.yaml");
/// The clients' addresses end so.
const CLIENTS: std::ops::Range<u8> = 2..10;

/// Which pod a client gets.
fn ask(topology: &Topology, service: SocketAddr, client: u8) -> std::io::Result<u8> {
    let from = IpAddr::from([10, 0, 0, client]);
    topology
        .block_on(async { client::connect_from(topology.cluster("west").pods(), from, service).await?.read_u8().await })
}

#[test]
fn clients_of_tcp_and_udp_stay_with_their_pods() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let (west, east) = (topology.cluster("west").pods(), topology.cluster("east"));
    west.ip(&format!("route add 10.96.0.0/16 via {GATEWAY}"));
    let _tcp = [3, 4, 5].map(|host: u8| {
        Endpoint::serve(east.pods(), east.tasks(), pod(host, 8080), move |mut stream| async move {
            stream.write_u8(host).await?;
            stream.shutdown().await
        })
    });
    let _udp = [(3, "three "), (4, "four "), (5, "five ")]
        .map(|(host, name)| UdpEcho::serve(east.pods(), pod(host, 5353), name));
    let (_west, serving) = (mesh.gateway(&topology, "west"), mesh.gateway(&topology, "east"));
    let _proxy = KubeProxy::start(&mesh.west, west, "node-a");
    mesh.east.apply(WHO);
    mesh.east.apply(&EXPORT.replace("name: api", "name: who"));
    let imported = Imported::wait(&mesh.west, "who", &["east"]);
    assert_eq!(imported.import.spec.session_affinity.as_deref(), Some("ClientIP"));
    let ip: IpAddr = imported.import.spec.ips[0].parse().unwrap();
    eventually("all three pods are ready", || {
        let status = serving.status();
        let services = status["services"].as_array().map(Vec::as_slice).unwrap_or_default();
        let all = services.iter().filter(|of| of["kind"] == "export" && of["service"] == "shop/who");
        let ready: Vec<_> = all.map(|of| of["endpoints"].as_array().map_or(0, Vec::len)).collect();
        if ready == [3, 3] { Ok(()) } else { Err(format!("{ready:?}")) }
    });
    // kube-proxy goes at its own pace.
    let first = eventually("the ClusterIP leads to pods", || {
        let all: Vec<_> = CLIENTS.map(|client| ask(&topology, (ip, 80).into(), client)).collect();
        all.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())
    });
    assert!(first.iter().collect::<BTreeSet<_>>().len() > 1, "not all at one: {first:?}");
    for _ in 0..5 {
        assert_eq!(CLIENTS.map(|client| ask(&topology, (ip, 80).into(), client).unwrap()).collect::<Vec<_>>(), first);
    }
    // Each socket is a flow of its own.
    let question = |n: u8| datagrams::ask(&datagrams::client(west, (ip, 53).into()), &[b'0' + n]).unwrap();
    let answers: BTreeSet<_> = (0..8).map(|n| String::from_utf8(question(n)).unwrap()).collect();
    let pods: BTreeSet<_> = answers.iter().filter_map(|answer| answer.split(' ').next()).collect();
    assert_eq!((answers.len(), pods.len()), (8, 1), "{answers:?}");
}

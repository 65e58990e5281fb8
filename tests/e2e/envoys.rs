//! Envoy at the other end of HBONE, each way round.

use isthmus_tests::{
    Config, Endpoint, Envoy, Gateway, Load, Nginx, Papers, Pattern, Topology, Transport, client, endpoint,
    envoy::Trust,
    load::Reuse,
    pair::{self, Pair},
    stranger::gateway_id,
    topology::Cluster,
};
use tokio::io::AsyncWriteExt;

/// The service's name as HBONE has it.
pub(crate) const AUTHORITY: &str = "api.shop.svc.clusterset.local:80";

/// Envoy's own SVID, issued by the cluster's CA, and whom it trusts.
pub(crate) fn trust(cluster: &Cluster, peer: &str) -> Trust {
    let out = cluster.dir().join("envoy");
    isthmus_tests::identity::issue(&cluster.identity_dir(), &gateway_id(&format!("{}.e2e", cluster.name())), &out);
    Trust {
        papers: Papers::of(&out),
        bundle: cluster.identity_dir().join(format!("bundles/{peer}.pem")),
        peer: gateway_id(&format!("{peer}.e2e")),
    }
}

#[test]
fn dials_us() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let gateway = Gateway::start(east, &pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]));
    let trust = trust(west, "east");
    let _envoy = Envoy::egress(west.edge(), west.dir(), pair::import(), east.tunnel_address(), AUTHORITY, &trust);
    for reuse in [Reuse::KeepAlive, Reuse::ConnectionPerRequest] {
        let load = Load::start(west.pods(), west.tasks(), pair::import(), 8, reuse, "served");
        load.wait_for(500);
        load.stop().assert_no_failure();
    }
    assert_eq!(gateway.link("west")["transport"], "h2");
}

#[test]
fn dials_us_and_ends_its_half_first() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |stream| {
        endpoint::answer_after_end(stream, 2, 3 << 20)
    });
    let _gateway = Gateway::start(east, &pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]));
    let trust = trust(west, "east");
    let _envoy = Envoy::egress(west.edge(), west.dir(), pair::import(), east.tunnel_address(), AUTHORITY, &trust);
    topology.block_on(async {
        let mut stream = client::connect(west.pods(), pair::import()).await.unwrap();
        client::send(&mut stream, 1, 3 << 20).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut digest = [0; 32];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut digest).await.unwrap();
        assert_eq!(&digest, Pattern::digest(1, 3 << 20).as_bytes());
        client::receive(&mut stream).await.assert_whole(2, 3 << 20);
    });
}

#[test]
fn serves_us() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let trust = trust(east, "west");
    let _envoy = Envoy::ingress(east.edge(), east.dir(), east.tunnel_address(), pair::endpoint(), AUTHORITY, &trust);
    let mut config = Config::new(west).dials(east, Transport::H2).imports(pair::SERVICE, pair::import());
    config.links[0].services = vec![format!("{}:80", pair::SERVICE)];
    let gateway = Gateway::start(west, &config);
    gateway.wait_link("east", &["up"]);
    for reuse in [Reuse::KeepAlive, Reuse::ConnectionPerRequest] {
        let load = Load::start(west.pods(), west.tasks(), pair::import(), 8, reuse, "served");
        load.wait_for(500);
        load.stop().assert_no_failure();
    }
    assert_eq!(gateway.link("east")["transport"], "h2");
}

/// Envoy is no reason to lose the peers that speak our own protocol: both dial the same port.
#[test]
fn dials_us_beside_one_of_our_own() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let trust = trust(west, "east");
    let listen = isthmus_tests::topology::gateway(18090);
    let _envoy = Envoy::egress(west.edge(), west.dir(), listen, east.tunnel_address(), AUTHORITY, &trust);
    let ours = pair.load(4, Reuse::ConnectionPerRequest, "served");
    let envoys = Load::start(west.pods(), west.tasks(), listen, 4, Reuse::ConnectionPerRequest, "served");
    ours.wait_for(300);
    envoys.wait_for(300);
    ours.stop().assert_no_failure();
    envoys.stop().assert_no_failure();
}

//! Two clusters of Kubernetes, each with a gateway and control in one process, as the service account that we ship may run it.
//!
//! ```text
//!  west-pods 10.0.0.2.. ── west-edge 10.0.0.1: API server, isthmus run ── wan ── east-edge … east-pods
//! ```

use isthmus_tests::{Config, Endpoint, Gateway, KubeCluster, Topology, endpoint, kube::Options, topology::pod};
use std::net::Ipv4Addr;

/// What a cluster needs before control runs.
const RBAC: &str = include_str!("../../deploy/rbac.yaml");
/// Stands for the gateway's pod, at the address that the gateway has.
const GATEWAY: &str = include_str!("manifests/gateway.yaml");
/// A Service on port 80 with one pod at 10.0.0.3:8080.
pub(crate) const API: &str = include_str!("manifests/api.yaml");
/// Its export.
pub(crate) const EXPORT: &str = include_str!("manifests/export.yaml");

/// The namespaces of every cluster.
const SYSTEM: &str = "isthmus-system";
pub(crate) const SHOP: &str = "shop";
const ACCOUNT: &str = "isthmus";

/// Both clusters. The names are those of the topology.
pub(crate) struct Mesh {
    pub(crate) west: KubeCluster,
    pub(crate) east: KubeCluster,
}

impl Mesh {
    /// The API servers, with what we ship and the links; nothing of ours runs yet.
    pub(crate) fn start(topology: &Topology) -> Self {
        let options = ["west", "east"].map(|name| {
            let cluster = topology.cluster(name);
            Options::new(name).inside(cluster.edge(), isthmus_tests::topology::GATEWAY)
        });
        let [west, east] = KubeCluster::start_all(&options);
        for cluster in [&west, &east] {
            cluster.make_namespace(SYSTEM);
            cluster.make_namespace(SHOP);
            cluster.apply(RBAC);
            cluster.apply(GATEWAY);
        }
        west.apply(&link("east", &[topology.cluster("east").tunnel_address().to_string()]));
        east.apply(&link("west", &[]));
        Self { west, east }
    }

    /// The configuration of a cluster's gateway: it has the registry, and nothing else.
    pub(crate) fn config(&self, topology: &Topology, name: &str) -> Config {
        let kubeconfig = self.cluster(name).kubeconfig_of(SYSTEM, ACCOUNT);
        let mut config = Config::new(topology.cluster(name));
        config.more = format!("registry: {{kubernetes: {{kubeconfig: \"{}\"}}}}\n", kubeconfig.display());
        config
    }

    /// Starts a cluster's gateway.
    pub(crate) fn gateway<'a>(&self, topology: &'a Topology, name: &str) -> Gateway<'a> {
        Gateway::start(topology.cluster(name), &self.config(topology, name))
    }

    /// A cluster by name.
    pub(crate) fn cluster(&self, name: &str) -> &KubeCluster {
        if name == "west" { &self.west } else { &self.east }
    }
}

/// Echoes at the address of a cluster's pod.
pub(crate) fn echo(topology: &Topology, name: &str) -> Endpoint {
    let cluster = topology.cluster(name);
    Endpoint::serve(cluster.pods(), cluster.tasks(), pod(3, 8080), endpoint::echo)
}

/// A ClusterLink.
fn link(peer: &str, endpoints: &[String]) -> String {
    format!(
        "apiVersion: isthmus.io/v1alpha1\nkind: ClusterLink\nmetadata: {{name: {peer}}}\nspec: {{endpoints: {endpoints:?}}}\n"
    )
}

/// The address of pods' gateway.
pub(crate) const GATEWAY_ADDRESS: Ipv4Addr = isthmus_tests::topology::GATEWAY;

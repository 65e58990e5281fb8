//! Clusters in network namespaces, and the WAN between them.

use crate::{identity, netns::Netns};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::runtime::{Handle, Runtime};

/// The clusterset of every topology.
pub const CLUSTERSET: &str = "e2e";

/// The gateway's address on the pods' side: the same in every cluster, as all have the same pod CIDR.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The networks between the WAN and each cluster's gateway (RFC 5737): the WAN has .1, the gateway .2.
const WAN_NETWORKS: [[u8; 3]; 3] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];

/// Up to three clusters, all with the pod CIDR 10.0.0.0/24, joined by a WAN that has no route to it.
#[derive(Debug)]
pub struct Topology {
    clusters: Vec<Cluster>,
    wan: Arc<Netns>,
    runtime: Option<Runtime>,
    dir: tempfile::TempDir,
}

/// One cluster: a namespace for its pods, one for its gateway, a directory for its files.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    pods: Arc<Netns>,
    edge: Netns,
    address: Ipv4Addr,
    dir: PathBuf,
    tasks: Handle,
}

impl Topology {
    /// Makes the namespaces, the links between them, and each cluster's identity, with every cluster trusting all others.
    ///
    /// # Panics
    /// Without root, `ip` or the binary.
    pub fn new(names: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("isthmus-e2e-").tempdir();
        let dir = dir.unwrap_or_else(|e| panic!("a temporary directory: {e}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap_or_else(|e| panic!("a runtime: {e}"));
        let wan = Arc::new(Netns::new("wan"));
        wan.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap_or_else(|e| panic!("ip_forward: {e}"));
        let join =
            |(name, network): (&&str, &[u8; 3])| Cluster::join(name, *network, &wan, dir.path(), runtime.handle());
        let clusters: Vec<_> = names.iter().zip(&WAN_NETWORKS).map(join).collect();
        assert_eq!(clusters.len(), names.len(), "the WAN has room for {} clusters", WAN_NETWORKS.len());
        Self { clusters, wan, runtime: Some(runtime), dir }
    }

    /// Two clusters, west and east, each with an identity that the other trusts.
    ///
    /// # Panics
    /// As [`Topology::new`].
    pub fn west_and_east() -> Self {
        let topology = Self::new(&["west", "east"]);
        topology.make_identities();
        topology
    }

    /// Gives each cluster an identity, and each the others' bundles.
    ///
    /// # Panics
    /// If the command fails.
    pub fn make_identities(&self) {
        self.make_identities_that_live("24h");
    }

    /// The same, with SVIDs that live for `ttl`.
    ///
    /// # Panics
    /// If the command fails.
    pub fn make_identities_that_live(&self, ttl: &str) {
        for cluster in &self.clusters {
            identity::init(CLUSTERSET, &cluster.name, ttl, &cluster.identity_dir());
        }
        for cluster in &self.clusters {
            for peer in self.clusters.iter().filter(|peer| peer.name != cluster.name) {
                identity::trust(&cluster.identity_dir(), &peer.name, &peer.identity_dir().join("ca.pem"));
            }
        }
    }

    /// A cluster by name.
    ///
    /// # Panics
    /// If there is none.
    pub fn cluster(&self, name: &str) -> &Cluster {
        let found = self.clusters.iter().find(|cluster| cluster.name == name);
        found.unwrap_or_else(|| panic!("there is no cluster {name}"))
    }

    /// The namespace between the clusters.
    pub fn wan(&self) -> &Arc<Netns> {
        &self.wan
    }

    /// A directory that is removed in the end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Drops every packet that would cross the WAN, in both directions, silently: no socket learns of it.
    ///
    /// # Panics
    /// If `nft` fails.
    pub fn cut_wan(&self) {
        self.wan.exec(
            "nft",
            &["add table ip cut; add chain ip cut passing { type filter hook forward priority 0; policy drop; }"],
        );
    }

    /// Ends the cut.
    ///
    /// # Panics
    /// If `nft` fails, or there was no cut.
    pub fn restore_wan(&self) {
        self.wan.exec("nft", &["delete table ip cut"]);
    }

    /// Drops every packet of an IP protocol (`tcp`, `udp`) that would cross the WAN, silently.
    ///
    /// # Panics
    /// If `ip` fails.
    pub fn block(&self, protocol: &str) {
        self.wan.ip(&format!("rule add ipproto {protocol} blackhole"));
    }

    /// Lets them through again.
    ///
    /// # Panics
    /// If `ip` fails, or they were not blocked.
    pub fn unblock(&self, protocol: &str) {
        self.wan.ip(&format!("rule del ipproto {protocol} blackhole"));
    }

    /// Runs a test's asynchronous part to its end.
    ///
    /// # Panics
    /// If `future` does.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match &self.runtime {
            Some(runtime) => runtime.block_on(future),
            None => unreachable!("only dropping takes the runtime"),
        }
    }

    /// Where tasks beside the test are spawned; they end with the topology.
    pub fn tasks(&self) -> &Handle {
        match &self.runtime {
            Some(runtime) => runtime.handle(),
            None => unreachable!("only dropping takes the runtime"),
        }
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        // Without waiting for tasks: what they were to tell is of no use any more.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Cluster {
    fn join(name: &str, network: [u8; 3], wan: &Netns, dir: &Path, tasks: &Handle) -> Self {
        let edge = Netns::new(&format!("{name}-edge"));
        let pods = Netns::new(&format!("{name}-pods"));
        let [a, b, c] = network;
        wan.ip(&format!("link add {name} type veth peer name wan netns {}", edge.path().display()));
        wan.ip(&format!("address add {a}.{b}.{c}.1/24 dev {name}"));
        wan.ip(&format!("link set {name} up"));
        edge.ip(&format!("address add {a}.{b}.{c}.2/24 dev wan"));
        edge.ip("link set wan up");
        edge.ip(&format!("route add default via {a}.{b}.{c}.1"));
        edge.ip(&format!("link add pods type veth peer name eth0 netns {}", pods.path().display()));
        edge.ip(&format!("address add {GATEWAY}/24 dev pods"));
        edge.ip("link set pods up");
        for host in 2..=9 {
            pods.ip(&format!("address add 10.0.0.{host}/24 dev eth0"));
        }
        pods.ip("link set eth0 up");
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        Self {
            name: name.to_owned(),
            pods: Arc::new(pods),
            edge,
            address: Ipv4Addr::new(a, b, c, 2),
            dir,
            tasks: tasks.clone(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its clients and endpoints are: 10.0.0.2 to 10.0.0.9.
    pub fn pods(&self) -> &Arc<Netns> {
        &self.pods
    }

    /// Where its gateway is.
    pub fn edge(&self) -> &Netns {
        &self.edge
    }

    /// Its gateway's tunnel address on the WAN.
    pub fn tunnel_address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), 15008)
    }

    /// Its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its gateway's identity.
    pub fn identity_dir(&self) -> PathBuf {
        self.dir.join("identity")
    }

    /// Where its endpoints' tasks run.
    pub fn tasks(&self) -> &Handle {
        &self.tasks
    }
}

/// An address on the pods' network, alike in every cluster.
pub fn pod(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), port)
}

/// An address of the gateway on the pods' network.
pub fn gateway(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(GATEWAY), port)
}

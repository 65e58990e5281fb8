//! Clusters in network namespaces, and the WAN between them.

mod cluster;
mod nat;

pub use cluster::{Cluster, GATEWAY, gateway, pod};
pub use nat::NatKind;

use crate::{identity, netns::Netns};
use isthmus_wan::{Impairments, Wan};
use std::{path::Path, sync::Arc};
use tokio::runtime::{Handle, Runtime};

/// The clusterset of every topology.
pub const CLUSTERSET: &str = "e2e";

/// The networks between the WAN and each cluster's gateway (RFC 5737, RFC 2544): the WAN has .1, the gateway .2.
const WAN_NETWORKS: [[u8; 3]; 5] = [[192, 0, 2], [198, 51, 100], [203, 0, 113], [198, 18, 0], [198, 19, 0]];

/// Drops what a router's namespace would forward.
const CUT: &str = "add table ip cut; add chain ip cut passing { type filter hook forward priority 0; policy drop; }";

/// Up to five clusters, all with the pod CIDR 10.0.0.0/24, joined by a WAN that has no route to it.
#[derive(Debug)]
pub struct Topology {
    clusters: Vec<Cluster>,
    between: Between,
    runtime: Option<Runtime>,
    dir: tempfile::TempDir,
}

/// What joins the clusters.
#[derive(Debug)]
enum Between {
    /// A namespace that routes: as fast as the kernel, and without faults but for what nftables does in it.
    Router(Arc<Netns>),
    /// The emulator.
    Emulator(Wan),
}

impl Topology {
    /// Makes the namespaces, and a namespace that routes between them.
    ///
    /// # Panics
    /// Without root, `ip` or the binary.
    pub fn new(names: &[&str]) -> Self {
        let wan = Arc::new(Netns::new("wan"));
        wan.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap_or_else(|e| panic!("ip_forward: {e}"));
        Self::build(names, |clusters| {
            clusters.iter().for_each(|cluster| cluster.plug_into(&wan));
            Between::Router(wan)
        })
    }

    /// West and east, each behind a NAT of its own, and hub, which both can dial; each trusts the others.
    ///
    /// # Panics
    /// As [`Topology::new`], and without `nft`.
    pub fn behind_nats(west: NatKind, east: NatKind) -> Self {
        let wan = Arc::new(Netns::new("wan"));
        wan.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap_or_else(|e| panic!("ip_forward: {e}"));
        let topology = Self::build(&["west", "east", "hub"], |clusters| {
            for cluster in clusters.iter_mut() {
                match cluster.name() {
                    "west" => cluster.plug_in_behind(west, &wan),
                    "east" => cluster.plug_in_behind(east, &wan),
                    _ => cluster.plug_into(&wan),
                }
            }
            Between::Router(wan)
        });
        topology.make_identities();
        topology
    }

    /// The same with an emulated WAN between them, each direction as bad as `each_way`, by the dice of `seed`.
    ///
    /// # Panics
    /// As [`Topology::new`], and without /dev/net/tun.
    pub fn over(names: &[&str], each_way: Impairments, seed: u64) -> Self {
        Self::build(names, |clusters| {
            let attachments = clusters.iter().map(Cluster::attach).collect();
            let wan = Wan::start(attachments, each_way, seed);
            Between::Emulator(wan.unwrap_or_else(|e| panic!("the emulated WAN: {e}")))
        })
    }

    fn build(names: &[&str], join: impl FnOnce(&mut [Cluster]) -> Between) -> Self {
        let dir = tempfile::Builder::new().prefix("isthmus-e2e-").tempdir();
        let dir = dir.unwrap_or_else(|e| panic!("a temporary directory: {e}"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap_or_else(|e| panic!("a runtime: {e}"));
        let make = |(name, network): (&&str, &[u8; 3])| Cluster::make(name, *network, dir.path(), runtime.handle());
        let mut clusters: Vec<_> = names.iter().zip(&WAN_NETWORKS).map(make).collect();
        assert_eq!(clusters.len(), names.len(), "the WAN has room for {} clusters", WAN_NETWORKS.len());
        let between = join(&mut clusters);
        Self { clusters, between, runtime: Some(runtime), dir }
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

    /// Two clusters, west and east, each with an identity that nobody trusts yet.
    ///
    /// # Panics
    /// As [`Topology::new`].
    pub fn strangers() -> Self {
        let topology = Self::new(&["west", "east"]);
        for cluster in &topology.clusters {
            identity::init(CLUSTERSET, cluster.name(), "24h", &cluster.identity_dir());
        }
        topology
    }

    /// The same over an emulated WAN, as `--wan` of the demonstration has it: `80ms,1%`.
    ///
    /// # Panics
    /// As [`Topology::over`], and for a text that says no impairments.
    pub fn west_and_east_over(wan: &str) -> Self {
        let each_way = wan.parse().unwrap_or_else(|e| panic!("{e}"));
        let topology = Self::over(&["west", "east"], each_way, 1);
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
            identity::init(CLUSTERSET, cluster.name(), ttl, &cluster.identity_dir());
        }
        for cluster in &self.clusters {
            for peer in self.clusters.iter().filter(|peer| peer.name() != cluster.name()) {
                identity::trust(&cluster.identity_dir(), peer.name(), &peer.identity_dir().join("ca.pem"));
            }
        }
    }

    /// A cluster by name.
    ///
    /// # Panics
    /// If there is none.
    pub fn cluster(&self, name: &str) -> &Cluster {
        let found = self.clusters.iter().find(|cluster| cluster.name() == name);
        found.unwrap_or_else(|| panic!("there is no cluster {name}"))
    }

    /// The namespace between the clusters.
    ///
    /// # Panics
    /// If the WAN is emulated.
    pub fn wan(&self) -> &Arc<Netns> {
        match &self.between {
            Between::Router(wan) => wan,
            Between::Emulator(_) => panic!("an emulated WAN is no namespace"),
        }
    }

    /// The emulated WAN, which can be made better and worse.
    ///
    /// # Panics
    /// If it is a namespace.
    pub fn emulator(&self) -> &Wan {
        match &self.between {
            Between::Emulator(wan) => wan,
            Between::Router(_) => panic!("this WAN is a namespace, not emulated"),
        }
    }

    /// A directory that is removed in the end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Drops every packet that would cross the WAN, in both directions, silently: no socket learns of it.
    ///
    /// # Panics
    /// If `nft` or the emulator fails.
    pub fn cut_wan(&self) {
        match &self.between {
            Between::Router(wan) => drop(wan.exec("nft", &[CUT])),
            Between::Emulator(wan) => wan.cut().unwrap_or_else(|e| panic!("{e}")),
        }
    }

    /// Ends the cut.
    ///
    /// # Panics
    /// If `nft` or the emulator fails, or there was no cut.
    pub fn restore_wan(&self) {
        match &self.between {
            Between::Router(wan) => drop(wan.exec("nft", &["delete table ip cut"])),
            Between::Emulator(wan) => wan.restore().unwrap_or_else(|e| panic!("{e}")),
        }
    }

    /// Drops every packet of an IP protocol (`tcp`, `udp`) that would cross the WAN, silently.
    ///
    /// # Panics
    /// If `ip` fails.
    pub fn block(&self, protocol: &str) {
        self.wan().ip(&format!("rule add ipproto {protocol} blackhole"));
    }

    /// Lets them through again.
    ///
    /// # Panics
    /// If `ip` fails, or they were not blocked.
    pub fn unblock(&self, protocol: &str) {
        self.wan().ip(&format!("rule del ipproto {protocol} blackhole"));
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

//! kube-proxy: what makes ClusterIPs work for the programs of a namespace.

use super::{KubeCluster, programs::program};
use crate::{admin, identity::text, netns::Netns, process::Process, wait::eventually};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where it says whether it is ready, inside its namespace.
const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10256);

/// A running kube-proxy, with nftables.
#[derive(Debug)]
pub struct KubeProxy {
    _process: Process,
}

impl KubeProxy {
    /// Starts one in `netns`, which must reach the cluster's API server, as that of a node of the cluster. ClusterIPs need a route
    /// there, as everywhere: what the kernel has no route to, it does not get as far as rewriting.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start(cluster: &KubeCluster, netns: &Netns, node: &str) -> Self {
        let args = [
            format!("--kubeconfig={}", text(&cluster.kubeconfig_inside())),
            format!("--hostname-override={node}"),
            format!("--healthz-bind-address={HEALTH}"),
            "--proxy-mode=nftables".into(),
            // The machine's own connection tracking is not for a test to change.
            "--conntrack-max-per-core=0".into(),
            "--conntrack-min=0".into(),
            "--conntrack-tcp-timeout-established=0s".into(),
            "--conntrack-tcp-timeout-close-wait=0s".into(),
        ];
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let (name, log) = (format!("{}'s kube-proxy", cluster.name()), cluster.dir().join("kube-proxy.log"));
        let process = Process::start(netns, &name, &log, &program("kube-proxy"), &args);
        eventually(&format!("{name} is ready"), || match admin::get(netns, HEALTH, "/healthz") {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        Self { _process: process }
    }
}

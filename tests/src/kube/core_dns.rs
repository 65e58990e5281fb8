//! CoreDNS, as a cluster's pods ask it.

use super::{KubeCluster, programs::program};
use crate::{admin, identity::text, netns::Netns, process::Process, wait::eventually};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

/// Where it says whether it is ready, inside its namespace.
const READY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8181);

/// Who answers for `clusterset.local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clusterset {
    /// Somebody at this address: a stub zone.
    Forwarded(SocketAddr),
    /// CoreDNS itself, from the cluster's ServiceImports.
    Served,
}

/// A running CoreDNS.
#[derive(Debug)]
pub struct CoreDns {
    address: IpAddr,
    _process: Process,
}

impl CoreDns {
    /// Starts one in `netns`, which must reach the cluster's API server, on port 53 of `address`. It answers for `cluster.local`
    /// from the cluster's Services.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start(cluster: &KubeCluster, netns: &Netns, address: IpAddr, clusterset: Clusterset) -> Self {
        let corefile = cluster.dir().join("Corefile");
        let written = std::fs::write(&corefile, text_of(&cluster.kubeconfig_inside(), address, clusterset));
        written.unwrap_or_else(|e| panic!("{}: {e}", corefile.display()));
        let (name, log) = (format!("{}'s CoreDNS", cluster.name()), cluster.dir().join("coredns.log"));
        let process = Process::start(netns, &name, &log, &program("coredns"), &["-conf", text(&corefile)]);
        let dns = Self { address, _process: process };
        // It says that it is ready before it listens.
        eventually(&format!("{name} is ready"), || match admin::get(netns, READY, "/ready") {
            Ok((200, _)) => dns.dig(netns, "A", "kubernetes.default.svc.cluster.local").map(drop),
            other => Err(format!("{other:?}")),
        });
        dns
    }

    /// What it answers, by `dig +short`: one record a line, in order. No record is an empty text.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn ask(&self, netns: &Netns, kind: &str, name: &str) -> Vec<String> {
        let mut lines = self.dig(netns, kind, name).unwrap_or_else(|e| panic!("CoreDNS at {}: {e}", self.address));
        lines.sort();
        lines
    }

    fn dig(&self, netns: &Netns, kind: &str, name: &str) -> Result<Vec<String>, String> {
        let mut command = Command::new("dig");
        command.args(["+short", &format!("@{}", self.address), name, kind]);
        let output = netns.run(move || command.output()).map_err(|e| format!("dig: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            Ok(text.lines().map(str::to_owned).collect())
        } else {
            Err(format!("dig: {text}"))
        }
    }
}

fn text_of(kubeconfig: &Path, address: IpAddr, clusterset: Clusterset) -> String {
    let (zones, option, stub) = match clusterset {
        Clusterset::Served => ("cluster.local clusterset.local", "multicluster clusterset.local", String::new()),
        Clusterset::Forwarded(to) => {
            ("cluster.local", "", format!("clusterset.local:53 {{\n  bind {address}\n  errors\n  forward . {to}\n}}\n"))
        }
    };
    format!(
        ".:53 {{\n  bind {address}\n  errors\n  ready {READY}\n  kubernetes {zones} in-addr.arpa ip6.arpa {{\n    \
         kubeconfig {}\n    startup_timeout 30s\n    {option}\n  }}\n}}\n{stub}",
        kubeconfig.display()
    )
}

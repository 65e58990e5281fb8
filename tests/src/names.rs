//! A DNS server whose answers a test changes, and processes that ask it.

use crate::{Cluster, Process, identity::text};
use rustix::process::Signal;
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

/// dnsmasq in a cluster's edge namespace, on 127.0.0.1:53.
#[derive(Debug)]
pub struct Names {
    hosts: PathBuf,
    server: Process,
}

impl Names {
    /// Starts it; `name` has these addresses.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(cluster: &Cluster, name: &str, addresses: &[IpAddr]) -> Self {
        let hosts = cluster.dir().join("hosts");
        write(&hosts, name, addresses);
        let (log, hosts_option) = (cluster.dir().join("dnsmasq.log"), format!("--addn-hosts={}", text(&hosts)));
        let args = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--no-resolv",
            "--no-hosts",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            &hosts_option,
        ];
        let server = Process::start(cluster.edge(), "dnsmasq", &log, Path::new("/usr/sbin/dnsmasq"), &args);
        Self { hosts, server }
    }

    /// Has `name` other addresses from now on.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        write(&self.hosts, name, addresses);
        self.server.signal(Signal::HUP);
    }

    /// Ends it: nobody answers on its port.
    pub fn stop(&mut self) {
        self.server.kill();
    }
}

/// The resolv.conf of processes that are to ask it.
///
/// # Panics
/// If it cannot be written.
pub fn resolv_conf(cluster: &Cluster) -> PathBuf {
    let path = cluster.dir().join("resolv.conf");
    std::fs::write(&path, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}

fn write(hosts: &Path, name: &str, addresses: &[IpAddr]) {
    let lines: String = addresses.iter().map(|address| format!("{address} {name}\n")).collect();
    std::fs::write(hosts, lines).unwrap_or_else(|e| panic!("{}: {e}", hosts.display()));
}

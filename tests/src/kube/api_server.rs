//! etcd and one API server on top of it.

use super::{options::Options, papers::Papers, programs::program};
use crate::{netns::Netns, process::Process};
use rustix::process::Signal;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The API server's port.
const PORT: u16 = 6443;

/// Running, or stopped with its data kept.
#[derive(Debug)]
pub(super) struct ApiServer {
    netns: Arc<Netns>,
    name: String,
    dir: PathBuf,
    address: Ipv4Addr,
    papers: Papers,
    args: Vec<String>,
    process: Option<Process>,
    _etcd: Process,
}

impl ApiServer {
    /// Starts both. The API server answers some time later.
    pub(super) fn start(options: &Options, dir: &Path) -> Self {
        let (netns, address) = options.place();
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST), address.into()];
        addresses.extend(options.first_service_ips());
        let papers = Papers::make(dir, &addresses);
        let args = arguments(options, address, &papers);
        let _etcd = etcd(&netns, &options.name, dir);
        let name = options.name.clone();
        let mut server = Self { netns, name, dir: dir.to_owned(), address, papers, args, process: None, _etcd };
        server.run();
        server
    }

    /// Starts it again, with the same data at the same place.
    pub(super) fn run(&mut self) {
        let log = self.dir.join("kube-apiserver.log");
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        let name = format!("{}'s API server", self.name);
        self.process = Some(Process::start(&self.netns, &name, &log, &program("kube-apiserver"), &args));
    }

    /// SIGKILL: all its connections are reset, nobody is told.
    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    /// It stands still, or goes on.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Where it listens in its namespace.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.address.into(), PORT)
    }

    pub(super) fn netns(&self) -> &Arc<Netns> {
        &self.netns
    }

    pub(super) fn papers(&self) -> &Papers {
        &self.papers
    }

    /// Fails the test if it has ended by itself.
    pub(super) fn check(&mut self) {
        let ended = self.process.as_mut().and_then(|process| process.ended().ok().flatten());
        if let Some(status) = ended {
            panic!("{}'s API server has ended: {status}", self.name);
        }
    }
}

/// One member, on the namespace's loopback only. What it writes need not outlive this machine.
fn etcd(netns: &Netns, name: &str, dir: &Path) -> Process {
    let data = format!("--data-dir={}", dir.join("etcd").display());
    let args = [
        data.as_str(),
        "--name=only",
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
    ];
    Process::start(netns, &format!("{name}'s etcd"), &dir.join("etcd.log"), &program("etcd"), &args)
}

fn arguments(options: &Options, address: Ipv4Addr, papers: &Papers) -> Vec<String> {
    let of = |flag: &str, value: &str| format!("--{flag}={value}");
    let file = |flag: &str, name: &str| format!("--{flag}={}", papers.file(name));
    vec![
        of("etcd-servers", "http://127.0.0.1:2379"),
        of("secure-port", &PORT.to_string()),
        of("advertise-address", &address.to_string()),
        of("service-cluster-ip-range", &options.service_cidrs.join(",")),
        of("authorization-mode", "Node,RBAC"),
        of("allow-privileged", "true"),
        of("service-account-issuer", "https://kubernetes.default.svc"),
        of("profiling", "false"),
        file("cert-dir", ""),
        file("client-ca-file", "ca.pem"),
        file("tls-cert-file", "server.pem"),
        file("tls-private-key-file", "server.key"),
        file("service-account-key-file", "accounts.pub"),
        file("service-account-signing-key-file", "accounts.key"),
    ]
}

//! Peers of west: real processes, each of which exports the same services.

use crate::world::{self, CLUSTERSET};
use isthmus_tests::{
    Netns, Process,
    identity::{self, isthmus, text},
};
use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// One of them.
pub(crate) struct Peer {
    dir: PathBuf,
    number: usize,
    process: Process,
}

impl Peer {
    /// Starts number `number`, which dials west.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn start(netns: &Netns, dir: &Path, west: &Path, number: usize, services: usize) -> Self {
        let dir = dir.join(name(number));
        let identity = dir.join("identity");
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        identity::init(CLUSTERSET, &name(number), "24h", &identity);
        identity::trust(&identity, "west", &west.join("ca.pem"));
        identity::trust(west, &name(number), &identity.join("ca.pem"));
        write(&dir, number, services);
        let args = ["run", "--config", text(&dir.join("peer.yaml"))].map(str::to_owned);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let process = Process::start(netns, &name(number), &dir.join("log"), &isthmus(), &args);
        Self { dir, number, process }
    }

    /// Has it export so many services from now on.
    pub(crate) fn export(&self, services: usize) {
        write(&self.dir, self.number, services);
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// A peer's cluster id.
pub(crate) fn name(number: usize) -> String {
    format!("peer-{number}")
}

/// A service that all of them export.
pub(crate) fn service(number: usize) -> String {
    format!("shared-{number}")
}

fn write(dir: &Path, number: usize, services: usize) {
    let ip = Ipv4Addr::from_bits((127 << 24) + (3 << 16) + number as u32 + 1);
    let [tunnel, admin] = [15008, 15020].map(|port| SocketAddr::new(ip.into(), port));
    let mut yaml = format!(
        "clusterset: {CLUSTERSET}\ncluster: {}\nidentity: identity\ntunnel: {{listen: \"{tunnel}\"}}\nadmin: \"{admin}\"\ncores: 1\n\
         links: [{{cluster: west, endpoints: [\"{}\"], transport: tls}}]\nexports:\n",
        name(number),
        world::TUNNEL
    );
    for service in 0..services {
        let (namespace, service) = (world::SHARED, self::service(service));
        // Writing into a string cannot fail.
        let _ = writeln!(
            yaml,
            "  - {{service: {namespace}/{service}, ports: [{{name: http, port: 80}}], endpoints: [\"{ip}:80\"]}}"
        );
    }
    let path = dir.join("peer.yaml");
    let part = dir.join("peer.yaml.part");
    let written = std::fs::write(&part, yaml).and_then(|()| std::fs::rename(&part, &path));
    written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

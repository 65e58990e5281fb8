//! HAProxy: a proxy that nobody here wrote.

use crate::{Process, identity::text, netns::Netns, wait::eventually};
use std::{net::SocketAddr, path::Path};

/// A running HAProxy.
#[derive(Debug)]
pub struct Haproxy {
    _process: Process,
}

impl Haproxy {
    /// Starts one in `netns`, with its configuration below `dir`, that takes connections at `address`: `section` is what its `listen`
    /// section says besides. Waits until it takes them.
    ///
    /// # Panics
    /// If it cannot.
    pub fn start(netns: &Netns, dir: &Path, address: SocketAddr, bind: &str, section: &[&str]) -> Self {
        let name = format!("haproxy-{}", address.to_string().replace(':', "-"));
        let config = dir.join(format!("{name}.cfg"));
        let lines: String = section.iter().map(|line| format!("    {line}\n")).collect();
        let times = "timeout connect 5s\n    timeout client 1m\n    timeout server 1m";
        let written = format!("defaults\n    {times}\nlisten it\n    bind {address} {bind}\n{lines}");
        std::fs::write(&config, written).unwrap_or_else(|e| panic!("{}: {e}", config.display()));
        let log = dir.join(format!("{name}.log"));
        let process = Process::start(netns, &name, &log, Path::new("haproxy"), &["-db", "-f", text(&config)]);
        eventually(&format!("{name} listens"), || netns.connect(address).map(drop).map_err(|e| e.to_string()));
        Self { _process: process }
    }
}

//! One cluster, from its pods to its edge.

use super::nat::{self, NatKind};
use crate::netns::Netns;
use isthmus_wan::{Attachment, Prefix, Tun};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::runtime::Handle;

/// The gateway's address on the pods' side: the same in every cluster, as all have the same pod CIDR.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// One cluster: a namespace for its pods, one for its gateway, a directory for its files.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    pods: Arc<Netns>,
    edge: Arc<Netns>,
    /// What its gateway is behind, if anything.
    nat: Option<Netns>,
    /// Its gateway's, towards the WAN.
    address: Ipv4Addr,
    dir: PathBuf,
    tasks: Handle,
}

impl Cluster {
    /// A cluster that nothing is beyond the edge of yet.
    pub(super) fn make(name: &str, [a, b, c]: [u8; 3], dir: &Path, tasks: &Handle) -> Self {
        let edge = Netns::new(&format!("{name}-edge"));
        let pods = Netns::new(&format!("{name}-pods"));
        edge.ip(&format!("link add pods type veth peer name eth0 netns {}", pods.path().display()));
        edge.ip(&format!("address add {GATEWAY}/24 dev pods"));
        edge.ip("link set pods up");
        for host in 2..=9 {
            pods.ip(&format!("address add 10.0.0.{host}/24 dev eth0"));
        }
        pods.ip("link set eth0 up");
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let address = Ipv4Addr::new(a, b, c, 2);
        Self {
            name: name.to_owned(),
            pods: Arc::new(pods),
            edge: Arc::new(edge),
            nat: None,
            address,
            dir,
            tasks: tasks.clone(),
        }
    }

    /// Joins it to a router's namespace.
    pub(super) fn plug_into(&self, wan: &Netns) {
        let (name, router) = (&self.name, self.router());
        wan.ip(&format!("link add {name} type veth peer name wan netns {}", self.edge.path().display()));
        wan.ip(&format!("address add {router}/24 dev {name}"));
        wan.ip(&format!("link set {name} up"));
        self.turn_up();
        self.edge.ip(&format!("route add default via {router}"));
    }

    /// Joins it to a router's namespace behind a NAT, which gets the address that the gateway would have.
    pub(super) fn plug_in_behind(&mut self, kind: NatKind, wan: &Netns) {
        let nat = Netns::new(&format!("{}-nat", self.name));
        let forwards = nat.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"));
        forwards.unwrap_or_else(|e| panic!("ip_forward: {e}"));
        let (name, router, outside) = (self.name.clone(), self.router(), self.address);
        wan.ip(&format!("link add {name} type veth peer name wan netns {}", nat.path().display()));
        wan.ip(&format!("address add {router}/24 dev {name}"));
        wan.ip(&format!("link set {name} up"));
        nat.ip(&format!("address add {outside}/24 dev wan"));
        nat.ip("link set wan up");
        nat.ip(&format!("route add default via {router}"));
        nat.ip(&format!("link add lan type veth peer name wan netns {}", self.edge.path().display()));
        nat.ip(&format!("address add {}/24 dev lan", nat::ROUTER));
        nat.ip("link set lan up");
        nat.exec("nft", &[&kind.rules(outside)]);
        self.address = nat::HOST;
        self.turn_up();
        self.edge.ip(&format!("route add default via {}", nat::ROUTER));
        self.nat = Some(nat);
    }

    /// Gives it an uplink for an emulated WAN.
    pub(super) fn attach(&self) -> Attachment {
        let tun = self.edge.run(|| Tun::create("wan"));
        let tun = tun.unwrap_or_else(|e| panic!("{}: a TUN device: {e}", self.name));
        self.turn_up();
        self.edge.ip("route add default dev wan");
        Attachment { name: self.name.clone(), tun, prefixes: vec![Prefix::new(self.address.into(), 24)] }
    }

    fn turn_up(&self) {
        self.edge.ip(&format!("address add {}/24 dev wan", self.address));
        self.edge.ip("link set wan up");
    }

    /// The router's address in the network between it and this cluster.
    fn router(&self) -> Ipv4Addr {
        let [a, b, c, _] = self.address.octets();
        Ipv4Addr::new(a, b, c, 1)
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
    pub fn edge(&self) -> &Arc<Netns> {
        &self.edge
    }

    /// The NAT that its gateway is behind.
    ///
    /// # Panics
    /// If there is none.
    pub fn nat(&self) -> &Netns {
        self.nat.as_ref().unwrap_or_else(|| panic!("{} is behind no NAT", self.name))
    }

    /// Its gateway's tunnel address on the WAN, or inside its NAT.
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

//! What one cluster of the tests differs in from another.

use crate::netns::Netns;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// Where the API server is in a namespace of its own.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 255, 1);

/// How a cluster is to be. The defaults are alike for all clusters: their services' and pods' addresses overlap.
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) name: String,
    pub(super) netns: Option<(Arc<Netns>, Ipv4Addr)>,
    pub(super) service_cidrs: Vec<String>,
    pub(super) pod_cidrs: Vec<String>,
    pub(super) nodes: Vec<(String, String)>,
}

impl Options {
    /// A cluster of this name, IPv4 first and IPv6 second, with two nodes in two zones.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            netns: None,
            service_cidrs: vec!["10.96.0.0/16".into(), "fd00:96::/112".into()],
            pod_cidrs: vec!["10.244.0.0/16".into(), "fd00:244::/64".into()],
            nodes: vec![("node-a".into(), "zone-a".into()), ("node-b".into(), "zone-b".into())],
        }
    }

    /// In a namespace that is there, where the API server gets port 6443 of `address` and of all others. One a namespace.
    #[must_use]
    pub fn inside(mut self, netns: &Arc<Netns>, address: Ipv4Addr) -> Self {
        self.netns = Some((Arc::clone(netns), address));
        self
    }

    /// The ranges of ClusterIPs, one or two families; the first one's is the preferred one.
    #[must_use]
    pub fn service_cidrs(mut self, cidrs: &[&str]) -> Self {
        self.service_cidrs = cidrs.iter().copied().map(str::to_owned).collect();
        self
    }

    /// The ranges that pods without an annotation get addresses from, lowest first; the first two of a range are left out.
    #[must_use]
    pub fn pod_cidrs(mut self, cidrs: &[&str]) -> Self {
        self.pod_cidrs = cidrs.iter().copied().map(str::to_owned).collect();
        self
    }

    /// Its nodes with their zones.
    #[must_use]
    pub fn nodes(mut self, nodes: &[(&str, &str)]) -> Self {
        self.nodes = nodes.iter().map(|(name, zone)| ((*name).to_owned(), (*zone).to_owned())).collect();
        self
    }

    /// The namespace, and the API server's address in it.
    pub(super) fn place(&self) -> (Arc<Netns>, Ipv4Addr) {
        self.netns.clone().unwrap_or_else(|| {
            let netns = Netns::new(&format!("{}-api", self.name));
            netns.ip(&format!("address add {ADDRESS}/32 dev lo"));
            (Arc::new(netns), ADDRESS)
        })
    }

    /// The address of the Service `kubernetes`, in each family.
    pub(super) fn first_service_ips(&self) -> Vec<IpAddr> {
        self.service_cidrs.iter().map(|cidr| first_of(cidr)).collect()
    }
}

fn first_of(cidr: &str) -> IpAddr {
    let network = cidr.split_once('/').and_then(|(network, _)| network.parse().ok());
    match network {
        Some(IpAddr::V4(network)) => IpAddr::V4(Ipv4Addr::from_bits(network.to_bits() + 1)),
        Some(IpAddr::V6(network)) => IpAddr::V6(std::net::Ipv6Addr::from_bits(network.to_bits() + 1)),
        None => panic!("a service CIDR: found {cidr:?}, expected a network such as 10.96.0.0/16"),
    }
}

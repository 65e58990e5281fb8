//! ● What a cluster says of the services that it exports.

pub mod bounds;
mod material;
mod member;

pub use material::tell;
pub use member::{is_member_service, member_service};

use isthmus_control_api::{Protocol, ServiceName, ServicePort};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Services by name, and what is said of each.
pub type Services = BTreeMap<ServiceName, Arc<Summary>>;

/// All that a cluster says to a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summaries {
    /// What it exports.
    pub services: Services,
    /// Namespaces of which the peer exports something and that it has not: it cannot import that.
    pub lacking: BTreeSet<Arc<str>>,
}

/// What a cluster says of one of its exported services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// When the cluster began to export it, in milliseconds since 1970: the oldest wins a conflict.
    pub since: u64,
    /// Whether it has no virtual address.
    pub headless: bool,
    /// Its ports.
    #[serde(with = "isthmus_control_api::pairs")]
    pub ports: BTreeMap<Port, PortSummary>,
    /// Its ports of SCTP, by number. Imports name them; no gateway carries them, and of none is anything ready.
    pub sctp: BTreeMap<u16, PortSummary>,
    /// Ready endpoints by zone, of those whose zone is known.
    pub zones: BTreeMap<Arc<str>, u32>,
    /// Seconds for which a client stays with its endpoint, 1 to 86400; `None`: it does not.
    pub affinity: Option<u32>,
    /// Whether clients are to use endpoints of their own node only.
    pub node_local: bool,
    /// Which endpoints to prefer, in the words of `trafficDistribution`.
    pub traffic_distribution: Option<Arc<str>>,
    /// The families that it has addresses of, the first one first. Empty: not known.
    pub families: Vec<Family>,
    /// Labels for the imports.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Annotations for the imports.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// The ready endpoints of a headless service, one by one.
    pub members: BTreeSet<Member>,
}

/// A port's number and protocol: what a stream asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// 1 to 65535.
    pub number: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
}

/// What else there is to a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortSummary {
    /// Its name, if it has one: a DNS label.
    pub name: Option<Arc<str>>,
    /// What is spoken over it.
    pub app_protocol: Option<Arc<str>>,
    /// How many endpoints are ready.
    pub ready: u32,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// One endpoint of a headless service. Its address stays in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Which one: a DNS label.
    pub key: Arc<str>,
    /// Whether the key is the endpoint's host name, by which DNS has it; else it only tells it from others.
    pub is_hostname: bool,
}

impl Summary {
    /// How many endpoints of a port are ready; `None` where there is no such port.
    pub fn ready(&self, number: u16, protocol: Protocol) -> Option<u32> {
        self.ports.get(&Port { number, protocol }).map(|port| port.ready)
    }

    /// Ready endpoints of the port that has the most.
    pub fn most_ready(&self) -> u32 {
        self.ports.values().map(|port| port.ready).max().unwrap_or_default()
    }

    /// Whether it says the same but for how many endpoints are ready.
    pub fn is_same_but_ready(&self, other: &Self) -> bool {
        let bare = |of: &Self| {
            let ports = of.ports.iter().map(|(port, of)| (*port, PortSummary { ready: 0, ..of.clone() }));
            Self { ports: ports.collect(), zones: BTreeMap::new(), ..of.clone() }
        };
        bare(self) == bare(other)
    }

    /// Whether one of its endpoints has that key.
    pub fn has_member(&self, key: &str) -> bool {
        self.members.iter().any(|member| &*member.key == key)
    }
}

impl Summaries {
    /// The endpoints that are ready for a service port; `None` where it is not exported.
    pub fn ready(&self, port: &ServicePort) -> Option<u32> {
        self.services.get(&port.service)?.ready(port.port, port.protocol)
    }
}

impl Summaries {
    /// Whether a service stands for one endpoint that is ready here. It is searched for.
    pub fn has_member_service(&self, service: &ServiceName) -> bool {
        let is_it = |of: &ServiceName, member: &Member| member_service(of, &member.key) == *service;
        let headless = self.services.iter().filter(|(of, _)| of.namespace() == service.namespace());
        is_member_service(service)
            && headless.into_iter().any(|(of, summary)| summary.members.iter().any(|member| is_it(of, member)))
    }
}

impl Family {
    /// As Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

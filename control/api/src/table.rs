//! The endpoint table: everything that a gateway needs to know to serve, as one immutable value.

use crate::{
    AccessPolicy, Cidr, PolicyName, Workload,
    names::{ClusterName, Listen, ServicePort},
    policy::{ServicePolicy, is_default, limits::Limits},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    str::FromStr,
    sync::Arc,
};

/// One whole endpoint table. Control publishes a new one on every change; nobody ever changes one. Entries that stay the same are shared
/// with the one before, so that a change costs what changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Grows with every change; 0 is the empty table before the first.
    pub version: u64,
    /// What local clients can use, by where they find it.
    pub imports: BTreeMap<Listen, Arc<Import>>,
    /// What this cluster serves to its peers and to its own imports.
    #[serde(with = "pairs")]
    pub exports: BTreeMap<ServicePort, Arc<Export>>,
    /// The clusters that this one is linked with.
    pub links: BTreeMap<ClusterName, Link>,
    /// What this cluster's gateways carry for others.
    #[serde(default)]
    pub relay: Relaying,
    /// Whose the addresses of local clients are; the smallest network counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<Cidr, Arc<Workload>>,
    /// Who may use what this cluster serves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<PolicyName, Arc<AccessPolicy>>,
}

impl Table {
    /// The imports at the address of `listen`: the one for all clients or all others first, if there is one, then those for names.
    pub fn imports_at(&self, listen: &Listen) -> impl Iterator<Item = (&Listen, &Arc<Import>)> {
        let socket = listen.socket();
        let from = self.imports.range(socket.clone()..);
        from.take_while(move |(at, _)| at.address == socket.address && at.protocol == socket.protocol)
    }
}

/// A service that local clients use through a listener of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// What the listener leads to.
    pub service: ServicePort,
    /// Which clusters to prefer.
    pub affinity: Affinity,
    /// The linked clusters that export the service and have ready endpoints, with how many.
    pub clusters: BTreeMap<ClusterName, u32>,
    /// The clusters' shares, where they are to be others than by ready endpoints; `affinity` does not count then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Whether a client stays with its cluster and its endpoint, as long as these serve.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sticky: bool,
    /// How its streams are served at the client's side.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Arc<ServicePolicy>,
}

/// Shares of an import's streams. Only what is ready has its share: the others have it between them then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// This cluster's own.
    pub local: u32,
    /// Those of linked clusters.
    pub clusters: BTreeMap<ClusterName, u32>,
    /// Whether clusters with no share serve, by ready endpoints, while none that has one is ready.
    pub others: bool,
}

/// Where to take endpoints from, when both this cluster and others have them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// This cluster's own endpoints as long as there are any.
    Local,
    /// Other clusters' endpoints as long as there are any.
    Remote,
    /// All alike, in proportion to their number.
    #[default]
    None,
}

/// A service port that this cluster serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The port's name, if it has one.
    pub port_name: Option<String>,
    /// Its ready endpoints.
    pub endpoints: Vec<Endpoint>,
    /// How its streams are served at the endpoints' side.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Arc<ServicePolicy>,
}

/// One address that can serve a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The zone that it is in, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// The node that it is on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<str>>,
}

impl Endpoint {
    /// One of which no more is known than its address.
    pub const fn at(address: SocketAddr) -> Self {
        Self { address, zone: None, node: None }
    }
}

/// The configured relation with another cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where the peer's gateways can be dialled; empty: the peer dials us.
    pub endpoints: Vec<PeerAddress>,
    /// Which transport to use for what we dial.
    pub transport: TransportChoice,
    /// The linked cluster whose gateways relay tunnels between the peer and us, if any is to.
    #[serde(default)]
    pub relay: Option<ClusterName>,
    /// Namespaces whose exports the peer may know of and use.
    #[serde(default, skip_serializing_if = "Namespaces::is_all")]
    pub exports: Namespaces,
    /// What the peer's streams may take in one gateway of ours, all services together.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
}

/// A choice of namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespaces {
    /// All of them.
    #[default]
    All,
    /// These.
    Only(BTreeSet<Arc<str>>),
}

impl Namespaces {
    /// Whether it is one of them.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(these) => these.contains(namespace),
        }
    }

    /// Whether it is all of them.
    pub const fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}

/// What this cluster's gateways carry between other clusters that cannot dial each other. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relaying {
    /// The clusters between which tunnels are relayed: both must be here.
    pub allow: BTreeSet<ClusterName>,
    /// Tunnels at once between any two of them.
    pub tunnels: usize,
    /// Bytes a second between any two of them, both ways together; `None`: as many as come.
    pub bytes_per_second: Option<u64>,
}

impl Relaying {
    /// Whether tunnels between these two are relayed.
    pub fn allows(&self, one: &ClusterName, other: &ClusterName) -> bool {
        one != other && self.allow.contains(one) && self.allow.contains(other)
    }
}

/// A peer's dialable address: `host:port`, the host an IP address or a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddress {
    /// An IP address without brackets, or a DNS name.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

/// Which tunnel transport a link is dialled with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportChoice {
    /// TLS and QUIC both, each stream over what its path asks for; HTTP/2 where the peer speaks nothing else.
    #[default]
    Auto,
    /// Our multiplexer over TLS.
    Tls,
    /// QUIC.
    Quic,
    /// HTTP/2 CONNECT, as HBONE has it.
    H2,
}

impl FromStr for PeerAddress {
    type Err = crate::InvalidName;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let invalid =
            || crate::InvalidName { found: s.chars().take(80).collect(), expected: "host:port, port 1 to 65535" };
        let (host, port) = s.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(invalid)?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let fits = match bare {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host(host),
        };
        if !fits {
            return Err(invalid());
        }
        Ok(Self { host: bare.unwrap_or(host).into(), port })
    }
}

fn is_host(s: &str) -> bool {
    let fits = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    s.len() <= 253 && s.strip_suffix('.').unwrap_or(s).split('.').all(fits)
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for PeerAddress {
    type Error = crate::InvalidName;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<PeerAddress> for String {
    fn from(address: PeerAddress) -> String {
        address.to_string()
    }
}

/// Maps whose keys are structures, as lists of pairs: JSON has only text for keys.
pub mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    /// As a list of pairs.
    ///
    /// # Errors
    /// The serialiser's.
    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    /// From a list of pairs; of two with the same key, the last.
    ///
    /// # Errors
    /// It is no such list.
    pub fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_addresses_keep_their_form() {
        for good in ["203.0.113.7:15008", "[2001:db8::1]:15008", "gw.east.example.:1"] {
            assert_eq!(good.parse::<PeerAddress>().unwrap().to_string(), good);
        }
        for bad in ["", ":1", "h", "h:0", "h:70000", "2001:db8::1:15008", "[x]:1", "a b:1"] {
            assert!(bad.parse::<PeerAddress>().is_err(), "{bad:?}");
        }
    }
}

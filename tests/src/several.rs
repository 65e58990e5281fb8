//! Clusters of several gateways: each gateway has an edge, pods and clients of its own, and an SVID of its cluster's CA.

use crate::{Cluster, Config, Gateway, Topology, eventually, identity, pair::SERVICE, topology::CLUSTERSET};
use serde_json::Value;

/// Two clusters, west and east, of so many gateways each: `west-1`, `west-2`, `east-1` and so on.
///
/// # Panics
/// As [`Topology::new`].
pub fn topology(west: usize, east: usize) -> Topology {
    let names = |cluster: &str, count: usize| (1..=count).map(|n| format!("{cluster}-{n}")).collect::<Vec<_>>();
    let names = [names("west", west), names("east", east)].concat();
    let topology = Topology::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (own, peer, count) in [("west", "east", west), ("east", "west", east)] {
        let first = topology.cluster(&format!("{own}-1")).identity_dir();
        if !first.exists() {
            identity::init(CLUSTERSET, own, "24h", &first);
        }
        let of_peer = topology.cluster(&format!("{peer}-1")).identity_dir();
        if !of_peer.exists() {
            identity::init(CLUSTERSET, peer, "24h", &of_peer);
        }
        identity::trust(&first, peer, &of_peer.join("ca.pem"));
        for other in 2..=count {
            let other = topology.cluster(&format!("{own}-{other}"));
            other.edge().exec("cp", &["-r", identity::text(&first), identity::text(&other.identity_dir())]);
            // A leaf of its own.
            identity::renew(&other.identity_dir());
        }
    }
    topology
}

/// The configuration of one gateway, without links.
pub fn config(cluster: &Cluster) -> Config {
    let name = cluster.name().split('-').next().unwrap_or_default();
    Config::new(cluster).of(name)
}

/// Where these gateways take tunnels.
pub fn endpoints(clusters: &[&Cluster]) -> Vec<String> {
    clusters.iter().map(|cluster| cluster.tunnel_address().to_string()).collect()
}

/// Waits until a gateway reaches `reached` of `known` gateways of a cluster.
///
/// # Panics
/// If it does not.
pub fn wait_reached(gateway: &Gateway<'_>, cluster: &str, reached: u64, known: u64) -> Value {
    let name = gateway.cluster().name();
    eventually(&format!("{name} reaches {reached} of {known} gateways of {cluster}"), || {
        let link = gateway.link(cluster);
        let found = (&link["gateways"]["reached"], &link["gateways"]["known"]);
        if found == (&reached.into(), &known.into()) { Ok(link) } else { Err(link.to_string()) }
    })
}

/// Waits until a gateway's link with a cluster says all of these.
///
/// # Panics
/// If it does not.
pub fn wait_message(gateway: &Gateway<'_>, cluster: &str, words: &[&str]) -> Value {
    let name = gateway.cluster().name();
    eventually(&format!("{name} says {words:?} of {cluster}"), || {
        let link = gateway.link(cluster);
        let message = link["message"].as_str().unwrap_or_default();
        if words.iter().all(|word| message.contains(word)) { Ok(link.clone()) } else { Err(link.to_string()) }
    })
}

/// Waits until a gateway knows the usual service from `cluster`, and how its table was then.
///
/// # Panics
/// If it does not.
pub fn wait_served(gateway: &Gateway<'_>, cluster: &str) -> u64 {
    gateway.wait_imported(SERVICE, &[cluster]);
    gateway.status()["table"]["version"].as_u64().unwrap_or_default()
}

//! From which address endpoints are connected to.

use super::ServicePolicy;
use crate::{Cidr, ClusterName};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Clients whose own addresses endpoints see: those of a cluster that it says are in these networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TransparentSource {
    /// Whose word counts: that of its gateways, for streams that come from it.
    pub cluster: ClusterName,
    /// The networks that its clients are in: 1 to 64. No two clusters of a policy have an address in common.
    pub cidrs: Vec<Cidr>,
}

impl ServicePolicy {
    /// Whether endpoints are to see `client`, of which `cluster` says that it has opened the stream, as the address that connects.
    pub fn keeps_source(&self, cluster: &ClusterName, client: IpAddr) -> bool {
        let mut of_cluster = self.transparent_source.iter().filter(|source| source.cluster == *cluster);
        of_cluster.any(|source| source.cidrs.iter().any(|network| network.contains(client)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_for_the_cluster_that_has_it() {
        let west = TransparentSource {
            cluster: "west".parse().unwrap(),
            cidrs: vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
        };
        let policy = ServicePolicy { transparent_source: vec![west], ..ServicePolicy::default() };
        let keeps =
            |cluster: &str, client: &str| policy.keeps_source(&cluster.parse().unwrap(), client.parse().unwrap());
        assert!(keeps("west", "10.1.2.3") && keeps("west", "::ffff:10.1.2.3") && keeps("west", "fd00:1::9"));
        assert!(!keeps("west", "10.2.0.1") && !keeps("north", "10.1.2.3"));
        assert!(!ServicePolicy::default().keeps_source(&"west".parse().unwrap(), [10, 1, 2, 3].into()));
    }
}

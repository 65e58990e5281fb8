//! The endpoint table, from what this cluster wants and what its peers say. Pure.

use crate::{
    exchange::{Summaries, Summary},
    registry::Desired,
};
use isthmus_control_api::{ClusterName, Import, ServicePort, Table};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

/// A linked cluster, as far as the table is concerned.
#[derive(Debug, Clone, Copy)]
pub struct PeerView<'a> {
    /// Whether a tunnel to it is live.
    pub up: bool,
    /// What it last said that it exports.
    pub exports: &'a Summaries,
    /// What the configuration says that it serves: each counts for one endpoint.
    pub stated: &'a BTreeSet<ServicePort>,
}

/// The table after `previous`, or `None` if it would say the same.
///
/// A peer serves while it is up, by its last summary. So a dead peer is gone from every import at once and from nothing else; and
/// when it returns it serves by the summary kept from before, without waiting for the next snapshot: a link that flaps costs no
/// second outage, and a stale summary costs no more than a stream refused by the gateway that no longer exports the service.
pub fn next(previous: &Table, desired: &Desired, peers: &BTreeMap<ClusterName, PeerView<'_>>) -> Option<Table> {
    let imports = desired.imports.iter().map(|(listen, import)| {
        let clusters = ready(&import.service, peers);
        (*listen, Import { service: import.service.clone(), affinity: import.affinity, clusters })
    });
    let exports = desired.exports.iter().map(|(key, desired)| (key.clone(), desired.export.clone()));
    let table = Table {
        version: previous.version,
        imports: imports.collect(),
        exports: exports.collect(),
        links: desired.links.iter().map(|(cluster, desired)| (cluster.clone(), desired.link.clone())).collect(),
        relay: desired.relay.clone(),
    };
    (table != *previous).then(|| Table { version: previous.version + 1, ..table })
}

/// What this cluster tells its peers.
pub fn summaries(desired: &Desired) -> Summaries {
    let summary = |(key, desired): (&ServicePort, &crate::registry::DesiredExport)| {
        let since = desired.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let summary = Summary {
            port_name: desired.export.port_name.clone(),
            ready: u32::try_from(desired.export.endpoints.len()).unwrap_or(u32::MAX),
            since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        };
        (key.clone(), summary)
    };
    desired.exports.iter().map(summary).collect()
}

/// The peers that can serve `service` now, with how many endpoints.
fn ready(service: &ServicePort, peers: &BTreeMap<ClusterName, PeerView<'_>>) -> BTreeMap<ClusterName, u32> {
    let up = peers.iter().filter(|(_, peer)| peer.up);
    let count = |peer: &PeerView<'_>| match peer.exports.get(service) {
        Some(summary) => summary.ready,
        None => u32::from(peer.stated.contains(service)),
    };
    let counts = up.map(|(cluster, peer)| (cluster.clone(), count(peer)));
    counts.filter(|(_, ready)| *ready > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{DesiredImport, DesiredLink};
    use isthmus_control_api::{Affinity, Export};

    fn service(name: &str) -> ServicePort {
        ServicePort::tcp(name.parse().unwrap(), 80)
    }

    fn exports(of: &[(&str, u32)]) -> Summaries {
        let summary = |ready| Summary { port_name: None, ready, since: 0 };
        of.iter().map(|(name, ready)| (service(name), summary(*ready))).collect()
    }

    fn desired() -> Desired {
        let import = |name| DesiredImport { service: service(name), affinity: Affinity::Local };
        let export = crate::registry::DesiredExport { export: Export::default(), since: SystemTime::UNIX_EPOCH };
        Desired {
            exports: [(service("shop/own"), export)].into(),
            imports: [
                ("127.0.0.1:1".parse().unwrap(), import("shop/api")),
                ("127.0.0.1:2".parse().unwrap(), import("shop/db")),
            ]
            .into(),
            links: [
                ("east".parse().unwrap(), DesiredLink::default()),
                ("south".parse().unwrap(), DesiredLink::default()),
            ]
            .into(),
            relay: Default::default(),
        }
    }

    fn peers<'a>(of: &[(&str, bool, &'a Summaries)]) -> BTreeMap<ClusterName, PeerView<'a>> {
        of.iter()
            .map(|(name, up, exports)| (name.parse().unwrap(), PeerView { up: *up, exports, stated: &NOTHING }))
            .collect()
    }

    static NOTHING: BTreeSet<ServicePort> = BTreeSet::new();

    fn clusters(table: &Table, listen: &str) -> Vec<(String, u32)> {
        let import = &table.imports[&listen.parse().unwrap()];
        import.clusters.iter().map(|(cluster, ready)| (cluster.to_string(), *ready)).collect()
    }

    #[test]
    fn a_dead_peer_leaves_every_import_and_takes_nothing_else_with_it() {
        let (east, south) = (exports(&[("shop/api", 2), ("shop/db", 0)]), exports(&[("shop/api", 3)]));
        let first =
            next(&Table::default(), &desired(), &peers(&[("east", true, &east), ("south", true, &south)])).unwrap();
        assert_eq!(clusters(&first, "127.0.0.1:1"), [("east".into(), 2), ("south".into(), 3)]);
        assert!(clusters(&first, "127.0.0.1:2").is_empty(), "no ready endpoint");

        let dead = next(&first, &desired(), &peers(&[("east", false, &east), ("south", true, &south)])).unwrap();
        assert_eq!(clusters(&dead, "127.0.0.1:1"), [("south".into(), 3)]);
        assert_eq!((&dead.exports, &dead.links), (&first.exports, &first.links));

        let back = next(&dead, &desired(), &peers(&[("east", true, &east), ("south", true, &south)])).unwrap();
        assert_eq!(back, Table { version: 3, ..first }, "by the summary kept from before");
    }

    #[test]
    fn a_peer_that_cannot_tell_serves_what_is_stated() {
        let (nothing, stated) = (Summaries::new(), [service("shop/api")].into());
        let peer = |up| [("east".parse().unwrap(), PeerView { up, exports: &nothing, stated: &stated })].into();
        let table = next(&Table::default(), &desired(), &peer(true)).unwrap();
        assert_eq!(clusters(&table, "127.0.0.1:1"), [("east".into(), 1)]);
        assert!(clusters(&table, "127.0.0.1:2").is_empty());
        let down = next(&table, &desired(), &peer(false)).unwrap();
        assert!(clusters(&down, "127.0.0.1:1").is_empty());
    }

    #[test]
    fn the_same_again_is_no_new_version() {
        let first = next(&Table::default(), &desired(), &peers(&[])).unwrap();
        assert_eq!(first.version, 1);
        assert_eq!(next(&first, &desired(), &peers(&[])), None);
        assert_eq!(next(&Table::default(), &Desired::default(), &peers(&[])), None);
    }

    #[test]
    fn peers_are_told_counts_and_no_addresses() {
        let told = summaries(&desired());
        assert_eq!(told[&service("shop/own")], Summary { port_name: None, ready: 0, since: 0 });
    }
}

//! The endpoint table, from what this cluster wants and what its peers say. Pure.

use crate::{
    exchange::summary::member_service,
    peers::{PeerView, PeerViews},
    registry::{Desired, DesiredImport},
};
use isthmus_control_api::{Cidr, ClusterName, Import, Listen, ServiceName, Table, Workload};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

type Imports = BTreeMap<Listen, Arc<Import>>;
type Sources = BTreeMap<Cidr, Arc<Workload>>;

/// What a table is made from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// What this cluster wants.
    pub desired: Arc<Desired>,
    /// What its peers say.
    pub peers: Arc<PeerViews>,
}

/// The table after `previous`, or `None` if it would say the same. `previous` was made from `before`: an import of which nothing has
/// changed since is taken over as it is, so that a change costs what it touches and not what there is.
///
/// A peer serves while it is up, by its last summary. So a dead peer is gone from every import at once and from nothing else; and
/// when it returns it serves by the summary kept from before, without waiting for the next snapshot: a link that flaps costs no
/// second outage, and a stale summary costs no more than a stream refused by the gateway that no longer exports the service.
pub fn next(previous: &Table, before: &Inputs, now: &Inputs) -> Option<Table> {
    let touched = touched(&before.peers, &now.peers);
    if Arc::ptr_eq(&before.desired, &now.desired) && touched.as_ref().is_some_and(BTreeSet::is_empty) {
        return None;
    }
    let desired = &*now.desired;
    let table = Table {
        version: previous.version,
        imports: imports(&previous.imports, &before.desired, now, touched.as_ref()),
        exports: kept(&previous.exports, &desired.exports),
        links: desired.links.iter().map(|(cluster, desired)| (cluster.clone(), desired.link.clone())).collect(),
        relay: desired.relay.clone(),
        sources: sources(&previous.sources, desired),
        policies: kept(&previous.policies, &desired.policies),
    };
    (table != *previous).then(|| Table { version: previous.version + 1, ..table })
}

/// The imports of now. Those of `previous` stay that are wanted as they were `before` and are not `touched`.
fn imports(previous: &Imports, before: &Desired, now: &Inputs, touched: Option<&BTreeSet<ServiceName>>) -> Imports {
    let (mut known, mut wanted) = (finder(previous), finder(&before.imports));
    let import = |(listen, import): (&Listen, &Arc<DesiredImport>)| {
        let (known, wanted) = (known(listen), wanted(listen));
        let is_touched = || touched.is_none_or(|touched| touched.contains(origin(import)));
        let stays = known.filter(|_| wanted == Some(import) && !is_touched());
        let import = stays.cloned().unwrap_or_else(|| {
            let clusters = ready(import, &now.peers);
            let DesiredImport { service, affinity, weights, sticky, policy, member: _ } = (**import).clone();
            shared(known, &Arc::new(Import { service, affinity, clusters, weights, sticky, policy }))
        });
        (listen.clone(), import)
    };
    now.desired.imports.iter().map(import).collect()
}

/// The service whose summaries say who can serve an import.
fn origin(import: &DesiredImport) -> &ServiceName {
    import.member.as_ref().map_or(&import.service.service, |member| &member.service)
}

/// The services of which a peer says something else now, and the names of their single endpoints; `None`: more than that has changed.
fn touched(before: &PeerViews, now: &PeerViews) -> Option<BTreeSet<ServiceName>> {
    let mut touched = BTreeSet::new();
    if before.len() != now.len() {
        return None;
    }
    for ((cluster, was), (other, is)) in before.iter().zip(now) {
        if cluster != other || was.up != is.up || was.stated != is.stated {
            return None;
        }
        if Arc::ptr_eq(&was.exports, &is.exports) {
            continue;
        }
        for (was, is) in [(was, is), (is, was)] {
            let mut same = finder(&is.exports.services);
            let differ = was.exports.services.iter().filter(|(name, summary)| same(name) != Some(summary));
            for (name, summary) in differ {
                touched.extend(summary.members.iter().map(|member| member_service(name, &member.key)));
                touched.insert(name.clone());
            }
        }
    }
    Some(touched)
}

/// Whose the addresses of clients are: what was known before as well, while there is more to come.
fn sources(before: &Sources, desired: &Desired) -> Sources {
    let now = kept(before, &desired.sources);
    if !desired.awaits_sources {
        return now;
    }
    before.clone().into_iter().chain(now).collect()
}

/// The entries of now, those shared with before that say the same.
fn kept<K: Ord + Clone, T: Eq>(before: &BTreeMap<K, Arc<T>>, now: &BTreeMap<K, Arc<T>>) -> BTreeMap<K, Arc<T>> {
    let mut known = finder(before);
    now.iter().map(|(key, value)| (key.clone(), shared(known(key), value))).collect()
}

/// Finds the entries of keys that are asked for in ascending order: all of them in one walk.
fn finder<'a, K: Ord, V>(of: &'a BTreeMap<K, V>) -> impl FnMut(&K) -> Option<&'a V> {
    let mut rest = of.iter().peekable();
    move |key| {
        while rest.next_if(|(next, _)| *next < key).is_some() {}
        rest.next_if(|(next, _)| *next == key).map(|(_, value)| value)
    }
}

/// The value of before, if it says the same: whoever compares has to look at those only that are not one and the same.
pub fn shared<T: Eq>(before: Option<&Arc<T>>, now: &Arc<T>) -> Arc<T> {
    before.filter(|before| **before == *now).unwrap_or(now).clone()
}

/// The peers that can serve an import now, with how many endpoints.
fn ready(import: &DesiredImport, peers: &PeerViews) -> BTreeMap<ClusterName, u32> {
    let up = peers.iter().filter(|(_, peer)| peer.up);
    // Those that are never to serve it are not in the table.
    let may =
        |cluster: &ClusterName| import.weights.as_ref().is_none_or(|of| of.others || of.clusters.contains_key(cluster));
    let counts =
        up.filter(|(cluster, _)| may(cluster)).map(|(cluster, peer)| (cluster.clone(), count(import, cluster, peer)));
    counts.filter(|(_, ready)| *ready > 0).collect()
}

/// How many endpoints a peer has for an import.
fn count(import: &DesiredImport, cluster: &ClusterName, peer: &PeerView) -> u32 {
    let Some(member) = &import.member else {
        // A table from before a restart has names of single endpoints, and no more of them.
        let other =
            || peer.stated.contains(&import.service) || peer.exports.has_member_service(&import.service.service);
        return peer.exports.ready(&import.service).unwrap_or_else(|| u32::from(other()));
    };
    let service = peer.exports.services.get(&member.service).filter(|_| *cluster == member.cluster);
    u32::from(service.is_some_and(|service| service.has_member(&member.key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::{
            Summaries,
            samples::{member, summary},
        },
        registry::{DesiredLink, DesiredMember},
    };
    use isthmus_control_api::{Affinity, ServicePort, Weights};
    use proptest::prelude::*;

    /// The table after `previous`, whatever that was made from.
    fn next(previous: &Table, desired: &Desired, peers: &PeerViews) -> Option<Table> {
        let inputs = Inputs { desired: Arc::new(desired.clone()), peers: Arc::new(peers.clone()) };
        super::next(previous, &Inputs::default(), &inputs)
    }

    fn service(name: &str) -> ServicePort {
        ServicePort::tcp(name.parse().unwrap(), 80)
    }

    fn exports(of: &[(&str, u32)]) -> Summaries {
        let services = of.iter().map(|(name, ready)| (name.parse().unwrap(), Arc::new(summary(80, *ready))));
        Summaries { services: services.collect(), ..Summaries::default() }
    }

    fn desired() -> Desired {
        let import = |name| DesiredImport {
            service: service(name),
            affinity: Affinity::Local,
            weights: None,
            sticky: false,
            policy: Default::default(),
            member: None,
        };
        Desired {
            exports: [(service("shop/own"), Arc::default())].into(),
            imports: [
                ("127.0.0.1:1".parse().unwrap(), Arc::new(import("shop/api"))),
                ("127.0.0.1:2".parse().unwrap(), Arc::new(import("shop/db"))),
            ]
            .into(),
            links: [
                ("east".parse().unwrap(), DesiredLink::default()),
                ("south".parse().unwrap(), DesiredLink::default()),
            ]
            .into(),
            ..Desired::default()
        }
    }

    fn peers(of: &[(&str, bool, &Summaries)]) -> PeerViews {
        let view = |up, exports: &Summaries| PeerView { up, exports: Arc::new(exports.clone()), ..PeerView::default() };
        of.iter().map(|(name, up, exports)| (name.parse().unwrap(), view(*up, exports))).collect()
    }

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
        let is_shared = |listen: &str| {
            let listen = listen.parse().unwrap();
            Arc::ptr_eq(&dead.imports[&listen], &first.imports[&listen])
        };
        assert_eq!((is_shared("127.0.0.1:1"), is_shared("127.0.0.1:2")), (false, true));

        let back = next(&dead, &desired(), &peers(&[("east", true, &east), ("south", true, &south)])).unwrap();
        assert_eq!(back, Table { version: 3, ..first }, "by the summary kept from before");
    }

    #[test]
    fn a_peer_that_cannot_tell_serves_what_is_stated() {
        let stated: Arc<BTreeSet<_>> = Arc::new([service("shop/api")].into());
        let view = |up| PeerView { up, stated: stated.clone(), ..PeerView::default() };
        let peer = |up| [("east".parse().unwrap(), view(up))].into();
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
    fn sources_of_before_stay_while_there_is_more_to_come() {
        let source = |cidr: &str, account: &str| {
            (cidr.parse::<Cidr>().unwrap(), Arc::new(Workload { account: account.parse().unwrap(), pod: None }))
        };
        let (pod, stated) = (source("10.0.0.9", "shop/web"), source("10.1.0.0/16", "shop/any"));
        let before = Table { sources: [pod.clone(), stated.clone()].into(), ..Table::default() };
        let restated = source("10.1.0.0/16", "shop/other");
        let starting = Desired { sources: [restated.clone()].into(), awaits_sources: true, ..Desired::default() };
        let table = next(&before, &starting, &peers(&[])).unwrap();
        assert_eq!(table.sources, [pod, restated.clone()].into());
        let whole = Desired { awaits_sources: false, ..starting };
        assert_eq!(next(&table, &whole, &peers(&[])).unwrap().sources, [restated].into());
    }

    #[test]
    fn an_import_that_is_for_one_cluster_has_no_other() {
        let exports = exports(&[("shop/api", 2)]);
        let peers = peers(&[("east", true, &exports), ("south", true, &exports)]);
        let mut desired = desired();
        let import = Arc::make_mut(desired.imports.get_mut(&"127.0.0.1:1".parse().unwrap()).unwrap());
        let weights = |others| Weights { local: 0, clusters: [("south".parse().unwrap(), 1)].into(), others };
        import.weights = Some(weights(false));
        let table = next(&Table::default(), &desired, &peers).unwrap();
        assert_eq!(clusters(&table, "127.0.0.1:1"), [("south".into(), 2)]);
        assert_eq!(table.imports[&"127.0.0.1:1".parse().unwrap()].weights, Some(weights(false)));
        let import = Arc::make_mut(desired.imports.get_mut(&"127.0.0.1:1".parse().unwrap()).unwrap());
        import.weights = Some(weights(true));
        let table = next(&table, &desired, &peers).unwrap();
        assert_eq!(clusters(&table, "127.0.0.1:1").len(), 2);
    }

    #[test]
    fn one_endpoint_of_a_headless_service_is_served_by_its_cluster_while_it_is_ready() {
        let db: ServiceName = "shop/db".parse().unwrap();
        let import = |key: &str| DesiredImport {
            service: ServicePort::tcp(member_service(&db, key), 80),
            affinity: Affinity::None,
            weights: None,
            sticky: false,
            policy: Default::default(),
            member: Some(DesiredMember { cluster: "east".parse().unwrap(), service: db.clone(), key: key.into() }),
        };
        let mut desired = desired();
        desired.imports = [
            ("127.0.0.1:1".parse().unwrap(), Arc::new(import("db-0"))),
            ("127.0.0.1:2".parse().unwrap(), Arc::new(import("db-1"))),
        ]
        .into();
        let mut headless = summary(80, 1);
        headless.members.insert(member("db-0"));
        let exports = Summaries { services: [(db.clone(), Arc::new(headless))].into(), ..Summaries::default() };
        let peers = peers(&[("east", true, &exports), ("south", true, &exports)]);
        let table = next(&Table::default(), &desired, &peers).unwrap();
        assert_eq!(clusters(&table, "127.0.0.1:1"), [("east".into(), 1)]);
        assert!(clusters(&table, "127.0.0.1:2").is_empty());
        // By its name alone, as of a table from before a restart. There its cluster is told by the weights.
        let east = Weights { local: 0, clusters: [("east".parse().unwrap(), 1)].into(), others: false };
        for import in desired.imports.values_mut() {
            let import = Arc::make_mut(import);
            (import.member, import.weights) = (None, Some(east.clone()));
        }
        let again = next(&table, &desired, &peers);
        let again = again.as_ref().unwrap_or(&table);
        assert_eq!(clusters(again, "127.0.0.1:1"), [("east".into(), 1)], "south has one of that name, too");
        assert!(clusters(again, "127.0.0.1:2").is_empty());
    }

    /// Imports by what they lead to: services that peers export or not, and single endpoints, by their cluster or by name alone.
    fn wanted(of: &[(u8, bool)]) -> Desired {
        let db: ServiceName = "shop/s0".parse().unwrap();
        let import = |(at, (to, sticky)): (usize, &(u8, bool))| {
            let key: Arc<str> = format!("db-{}", to % 2).into();
            let member = DesiredMember { cluster: "east".parse().unwrap(), service: db.clone(), key: key.clone() };
            let service =
                if *to < 4 { service(&format!("shop/s{to}")) } else { ServicePort::tcp(member_service(&db, &key), 80) };
            let import = DesiredImport {
                service,
                affinity: Affinity::None,
                weights: None,
                sticky: *sticky,
                policy: Default::default(),
                member: (*to > 5).then_some(member),
            };
            (format!("127.0.0.1:{}", at + 1).parse().unwrap(), Arc::new(import))
        };
        Desired { imports: of.iter().enumerate().map(import).collect(), ..Desired::default() }
    }

    /// A cluster that is up or not, and exports services with so many ready, the first with as many members.
    fn view((up, said): &(bool, Vec<Option<u32>>)) -> PeerView {
        let services = said.iter().enumerate().filter_map(|(name, ready)| {
            let mut summary = summary(80, (*ready)?);
            if name == 0 {
                summary.members = (0..ready.unwrap_or_default()).map(|key| member(&format!("db-{key}"))).collect();
            }
            Some((format!("shop/s{name}").parse().unwrap(), Arc::new(summary)))
        });
        PeerView {
            up: *up,
            exports: Arc::new(Summaries { services: services.collect(), ..Summaries::default() }),
            ..PeerView::default()
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_over_is_what_would_be_made_anew(
            steps in prop::collection::vec(
                (
                    prop::collection::vec((0u8..8, any::<bool>()), 0..6),
                    prop::collection::vec((prop::bool::weighted(0.9), prop::collection::vec(prop::option::of(0u32..3), 0..4)), 0..4),
                    any::<[bool; 2]>(),
                ),
                1..12,
            ),
        ) {
            let (mut table, mut before) = (Table::default(), Inputs::default());
            for (imports, peers, [other_imports, other_peers]) in &steps {
                let names = ["east", "north", "south", "west"];
                let peers: PeerViews = names.iter().zip(peers).map(|(name, of)| (name.parse().unwrap(), view(of))).collect();
                let now = Inputs {
                    desired: if *other_imports { Arc::new(wanted(imports)) } else { before.desired.clone() },
                    peers: if *other_peers { Arc::new(peers) } else { before.peers.clone() },
                };
                let anew = super::next(&Table::default(), &Inputs::default(), &now).unwrap_or_default();
                table = super::next(&table, &before, &now).unwrap_or(table);
                prop_assert_eq!(&table.imports, &anew.imports);
                before = now;
            }
        }
    }
}

use super::*;
use crate::digest::Digest;
use isthmus_control_api::{
    Affinity, Algorithm, Endpoint, Limits, Namespaces, Outliers, ServicePolicy, Weights,
    access::{Action, Rule, SourceMatch},
};
use proptest::{collection::btree_map, prelude::*};
use std::time::Duration;

/// Tables of few names, so that two of them have some in common.
pub(crate) fn tables() -> impl Strategy<Value = Table> {
    let counts = || {
        let named = |(name, count): (u8, u32)| (format!("c{name}").parse().unwrap(), count);
        btree_map(0u8..3, 1u32..4, 0..3).prop_map(move |counts| counts.into_iter().map(named).collect())
    };
    let weights = (0u32..3, counts(), any::<bool>());
    let weights = weights.prop_map(|(local, clusters, others)| Weights { local, clusters, others });
    let import = (0u8..6, 0u8..4, counts(), prop::option::of(weights), any::<bool>(), service_policies()).prop_map(
        |(listen, service, clusters, weights, sticky, policy)| {
            (
                listen_at(listen),
                Arc::new(Import {
                    service: service_of(service),
                    affinity: Affinity::Local,
                    clusters,
                    weights,
                    sticky,
                    policy,
                }),
            )
        },
    );
    let export =
        (0u8..6, prop::collection::vec(1u16..4, 0..3), service_policies()).prop_map(|(service, ports, policy)| {
            let endpoints = ports
                .into_iter()
                .map(|port| Endpoint {
                    zone: (port == 2).then(|| "a".into()),
                    ..Endpoint::at(([10, 0, 0, 1], port).into())
                })
                .collect();
            (service_of(service), Arc::new(Export { port_name: Some("http".into()), endpoints, policy }))
        });
    let count = || prop::option::of(1u32..3);
    let limits = (count(), count(), count(), prop::option::of(1u64..3)).prop_map(
        |(streams, pending, opens_per_second, bytes_per_second)| Limits {
            streams,
            pending,
            opens_per_second,
            bytes_per_second,
        },
    );
    let link = (0u8..4, 0u16..3, 0u8..3, limits).prop_map(|(cluster, port, namespaces, limits)| {
        let endpoints = vec![format!("gw:{}", port + 1).parse().unwrap()];
        let only = (1..namespaces).map(|n| format!("n{n}").into()).collect();
        let exports = if namespaces == 0 { Namespaces::All } else { Namespaces::Only(only) };
        (format!("c{cluster}").parse().unwrap(), Link { endpoints, exports, limits, ..Link::default() })
    });
    let relay =
        prop::option::of(1u64..3).prop_map(|bytes_per_second| Relaying { bytes_per_second, ..Relaying::default() });
    let many =
        (prop::collection::vec(import, 0..6), prop::collection::vec(export, 0..6), prop::collection::vec(link, 0..4));
    let access = (btree_map(0u8..4, (0u8..3, any::<bool>()), 0..4), btree_map(0u8..4, policies(), 0..3));
    (many, relay, access).prop_map(|((imports, exports, links), relay, (sources, policies))| Table {
        version: 0,
        imports: imports.into_iter().collect(),
        exports: exports.into_iter().collect(),
        links: links.into_iter().collect(),
        relay,
        sources: sources
            .into_iter()
            .map(|(n, (account, has_pod))| {
                let pod = has_pod.then(|| format!("p{n}").parse().unwrap());
                let workload = Workload { account: format!("shop/a{account}").parse().unwrap(), pod };
                (Cidr::host([10, 0, 0, n].into()), Arc::new(workload))
            })
            .collect(),
        policies: policies.into_iter().map(|(n, policy)| (format!("p{n}").parse().unwrap(), policy)).collect(),
    })
}

fn policies() -> impl Strategy<Value = Arc<AccessPolicy>> {
    let rule = (0u8..3, any::<bool>(), prop::option::of((0u8..3, 0u8..3))).prop_map(|(name, allows, from)| Rule {
        name: format!("r{name}").parse().unwrap(),
        action: if allows { Action::Allow } else { Action::Deny },
        from: from
            .map(|(cluster, account)| SourceMatch {
                clusters: [format!("c{cluster}").parse().unwrap()].into(),
                namespaces: ["shop".into()].into(),
                service_accounts: [format!("shop/a{account}").parse().unwrap()].into(),
                cidrs: [Cidr::around([10, 0, 0, 0].into(), 8 + cluster)].into(),
            })
            .into_iter()
            .collect(),
    });
    (prop::option::of(1u16..3), any::<bool>(), prop::collection::vec(rule, 0..3)).prop_map(|(port, dry_run, rules)| {
        let ports = port.map(|port| format!("{port}/udp").parse().unwrap()).into_iter().collect();
        let services = ["*", "shop/*", "shop/s1"].map(|services| services.parse().unwrap()).into();
        Arc::new(AccessPolicy { services, ports, dry_run, rules })
    })
}

fn service_policies() -> impl Strategy<Value = Arc<ServicePolicy>> {
    let algorithm = (0..Algorithm::ALL.len()).prop_map(|index| Algorithm::ALL[index]);
    (algorithm, 1u32..4, prop::option::of(1u64..3)).prop_map(|(balance, resets, seconds)| {
        let outliers = Outliers { resets, ..Outliers::default() };
        Arc::new(ServicePolicy {
            balance,
            outliers,
            slow_start: seconds.map(Duration::from_secs),
            ..Default::default()
        })
    })
}

fn listen_at(port: u8) -> Listen {
    Listen::tcp(([127, 0, 0, 1], 1 + u16::from(port)).into())
}

fn service_of(number: u8) -> ServicePort {
    ServicePort::tcp(format!("shop/s{number}").parse().unwrap(), 80)
}

proptest! {
    #[test]
    fn a_change_leads_from_any_table_to_any_other(one in tables(), other in tables()) {
        let touched = Touched::between(&one, &other);
        let change = Change::to(&other, touched);
        prop_assert_eq!(change.len() == 0, one == other);
        let (digest, digest_of_other) = (Digest::of(&one), Digest::of(&other));
        prop_assert_eq!(digest.after(&one, &change), digest_of_other);
        prop_assert_eq!(digest == digest_of_other, one == other);
        prop_assert_eq!(change.apply(&one, 0), other);
    }

    #[test]
    fn a_whole_table_is_a_change_of_the_empty_one(table in tables()) {
        let change = Change::whole(&table);
        prop_assert_eq!(change.len(), entries(&table));
        prop_assert_eq!(change.apply(&Table::default(), 0), table);
    }

    /// What was touched on the way matters, not what it was in between.
    #[test]
    fn several_changes_are_one(all in prop::collection::vec(tables(), 2..6)) {
        let mut touched = Touched::default();
        all.windows(2).for_each(|pair| touched.merge(&Touched::between(&pair[0], &pair[1])));
        let last = all.last().unwrap();
        prop_assert_eq!(&Change::to(last, touched).apply(&all[0], 0), last);
    }
}

#[test]
fn versions_do_not_count() {
    let table = Table { version: 7, ..Table::default() };
    assert_eq!(Touched::between(&table, &Table::default()).len(), 0);
    assert_eq!(Digest::of(&table), Digest::of(&Table::default()));
}

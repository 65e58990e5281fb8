use super::{super::tests::summary, *};
use crate::mcs::conflicts;
use isthmus_control_api::Protocol;
use proptest::prelude::*;

fn of(all: &[(&str, Summary)]) -> Constituents {
    all.iter().map(|(cluster, summary)| (cluster.parse().unwrap(), Arc::new(summary.clone()))).collect()
}

fn merged(all: &[(&str, Summary)]) -> Merged {
    merge(&of(all)).unwrap()
}

#[test]
fn the_oldest_wins_and_ties_go_by_id() {
    assert_eq!(merge(&Constituents::new()), None);
    let of = |since| summary(since, "http", 80, 1);
    assert_eq!(merged(&[("a", of(2)), ("b", of(1))]).oldest.as_str(), "b");
    assert_eq!(merged(&[("a", of(1)), ("b", of(1))]).oldest.as_str(), "a");
}

#[test]
fn every_disagreement_is_counted() {
    let oldest = summary(1, "http", 80, 1);
    let other = Summary {
        headless: true,
        affinity: Some(10),
        node_local: true,
        traffic_distribution: Some("PreferClose".into()),
        labels: [("a".into(), "b".into())].into(),
        annotations: [("a".into(), "b".into())].into(),
        ..summary(2, "http", 81, 7)
    };
    let all = [("c1", oldest.clone()), ("c2", other.clone()), ("c3", summary(3, "http", 80, 9)), ("c4", other)];
    let merged = merged(&all);
    assert!(merged.conflicts.iter().all(|conflict| conflict.disagree == 2));
    let reasons = "PortConflict,TypeConflict,SessionAffinityConflict,LabelsConflict,AnnotationsConflict,\
                   InternalTrafficPolicyConflict,TrafficDistributionConflict";
    assert_eq!(conflicts::reasons(&merged.conflicts), reasons);
    let message = conflicts::message(&merged.conflicts[1..2], &merged.oldest, 4);
    let said = "type: Using \"ClusterSetIP\" from the oldest export, in cluster \"c1\"; 2 of 4 clusters disagree.";
    assert_eq!(message, said);
    let sticky = |since, seconds| Summary { affinity: Some(seconds), ..summary(since, "http", 80, 1) };
    let merged = self::merged(&[("c1", sticky(1, 10)), ("c2", sticky(2, 20)), ("c3", oldest)]);
    assert_eq!(merged.oldest.as_str(), "c1");
    assert_eq!(conflicts::reasons(&merged.conflicts), "SessionAffinityConflict,SessionAffinityConfigConflict");
}

#[test]
fn several_ports_all_have_names() {
    let unnamed = |since, number| {
        let mut summary = summary(since, "x", number, 1);
        summary.ports.values_mut().for_each(|port| port.name = None);
        summary
    };
    assert_eq!(merged(&[("a", unnamed(1, 80))]).ports.values().next().unwrap().name, None);
    let names = |merged: &Merged| {
        merged.ports.values().filter_map(|port| port.name.as_deref().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(names(&merged(&[("a", unnamed(1, 80)), ("b", unnamed(2, 90))])), ["tcp-80", "tcp-90"]);
    let clash = merged(&[("a", unnamed(1, 80)), ("b", summary(2, "tcp-80", 90, 1))]);
    assert_eq!(names(&clash), ["tcp-80-0", "tcp-80"]);
}

/// Ports of few names and numbers, so that they clash.
fn any_summary() -> impl Strategy<Value = Summary> {
    let port = (80..84u16, any::<bool>())
        .prop_map(|(number, udp)| Port { number, protocol: if udp { Protocol::Udp } else { Protocol::Tcp } });
    let named = (proptest::option::of(0..4u8), 0..3u32).prop_map(|(name, ready)| PortSummary {
        name: name.map(|name| format!("p{name}").into()),
        ready,
        ..PortSummary::default()
    });
    let ports = proptest::collection::btree_map(port, named, 0..4);
    (0..3u64, any::<bool>(), ports, proptest::option::of(1..3u32)).prop_map(|(since, headless, ports, affinity)| {
        Summary { since, headless, ports, affinity, ..Summary::default() }
    })
}

fn any_constituents() -> impl Strategy<Value = Constituents> {
    let cluster = (0..5u8).prop_map(|n| format!("c{n}").parse().unwrap());
    proptest::collection::btree_map(cluster, any_summary().prop_map(Arc::new), 1..5)
}

proptest! {
    #[test]
    fn ports_are_a_service_that_kubernetes_takes(constituents in any_constituents()) {
        let merged = merge(&constituents).unwrap();
        let names: Vec<_> = merged.ports.values().map(|port| port.name.clone()).collect();
        let distinct: BTreeSet<_> = names.iter().collect();
        prop_assert_eq!(distinct.len(), names.len());
        prop_assert!(names.len() < 2 || names.iter().all(Option::is_some));
        // All of the oldest's, and no number that nobody has.
        let kept = |(port, of): (&Port, &PortSummary)| {
            let namesakes = merged.from.ports.values().filter(|other| other.name == of.name).count();
            merged.ports.contains_key(port) || namesakes > 1
        };
        prop_assert!(merged.from.ports.iter().all(kept));
        prop_assert!(merged.ports.keys().all(|port| constituents.values().any(|of| of.ports.contains_key(port))));
    }

    #[test]
    fn a_younger_export_changes_nothing_but_the_union(constituents in any_constituents(), more in any_summary()) {
        let before = merge(&constituents).unwrap();
        let mut with = constituents;
        with.insert("z".parse().unwrap(), Arc::new(Summary { since: 9, ..more }));
        let after = merge(&with).unwrap();
        prop_assert_eq!((&before.oldest, &before.from), (&after.oldest, &after.from));
        prop_assert!(before.ports.keys().all(|port| after.ports.contains_key(port)));
        prop_assert!(before.conflicts.len() <= after.conflicts.len());
    }
}

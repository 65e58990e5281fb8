//! Summaries for tests.

use super::{
    Services, Summaries,
    summary::{Family, Member, Port, PortSummary, Summary},
};
use isthmus_control_api::Protocol;
use proptest::{collection, option, prelude::*};
use std::{collections::BTreeMap, sync::Arc};

/// What is said of a service with one TCP port.
pub(crate) fn summary(number: u16, ready: u32) -> Summary {
    let port = Port { number, protocol: Protocol::Tcp };
    Summary { ports: [(port, PortSummary { ready, ..PortSummary::default() })].into(), ..Summary::default() }
}

pub(crate) fn member(key: &str) -> Member {
    Member { key: key.into(), is_hostname: true }
}

/// One with something in every field.
pub(crate) fn whole_summary() -> Summary {
    let port = PortSummary { name: Some("dns".into()), app_protocol: Some("example.com/dns".into()), ready: 2 };
    Summary {
        since: 10,
        headless: true,
        ports: [(Port { number: 53, protocol: Protocol::Udp }, port)].into(),
        sctp: BTreeMap::new(),
        zones: [("a".into(), 1), ("b".into(), 1)].into(),
        affinity: Some(10_800),
        node_local: true,
        traffic_distribution: Some("PreferClose".into()),
        families: vec![Family::V6, Family::V4],
        labels: [("tier".into(), "back".into())].into(),
        annotations: [("example.com/note".into(), "of \"anything\"".into())].into(),
        members: [member("db-0"), Member { key: "x1".into(), is_hostname: false }].into(),
    }
}

fn any_summary() -> impl Strategy<Value = Summary> {
    let text = |pattern| proptest::string::string_regex(pattern).unwrap().prop_map(Arc::<str>::from);
    let port = (1..4u16, any::<bool>())
        .prop_map(|(number, udp)| Port { number, protocol: if udp { Protocol::Udp } else { Protocol::Tcp } });
    let of_port = || {
        (option::of(text("[a-z]{1,5}")), option::of(text("[a-z]{1,5}")), 0..40u32)
            .prop_map(|(name, app_protocol, ready)| PortSummary { name, app_protocol, ready })
    };
    let texts = || collection::btree_map(text("[a-z]{1,3}(/[a-z]{1,3})?"), text("([a-z]{1,3})?"), 0..3);
    let families = prop_oneof![Just(vec![]), Just(vec![Family::V4]), Just(vec![Family::V6, Family::V4])];
    let member = (text("[a-z]{1,2}"), any::<bool>()).prop_map(|(key, is_hostname)| Member { key, is_hostname });
    let lists = (
        collection::btree_map(port, of_port(), 0..4),
        collection::btree_map(1..4u16, of_port().prop_map(|of| PortSummary { ready: 0, ..of }), 0..2),
        collection::btree_map(text("[a-z]?"), 0..40u32, 0..3),
        collection::btree_set(member, 0..3),
    );
    let rest = (0..3u64, any::<bool>(), option::of(1..3u32), any::<bool>(), option::of(text("[A-Z]{1,2}")), families);
    (lists, rest, texts(), texts()).prop_map(|((ports, sctp, zones, members), rest, labels, annotations)| {
        let (since, headless, affinity, node_local, traffic_distribution, families) = rest;
        let members = members.into_iter().map(|member| (member.key.clone(), member)).collect::<BTreeMap<_, _>>();
        let members = members.into_values().collect();
        Summary {
            since,
            headless,
            ports,
            sctp,
            zones,
            affinity,
            node_local,
            traffic_distribution,
            families,
            labels,
            annotations,
            members,
        }
    })
}

/// A few services, so that changes meet each other.
pub(crate) fn any_services() -> impl Strategy<Value = Services> {
    let name = (0..8u8).prop_map(|name| format!("shop/s{name}").parse().unwrap());
    collection::btree_map(name, any_summary().prop_map(Arc::new), 0..8)
}

pub(crate) fn any_summaries() -> impl Strategy<Value = Summaries> {
    let lacking = collection::btree_set("[a-z]{1,2}".prop_map(Arc::<str>::from), 0..3);
    (any_services(), lacking).prop_map(|(services, lacking)| Summaries { services, lacking })
}

use super::*;
use crate::exchange::{
    Message,
    samples::{any_summaries, summary},
    summary::{Family, Port},
};
use isthmus_control_api::Protocol;
use proptest::prelude::*;

fn texts(count: usize, text: impl Fn(usize) -> String) -> BTreeMap<Arc<str>, Arc<str>> {
    (0..count).map(|n| (text(n).into(), "v".into())).collect()
}

type Change = Box<dyn Fn(&mut Summary)>;

/// One of each kind that is beyond the bounds, and what is said of it.
#[test]
fn what_is_beyond_is_left_out_and_named() {
    let port = |number| Port { number, protocol: Protocol::Tcp };
    let named = |name: &str| PortSummary { name: Some(name.into()), ..PortSummary::default() };
    let speaks = |word: &str| PortSummary { app_protocol: Some(word.into()), ..PortSummary::default() };
    let member = |key: String| Member { key: key.into(), is_hostname: false };
    let cases: Vec<(&str, Change)> = vec![
        ("ports beyond", Box::new(move |s| s.ports = (1..=257).map(|n| (port(n), PortSummary::default())).collect())),
        ("ports beyond", Box::new(|s| s.sctp = (1..=256).map(|n| (n, PortSummary::default())).collect())),
        ("a port whose name", Box::new(move |s| drop(s.sctp.insert(9, named("HTTP"))))),
        ("a port whose name", Box::new(move |s| drop(s.ports.insert(port(9), named("HTTP"))))),
        ("an application protocol", Box::new(move |s| drop(s.ports.insert(port(9), speaks("a b"))))),
        ("zones beyond", Box::new(|s| s.zones = (0..65).map(|n| (format!("z{n:02}").into(), 1)).collect())),
        ("a zone that", Box::new(|s| s.zones.extend([("a/b".into(), 1)]))),
        ("an affinity", Box::new(|s| s.affinity = Some(0))),
        ("an affinity", Box::new(|s| s.affinity = Some(86_401))),
        ("a traffic distribution", Box::new(|s| s.traffic_distribution = Some("prefer close".into()))),
        ("a family", Box::new(|s| s.families = vec![Family::V4, Family::V4])),
        ("a family", Box::new(|s| s.families = vec![Family::V4, Family::V6, Family::V4])),
        ("labels beyond", Box::new(|s| s.labels = texts(65, |n| format!("k{n:02}")))),
        ("a label that", Box::new(|s| s.labels = texts(1, |_| "-k".into()))),
        ("a label that", Box::new(|s| drop(s.labels.insert("k".into(), "v".repeat(64).into())))),
        ("annotations beyond the", Box::new(|s| s.annotations = texts(65, |n| format!("k{n:02}")))),
        ("an annotation that", Box::new(|s| s.annotations = texts(1, |_| "a/b/c".into()))),
        ("annotations beyond 8", Box::new(|s| drop(s.annotations.insert("k".into(), "v".repeat(8192).into())))),
        ("endpoints beyond", Box::new(move |s| s.members = (0..257).map(|n| member(format!("db-{n:03}"))).collect())),
        ("an endpoint whose", Box::new(move |s| s.members.extend([member("db.0".into())]))),
    ];
    for (expected, change) in cases {
        let mut summary = summary(80, 1);
        assert!(summary.fit().is_empty());
        change(&mut summary);
        let said = summary.fit();
        assert!(said.len() == 1 && said[0].starts_with(expected), "{expected}: {said:?}");
        assert!(summary.fit().is_empty(), "{expected}: it fits now");
    }
}

#[test]
fn the_last_services_by_name_are_left_out_of_too_many() {
    let services = |count: usize, summary: &Summary| Summaries {
        services: (0..count).map(|n| (format!("shop/s{n:05}").parse().unwrap(), Arc::new(summary.clone()))).collect(),
        ..Summaries::default()
    };
    let mut many = services(MAX_SERVICE_PORTS + 3, &summary(80, 1));
    assert!(!many.fits());
    assert_eq!(many.fit(), 3);
    assert!(many.fits() && many.services.keys().next_back().unwrap().name() == "s09999");

    let mut heavy = summary(80, 1);
    heavy.annotations.insert("k".into(), "v".repeat(8000).into());
    let mut many = services(1000, &heavy);
    assert!(many.fit() > 0 && many.fits() && many.services.len() > 400, "{}", many.services.len());
}

proptest! {
    #[test]
    fn it_weighs_more_than_it_takes(services in any_summaries()) {
        let weight = services.weight();
        let bytes = Message::Snapshot { version: u64::MAX, services }.encode().len();
        prop_assert!(bytes <= weight + 64, "{} bytes, weight {}", bytes, weight);
    }
}

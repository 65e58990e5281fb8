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

fn all(services: impl IntoIterator<Item = (String, Summary)>) -> Summaries {
    let services = services.into_iter().map(|(name, summary)| (name.parse().unwrap(), Arc::new(summary)));
    Summaries { services: services.collect(), ..Summaries::default() }
}

fn so_many(count: usize, summary: &Summary) -> Summaries {
    all((0..count).map(|n| (format!("shop/s{n:05}"), summary.clone())))
}

fn names(of: &BTreeSet<ServiceName>) -> Vec<&str> {
    of.iter().map(ServiceName::name).collect()
}

#[test]
fn what_there_is_no_room_for_is_left_out_and_named() {
    let none = Services::new();
    let mut many = so_many(MAX_SERVICE_PORTS + 3, &summary(80, 1));
    assert!(!many.fits());
    assert_eq!(names(&many.fit(&none)), ["s10000", "s10001", "s10002"]);
    assert!(many.fits() && many.services.keys().next_back().unwrap().name() == "s09999");

    let mut heavy = summary(80, 1);
    heavy.annotations.insert("k".into(), "v".repeat(8000).into());
    let mut many = so_many(1000, &heavy);
    assert!(!many.fit(&none).is_empty() && many.fits() && many.services.len() > 400, "{}", many.services.len());
}

#[test]
fn one_that_does_not_fit_takes_no_other_with_it() {
    let port = |number| (Port { number, protocol: Protocol::Tcp }, PortSummary::default());
    // The youngest of them.
    let wide = Summary { since: u64::MAX, ports: (1..=256).map(port).collect(), ..Summary::default() };
    // Room for all but a few ports is taken before the wide one's turn.
    let small = so_many(MAX_SERVICE_PORTS - 10, &summary(80, 1)).services.into_iter();
    let mut services = Summaries { services: small.collect(), ..Summaries::default() };
    services.services.extend(all([("shop/t-wide".into(), wide), ("shop/u".into(), summary(80, 1))]).services);
    assert_eq!(names(&services.fit(&Services::new())), ["t-wide"]);
    assert!(services.fits());
}

#[test]
fn those_that_were_told_before_stay() {
    let told = so_many(MAX_SERVICE_PORTS, &summary(80, 1)).services;
    let mut newest = Summaries { services: told.clone(), ..Summaries::default() };
    newest.services.extend(all([("shop/a".into(), summary(80, 1))]).services);
    assert_eq!(names(&newest.fit(&told)), ["a"], "though it is the first by name");
    assert_eq!(newest.services, told);
    // One goes: there is room.
    newest.services.extend(all([("shop/a".into(), summary(80, 1))]).services);
    newest.services.pop_last();
    assert!(newest.fit(&told).is_empty());
}

#[test]
fn one_that_grows_takes_no_room_of_others_that_were_told_before() {
    let told = so_many(MAX_SERVICE_PORTS, &summary(80, 1)).services;
    let mut newest = Summaries { services: told.clone(), ..Summaries::default() };
    let port = |number| (Port { number, protocol: Protocol::Tcp }, PortSummary::default());
    let wide = Summary { ports: (1..=256).map(port).collect(), ..Summary::default() };
    newest.services.extend(all([("shop/s00000".into(), wide)]).services);
    assert_eq!(names(&newest.fit(&told)), ["s00000"]);
}

proptest! {
    #[test]
    fn it_weighs_more_than_it_takes(services in any_summaries()) {
        let weight = services.weight();
        let bytes = Message::Snapshot { version: u64::MAX, services }.encode().len();
        prop_assert!(bytes <= weight + 64, "{} bytes, weight {}", bytes, weight);
    }

    /// Whatever it was before: it fits, nothing is left out for which there is room, and the same again changes nothing.
    #[test]
    fn what_is_told_fits_and_stays(
        ports in prop::collection::vec(1u16..=256, 0..80),
        before in prop::collection::btree_set(0usize..80, 0..80),
    ) {
        let port = |number| (Port { number, protocol: Protocol::Tcp }, PortSummary::default());
        let wide = |count: u16| Summary { ports: (1..=count).map(port).collect(), ..Summary::default() };
        let whole = all(ports.iter().enumerate().map(|(n, &count)| (format!("shop/s{n:05}"), wide(count))));
        let before: Services = before.iter().map(|n| (format!("shop/s{n:05}").parse().unwrap(), Arc::default())).collect();
        let mut told = whole.clone();
        let beyond = told.fit(&before);
        prop_assert!(told.fits());
        prop_assert_eq!(told.services.len() + beyond.len(), whole.services.len());
        for name in &beyond {
            let mut one_more = told.clone();
            one_more.services.insert(name.clone(), whole.services[name].clone());
            prop_assert!(!one_more.fits(), "{} fits", name);
        }
        let mut again = whole.clone();
        prop_assert_eq!(again.fit(&told.services), beyond);
        prop_assert_eq!(again, told);
    }
}

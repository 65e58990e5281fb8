#![allow(clippy::needless_pass_by_value, reason = "values are written where they are used")]

use super::*;
use serde_json::{Value, json};

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn slice(version: u32, labels: Value) -> EndpointSlice {
    object(json!({
        "metadata": {"namespace": "shop", "name": "s", "resourceVersion": version.to_string(), "labels": labels},
        "addressType": "IPv4", "endpoints": [],
    }))
}

#[test]
fn an_object_concerns_the_service_that_it_belongs_to() {
    let mut index = Index::default();
    let own = json!({"kubernetes.io/service-name": "api"});
    let key = |name| Effect::Service(ObjectKey::new("shop", name));
    let endpoints = Effect::Endpoints(ObjectKey::new("shop", "api"));
    assert_eq!(index.take(Change::Slices(Event::Apply(slice(1, own.clone())))), endpoints);
    assert_eq!(index.take(Change::Slices(Event::Apply(slice(1, own.clone())))), Effect::None);
    let derived = json!({"kubernetes.io/service-name": "derived-1", "multicluster.kubernetes.io/service-name": "db"});
    assert_eq!(index.take(Change::Slices(Event::Apply(slice(2, derived.clone())))), Effect::All, "it concerns both");
    let of_db = Effect::Derived(ObjectKey::new("shop", "db"));
    assert_eq!(index.take(Change::Slices(Event::Apply(slice(3, derived.clone())))), of_db);
    assert_eq!(index.take(Change::Slices(Event::Delete(slice(3, derived)))), of_db);
    let export = json!({"metadata": {"namespace": "shop", "name": "api", "resourceVersion": "1"}, "spec": {}});
    assert_eq!(index.take(Change::Exports(Event::Apply(object(export)))), key("api"));
}

#[test]
fn a_status_is_no_news_to_other_services() {
    let mut index = Index::default();
    let import = |version: &str, affinity: &str, clusters: Value| {
        let meta = json!({"namespace": "shop", "name": "api", "resourceVersion": version, "managedFields": [{"manager": version}]});
        let spec = json!({"type": "ClusterSetIP", "ports": [], "sessionAffinity": affinity});
        Change::Imports(Event::Apply(object(json!({"metadata": meta, "spec": spec, "status": {"clusters": clusters}}))))
    };
    let key = || ObjectKey::new("shop", "api");
    assert_eq!(index.take(import("1", "None", json!([]))), Effect::Service(key()), "it is new");
    assert_eq!(index.take(import("2", "None", json!([{"cluster": "east"}]))), Effect::Derived(key()));
    assert_eq!(index.take(import("3", "ClientIP", json!([{"cluster": "east"}]))), Effect::Service(key()));
}

#[test]
fn what_we_say_of_a_link_ourselves_plans_nothing() {
    let link = |version: &str, transport: &str, mirrored: &str, rtt: u32| -> ClusterLink {
        object(json!({
            "metadata": {"name": "east", "resourceVersion": version, "managedFields": [{"manager": version}], "labels": {"a": mirrored}},
            "spec": {"transport": transport}, "status": {"rttMs": rtt},
        }))
    };
    let mut index = Index::default();
    let mut apply = |link| index.take(Change::Links(Event::Apply(link)));
    assert_eq!(apply(link("1", "tls", "1", 3)), Effect::Plan, "it is new");
    assert_eq!(apply(link("2", "tls", "1", 9)), Effect::None, "its status");
    assert_eq!(apply(link("3", "quic", "1", 9)), Effect::Plan, "its spec");
    assert_eq!(apply(link("4", "quic", "2", 9)), Effect::Plan, "its labels");
    assert_eq!(index.links().next().and_then(|link| link.status.as_ref()?.rtt_ms), Some(9));
    assert_eq!(index.take(Change::Links(Event::Delete(link("5", "quic", "2", 9)))), Effect::Plan);
}

#[test]
fn only_ready_gateways_that_stay_count() {
    let pod = |name: &str, ready: &str, deleted: Option<&str>| -> Pod {
        object(json!({
            "metadata": {"namespace": "isthmus-system", "name": name, "deletionTimestamp": deleted},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}, {"ip": "fd00::1"}],
            },
        }))
    };
    let mut index = Index::default();
    index.take(Change::Gateways(Event::Apply(pod("a", "False", None))));
    index.take(Change::Gateways(Event::Apply(pod("b", "True", Some("2026-11-21T00:00:00Z")))));
    assert!(index.world().gateways.is_empty());
    assert_eq!(index.take(Change::Gateways(Event::Apply(pod("c", "True", None)))), Effect::Plan);
    let [gateway] = &index.world().gateways[..] else { panic!("{:?}", index.world().gateways) };
    assert_eq!((gateway.name.as_str(), gateway.node.as_deref()), ("c", Some("n1")));
    assert_eq!(gateway.addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
}

#[test]
fn a_node_matters_by_its_zone() {
    let node = |version: &str, zone: &str| {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        let node = json!({"metadata": {"name": "n1", "resourceVersion": version, "labels": labels}});
        Change::Nodes(Event::Apply(object(node)))
    };
    let mut index = Index::default();
    assert_eq!(index.take(node("1", "a")), Effect::Plan);
    assert_eq!(index.take(node("2", "a")), Effect::None, "its heartbeat");
    assert_eq!(index.take(node("3", "b")), Effect::Plan);
    assert_eq!(index.world().zones[&Arc::from("n1")], Arc::from("b"));
}

#[test]
fn nothing_is_whole_before_all_that_is_needed_has_been_listed() {
    let mut index = Index::default();
    macro_rules! list {
        ($($kind:ident),*) => {$(
            assert!(!index.is_whole(), "before {}", stringify!($kind));
            index.take(Change::$kind(Event::Init));
            assert!(!index.is_complete(Watched::$kind));
            assert_ne!(index.take(Change::$kind(Event::InitDone)), Effect::None);
            assert!(index.is_complete(Watched::$kind));
        )*};
    }
    list!(Services, Slices, Exports, Imports, Namespaces, Gateways, Links);
    assert!(index.is_whole());
}

#[test]
fn a_namespace_that_is_going_is_none() {
    let namespace = |deleted: Option<&str>| {
        let meta = json!({"name": "shop", "resourceVersion": if deleted.is_some() { "2" } else { "1" }, "deletionTimestamp": deleted});
        Change::Namespaces(Event::Apply(object(json!({"metadata": meta}))))
    };
    let mut index = Index::default();
    assert_eq!(index.take(namespace(None)), Effect::Plan);
    assert!(index.world().namespaces.contains("shop"));
    assert_eq!(index.take(namespace(Some("2026-11-21T00:00:00Z"))), Effect::Plan);
    assert!(index.world().namespaces.is_empty());
}

#[test]
fn a_kind_of_another_system_is_waited_for_unless_it_is_not_there() {
    let kind = OptionalKind::Connector;
    let connector = || {
        let meta = json!({"namespace": "shop", "name": "b", "resourceVersion": "1"});
        object::<DynamicObject>(json!({"metadata": meta, "spec": {}}))
    };
    let mut index = Index::new(&[kind]);
    assert!(index.watched().any(|watched| watched == Watched::Optional(kind)));
    macro_rules! list {
        ($($kind:ident),*) => {$(
            index.take(Change::$kind(Event::Init));
            index.take(Change::$kind(Event::InitDone));
        )*};
    }
    list!(Services, Slices, Exports, Imports, Namespaces, Gateways, Links);
    assert!(!index.is_whole(), "its objects may be there");
    assert_eq!(index.take(Change::Absent(kind)), Effect::Plan);
    assert_eq!(index.take(Change::Absent(kind)), Effect::None);
    assert!(index.is_whole() && index.is_absent(Watched::Optional(kind)));
    // It is defined, and listed.
    for event in [Event::Init, Event::InitApply(connector())] {
        index.take(Change::Optional(kind, event));
    }
    assert_eq!(index.take(Change::Optional(kind, Event::InitDone)), Effect::All);
    assert!(index.is_whole() && !index.is_absent(Watched::Optional(kind)));
    assert_eq!(index.world().optional(kind).count(), 1);
    // What was known stays, whatever the API server says later.
    assert_eq!(index.take(Change::Absent(kind)), Effect::None);
    assert!(!index.is_absent(Watched::Optional(kind)));
    assert_eq!(index.world().optional(kind).count(), 1);
    assert_eq!(index.take(Change::Optional(kind, Event::Delete(connector()))), Effect::Plan);
    assert_eq!(index.world().optional(kind).count(), 0);
}

#[test]
fn what_a_namespace_says_matters_and_nothing_else_of_it() {
    let namespace = |version: &str, annotations: Value| {
        let meta = json!({"name": "shop", "resourceVersion": version, "annotations": annotations});
        Change::Namespaces(Event::Apply(object(json!({"metadata": meta}))))
    };
    let mut index = Index::default();
    index.take(namespace("1", json!({})));
    assert_eq!(index.take(namespace("2", json!({"team": "a"}))), Effect::None);
    assert_eq!(index.take(namespace("3", json!({"isthmus.io/export": "true"}))), Effect::Plan);
    assert_eq!(index.world().marks["shop"].annotations["isthmus.io/export"], "true");
}

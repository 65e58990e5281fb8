//! Each key as upstream documents it.

#![allow(clippy::needless_pass_by_value, reason = "values are written where they are used")]

use super::*;
use crate::optional::OptionalKind;
use kube::api::DynamicObject;
use proptest::prelude::*;
use serde_json::{Value, json};

fn meta(labels: Value, annotations: Value) -> ObjectMeta {
    serde_json::from_value(json!({"name": "api", "namespace": "shop", "labels": labels, "annotations": annotations}))
        .unwrap()
}

fn of(systems: &[System], labels: Value, annotations: Value) -> Asked {
    asked(&systems.iter().copied().collect(), &meta(labels, annotations), &Marks::default())
}

fn object(spec: Value) -> DynamicObject {
    serde_json::from_value(json!({"metadata": {"name": "x", "namespace": "shop"}, "spec": spec})).unwrap()
}

const CILIUM: &[System] = &[System::Cilium];

#[test]
fn a_global_service_of_cilium_is_shared_unless_it_says_otherwise() {
    for key in ["service.cilium.io/global", "io.cilium/global-service"] {
        let global = of(CILIUM, json!({}), json!({key: "true"}));
        assert_eq!((global.global, global.export), (Some(key), Some(key)));
        assert_eq!(of(&[], json!({}), json!({key: "true"})), Asked::default(), "it was not asked for");
    }
    for shared in ["service.cilium.io/shared", "io.cilium/shared-service"] {
        let alone = of(CILIUM, json!({}), json!({shared: "true", "service.cilium.io/affinity": "local"}));
        assert_eq!(alone, Asked::default(), "it is not global");
        let unshared = of(CILIUM, json!({}), json!({"service.cilium.io/global": "True", shared: "false"}));
        assert!(unshared.global.is_some() && unshared.export.is_none());
    }
}

#[test]
fn ciliums_new_names_win_over_their_aliases() {
    let said = json!({"service.cilium.io/global": "false", "io.cilium/global-service": "true"});
    assert_eq!(of(CILIUM, json!({}), said), Asked::default());
    let said = json!({
        "io.cilium/global-service": "true",
        "service.cilium.io/affinity": "remote", "io.cilium/service-affinity": "local",
        "service.cilium.io/shared": "true", "io.cilium/shared-service": "false",
    });
    let asked = of(CILIUM, json!({}), said);
    assert_eq!((asked.affinity, asked.export), (Some(Affinity::Remote), Some("io.cilium/global-service")));
    for (word, affinity) in [("local", Some(Affinity::Local)), ("None", Some(Affinity::None)), ("near", None)] {
        let asked =
            of(CILIUM, json!({}), json!({"service.cilium.io/global": "true", "service.cilium.io/affinity": word}));
        assert_eq!(asked.affinity, affinity, "{word}");
        assert_eq!(asked.notes.len(), usize::from(affinity.is_none()), "{word}");
    }
}

#[test]
fn a_namespace_can_keep_ciliums_global_services_in_and_make_them() {
    let systems = Systems::from([System::Cilium]);
    let namespace = |labels: Value, annotations: Value| Marks::of(&meta(labels, annotations));
    let global = meta(json!({}), json!({"service.cilium.io/global": "true"}));
    let local = namespace(json!({}), json!({"clustermesh.cilium.io/global": "false", "unread/key": "1"}));
    assert_eq!(local.annotations.len(), 1);
    let kept = asked(&systems, &global, &local);
    assert!(kept.global.is_none() && kept.export.is_none());
    assert_eq!(kept.notes, ["service.cilium.io/global: its Namespace is not global, by clustermesh.cilium.io/global"]);
    let open = namespace(json!({}), json!({"clustermesh.cilium.io/global": "true"}));
    assert!(asked(&systems, &global, &open).export.is_some());
    let silent = meta(json!({}), json!({}));
    assert_eq!(asked(&systems, &silent, &open), Asked::default());
    for all in [
        namespace(json!({"io.cilium/global-service": "true"}), json!({})),
        namespace(json!({}), json!({"io.cilium/global-service": "true"})),
    ] {
        assert_eq!(asked(&systems, &silent, &all).export, Some("io.cilium/global-service"));
        let not = meta(json!({}), json!({"service.cilium.io/global": "false"}));
        assert_eq!(asked(&systems, &not, &all), Asked::default());
    }
}

#[test]
fn linkerds_labels_make_mirrors_and_federations() {
    let linkerd = |labels| of(&[System::Linkerd], labels, json!({}));
    for word in ["true", "remote-discovery"] {
        let mirror = linkerd(json!({linkerd::EXPORTED: word}));
        assert!(mirror.mirror && !mirror.federated && mirror.export == Some(linkerd::EXPORTED), "{word}");
    }
    let both = linkerd(json!({linkerd::EXPORTED: "true", linkerd::FEDERATED: "member"}));
    assert!(both.mirror && both.federated);
    assert_eq!(linkerd(json!({linkerd::EXPORTED: "false"})), Asked::default());
    let wrong = linkerd(json!({linkerd::FEDERATED: "yes"}));
    assert_eq!(wrong.notes, ["mirror.linkerd.io/federated: found \"yes\", expected member"]);
    assert!(!wrong.federated && wrong.export.is_none());
}

#[test]
fn istios_label_makes_a_service_global() {
    let network = json!({"istio.io/global": "true", "topology.istio.io/network": "west-net"});
    let asked = of(&[System::Istio], network, json!({}));
    assert_eq!((asked.global, asked.export, asked.notes.len()), (Some("istio.io/global"), Some("istio.io/global"), 0));
}

#[test]
fn submariners_annotation_is_said_where_it_is_not_so() {
    let notes =
        |word: &str| submariner::notes(&meta(json!({}), json!({"lighthouse.submariner.io/use-clusterset-ip": word})));
    assert_eq!(notes("true"), None);
    assert!(notes("false").unwrap().contains("always has an address"));
    assert!(notes("maybe").unwrap().ends_with("expected true or false"));
}

fn rule(policy: Value) -> istio::Rule {
    let spec = json!({"host": "api.shop.svc.cluster.local", "trafficPolicy": policy});
    let (service, rule) = istio::rule(&object(spec)).unwrap();
    assert_eq!(service, ("shop".into(), "api".into()));
    rule
}

fn distribute(to: Value) -> istio::Rule {
    rule(
        json!({"loadBalancer": {"localityLbSetting": {"enabled": true, "distribute": [{"from": "us-west/*", "to": to}]}}}),
    )
}

fn name(text: &str) -> isthmus_control_api::ClusterName {
    text.parse().unwrap()
}

#[test]
fn a_distribution_is_shares_of_clusters() {
    let (west, east, north) = (name("west"), name("east"), name("north"));
    let zones = istio::Zones::from([
        (&west, ["us-west1-a".into()].into()),
        (&east, ["us-east1-b".into(), "us-east1-c".into()].into()),
        (&north, ["eu-north1-a".into()].into()),
    ]);
    let (weights, notes) =
        distribute(json!({"us-west/*": 80, "us-east1/us-east1-b/*": 15, "mars": 5})).weights(&west, &zones);
    let weights = weights.unwrap();
    assert_eq!((weights.local, &weights.clusters), (80 * 120, &[(east.clone(), 15 * 120)].into()));
    assert_eq!(notes, ["distribute: no cluster has endpoints in \"mars\""]);
    // By the clusters' ids, and one locality that is two clusters.
    let (weights, _) = distribute(json!({"west": 50, "us-": 50})).weights(&west, &zones);
    let weights = weights.unwrap();
    assert_eq!((weights.local, weights.clusters[&east]), (75 * 120, 25 * 120));
    // It is not for clients from here.
    let (weights, notes) = distribute(json!({"east": 100})).weights(&north, &zones);
    assert_eq!((weights, notes.len()), (None, 1));
}

#[test]
fn failover_prefers_the_own_cluster() {
    let locality = |of: Value| rule(json!({"loadBalancer": {"localityLbSetting": of}}));
    let failover = locality(json!({"failover": [{"from": "us-west", "to": "us-east"}]}));
    assert_eq!((failover.affinity, failover.notes.len()), (Some(Affinity::Local), 1));
    let priority = locality(json!({"failoverPriority": ["topology.istio.io/cluster"]}));
    assert_eq!((priority.affinity, priority.notes.len()), (Some(Affinity::Local), 0));
    assert_eq!(locality(json!({"enabled": false, "failover": []})).affinity, None);
    assert_eq!(rule(json!({"outlierDetection": {}})).affinity, Some(Affinity::Local));
}

#[test]
fn what_a_rule_asks_for_in_vain_is_named_field_by_field() {
    let policy = json!({
        "connectionPool": {"tcp": {"maxConnections": 100, "connectTimeout": "30ms"}, "http": {}},
        "outlierDetection": {"consecutive5xxErrors": 7},
        "loadBalancer": {"simple": "ROUND_ROBIN"}, "tls": {"mode": "ISTIO_MUTUAL"},
    });
    let notes = rule(policy).notes;
    for (field, why) in [
        ("spec.trafficPolicy.connectionPool.tcp.maxConnections", ""),
        ("spec.trafficPolicy.connectionPool.tcp.connectTimeout", "limits.connectTimeout"),
        ("spec.trafficPolicy.connectionPool.http", ""),
        ("spec.trafficPolicy.loadBalancer.simple", ""),
        ("spec.trafficPolicy.outlierDetection", "rules of their own"),
        ("spec.trafficPolicy.tls", ""),
    ] {
        assert!(notes.iter().any(|note| note.starts_with(field) && note.contains(why)), "{field}: {notes:?}");
    }
    assert_eq!(notes.len(), 6);
}

#[test]
fn a_listener_and_a_connector_are_what_their_specs_say() {
    let listener =
        skupper::listener(&object(json!({"routingKey": "backend", "host": "backend", "port": 8080}))).unwrap();
    assert_eq!((listener.routing_key.as_str(), listener.host.as_str(), listener.port), ("backend", "backend", 8080));
    assert!(listener.notes.is_empty());
    let spec = json!({
        "routingKey": "b", "host": "b", "port": 1, "type": "udp", "tlsCredentials": "t",
        "exposePodsByName": true, "settings": {"observer": "none"},
    });
    assert_eq!(skupper::listener(&object(spec)).unwrap().notes.len(), 4);
    let pods =
        skupper::connector(&object(json!({"routingKey": "b", "selector": "app=backend, tier==web", "port": 8080})));
    let labels = [("app".into(), "backend".into()), ("tier".into(), "web".into())].into();
    assert_eq!(pods.unwrap().target, skupper::Target::Pods(labels));
    let host = skupper::connector(&object(json!({"routingKey": "b", "host": "db.example", "port": 5432}))).unwrap();
    assert_eq!(host.target, skupper::Target::Host("db.example".into()));
}

#[test]
fn a_listener_or_connector_that_is_wrong_says_field_found_and_expected() {
    let listener = |spec| skupper::listener(&object(spec)).unwrap_err();
    assert_eq!(
        listener(json!({"routingKey": "b", "host": "b", "port": 0})),
        "spec.port: found 0, expected a port number, 1 to 65535"
    );
    assert!(listener(json!({"routingKey": "b", "host": "a.b", "port": 1})).starts_with("spec.host: found \"a.b\""));
    assert!(listener(json!({"host": "b", "port": 1})).starts_with("spec.routingKey"));
    let connector = |spec| skupper::connector(&object(spec)).unwrap_err();
    for (selector, host) in
        [(json!("app in (a)"), Value::Null), (json!("app!=a"), Value::Null), (json!(""), Value::Null)]
    {
        let spec = json!({"routingKey": "b", "selector": selector, "host": host, "port": 1});
        assert!(connector(spec).starts_with("spec.selector"), "{selector}");
    }
    assert!(connector(json!({"routingKey": "b", "port": 1})).starts_with("spec: found neither"));
}

#[test]
fn every_kind_has_its_resource() {
    for kind in OptionalKind::of(&System::ALL.into(), true) {
        let resource = kind.resource();
        assert_eq!(kind.name(), format!("{}.{}", resource.plural, resource.group));
    }
    let ours = [OptionalKind::ServicePolicy, OptionalKind::AccessPolicy];
    assert_eq!(OptionalKind::of(&Systems::from([System::Cilium]), false), ours);
    assert_eq!(OptionalKind::of(&System::ALL.into(), true).len(), 7);
}

proptest! {
    /// Whatever stands where Listeners, Connectors and rules are looked for.
    #[test]
    fn nothing_that_users_write_is_a_panic(text in ".{0,20}", number in any::<i64>(), flag in any::<bool>()) {
        let spec = json!({
            "routingKey": text, "host": text, "port": number, "selector": text, "type": text, "settings": {text.clone(): flag},
            "trafficPolicy": {"loadBalancer": {"localityLbSetting": {"distribute": [{"from": text, "to": {text.clone(): number}}]}}},
        });
        let _ = (skupper::listener(&object(spec.clone())), skupper::connector(&object(spec.clone())));
        if let Some((_, rule)) = istio::rule(&object(spec)) {
            let (west, east) = (name("west"), name("east"));
            let zones = istio::Zones::from([(&west, BTreeSet::new()), (&east, BTreeSet::new())]);
            let _ = rule.weights(&west, &zones);
        }
        let annotations = json!({"service.cilium.io/global": "true", "service.cilium.io/affinity": text});
        let asked = of(CILIUM, json!({}), annotations);
        prop_assert!(asked.export.is_some());
    }
}

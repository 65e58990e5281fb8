//! What Namespaces ask for, and manifests of other systems.

#![allow(clippy::needless_pass_by_value, reason = "values are written where they are used")]

use super::*;
use crate::{
    compat::{Marks, Systems},
    optional::OptionalKind,
};
use isthmus_control::System;
use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn texts(of: Pairs<'_>) -> BTreeMap<String, String> {
    of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn marked(name: &str, labels: Pairs<'_>, annotations: Pairs<'_>) -> Service {
    let mut service = service(name, &[("http", 80, "TCP")]);
    (service.metadata.labels, service.metadata.annotations) = (Some(texts(labels)), Some(texts(annotations)));
    service
}

/// West has a Service so marked with an endpoint; east exports it, too.
fn west(systems: &[System], labels: Pairs<'_>, annotations: Pairs<'_>) -> Cluster {
    let mut west = Cluster::new("west");
    west.settings.compat = systems.iter().copied().collect::<Systems>();
    let service = marked("shop/api", labels, annotations);
    west.world.slices.insert(Arc::new(slice(&service, &[("10.2.0.1", "")])));
    west.world.services.insert(Arc::new(service));
    west.link("east", view(&[("shop/api", summary(200, "http", 80, 3))]));
    west.settle();
    west
}

fn namespace(west: &mut Cluster, annotations: Pairs<'_>) {
    let marks = Marks { annotations: texts(annotations), ..Marks::default() };
    west.world.marks.insert("shop".into(), marks);
    west.settle();
}

fn is_exported(west: &Cluster, name: &str) -> bool {
    west.plan.services.get(&key(name)).is_some_and(|plan| plan.summary.is_some())
}

/// Slices of ours that hang on a Service.
fn slices_of(west: &Cluster, service: &str) -> Vec<String> {
    let service = key(service);
    let of = west.world.slices.of_service(&service).filter(|(_, slice)| is_ours(&***slice));
    let of = of.filter(|(_, slice)| slice.group().as_ref() == Some(&service));
    of.map(|(key, _)| key.name.to_string()).collect()
}

fn said(west: &Cluster) -> Vec<String> {
    west.service_plan("shop/api").problems.iter().map(ToString::to_string).collect()
}

fn foreign(west: &mut Cluster, kind: OptionalKind, name: &str, spec: Value) {
    let (namespace, name) = name.split_once('/').unwrap();
    let object: DynamicObject =
        serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name, "uid": "u"}, "spec": spec}))
            .unwrap();
    west.world.optional.entry(kind).or_default().insert(ObjectKey::of(&object), Arc::new(object));
    west.settle();
}

#[test]
fn a_namespace_exports_its_services_but_for_those_that_say_otherwise() {
    let mut west = west(&[], &[], &[]);
    west.world.services.insert(Arc::new(marked("shop/not", &[], &[(EXPORT, "false")])));
    west.world.services.insert(Arc::new(marked("ops/other", &[], &[])));
    let mut external = marked("shop/external", &[], &[]);
    external.spec.as_mut().unwrap().type_ = Some("ExternalName".into());
    west.world.services.insert(Arc::new(external));
    assert!(!is_exported(&west, "shop/api"));
    namespace(&mut west, &[(EXPORT, "true")]);
    assert!(is_exported(&west, "shop/api"));
    for other in ["shop/not", "ops/other", "shop/external"] {
        assert!(!is_exported(&west, other), "{other}");
    }
    namespace(&mut west, &[(EXPORT, "false")]);
    assert!(!is_exported(&west, "shop/api"));
    namespace(&mut west, &[(EXPORT, "yes")]);
    assert_eq!(said(&west), ["not heeded: isthmus.io/export: found \"yes\", expected true or false"]);
}

#[test]
fn the_api_servers_own_service_is_exported_with_no_namespace() {
    let mut west = Cluster::new("west");
    west.world.namespaces.insert("default".into());
    west.world.services.insert(Arc::new(marked("default/kubernetes", &[], &[])));
    west.world.services.insert(Arc::new(marked("default/web", &[], &[])));
    let marks = Marks { annotations: texts(&[(EXPORT, "true")]), ..Marks::default() };
    west.world.marks.insert("default".into(), marks);
    west.settle();
    assert!(is_exported(&west, "default/web") && !is_exported(&west, "default/kubernetes"));
}

#[test]
fn a_word_that_makes_no_sense_is_said() {
    let west = west(&[], &[], &[(EXPORT, "yes")]);
    assert!(!is_exported(&west, "shop/api"));
    assert_eq!(said(&west), ["not heeded: isthmus.io/export: found \"yes\", expected true or false"]);
}

#[test]
fn a_global_service_of_cilium_is_used_and_shared() {
    let global = ("service.cilium.io/global", "true");
    let shared = west(&[System::Cilium], &[], &[global]);
    assert!(is_exported(&shared, "shop/api"));
    assert_eq!(slices_of(&shared, "shop/api").len(), 1);
    let kept = west(&[System::Cilium], &[], &[global, ("service.cilium.io/shared", "false")]);
    assert!(!is_exported(&kept, "shop/api"));
    assert_eq!(slices_of(&kept, "shop/api").len(), 1);
    let unasked = west(&[], &[], &[global]);
    assert!(!is_exported(&unasked, "shop/api") && slices_of(&unasked, "shop/api").is_empty());
    let ours = west(&[System::Cilium], &[], &[global, (EXPORT, "false")]);
    assert!(!is_exported(&ours, "shop/api"), "our own word counts");
}

#[test]
fn a_service_that_is_not_shared_serves_here_first_where_local_is_preferred() {
    let marks = [
        ("service.cilium.io/global", "true"),
        ("service.cilium.io/shared", "false"),
        ("service.cilium.io/affinity", "local"),
    ];
    let mut west = west(&[System::Cilium], &[], &marks);
    assert!(slices_of(&west, "shop/api").is_empty());
    west.world.slices.insert(Arc::new(slice(&marked("shop/api", &[], &marks), &[])));
    west.settle();
    assert_eq!(slices_of(&west, "shop/api").len(), 1);
}

#[test]
fn linkerds_label_is_a_mirror_in_the_other_cluster() {
    let east = west(&[System::Linkerd], &[("mirror.linkerd.io/exported", "true")], &[]);
    let told = east.service_plan("shop/api").summary.clone().unwrap();
    let mut west = Cluster::new("west");
    west.link("east", view(&[("shop/api", (*told).clone())]));
    west.settle();
    assert!(west.world.services.get(&key("shop/api-east")).is_none(), "nobody asked for it here");
    assert!(
        west.import("shop/api").unwrap().metadata.annotations.as_ref().unwrap().len() == 1,
        "it is no user's annotation"
    );
    west.settings.compat.insert(System::Linkerd);
    west.settle();
    assert_eq!(slices_of(&west, "shop/api-east").len(), 2);
    assert!(west.world.services.get(&key("shop/api-federated")).is_none());
    // A restart of ours: what peers said before stays.
    west.link("east", PeerView::default());
    west.settle();
    assert_eq!(slices_of(&west, "shop/api-east").len(), 2);
    west.link("east", view(&[("shop/api", summary(200, "http", 80, 3))]));
    west.settle();
    assert!(west.world.services.get(&key("shop/api-east")).is_none(), "it is mirrored no more");
}

#[test]
fn linkerds_federation_is_the_union_of_its_members() {
    let member = [("mirror.linkerd.io/federated", "member")];
    let mut west = west(&[System::Linkerd], &member, &[]);
    let weights = |west: &Cluster| {
        let federated = west.world.services.get(&key("shop/api-federated")).unwrap();
        let (_, target) = ports::targets(federated).next().unwrap();
        west.service_plan("shop/api").imports[&target].weights.clone()
    };
    let only_west = weights(&west).unwrap();
    assert_eq!((only_west.local, only_west.clusters.len(), only_west.others), (1, 0, false));
    let mut told = summary(200, "http", 80, 3);
    told.annotations.insert("isthmus.io/federated".into(), "true".into());
    west.link("east", view(&[("shop/api", told)]));
    west.settle();
    assert_eq!(weights(&west), None, "all alike, as all are members");
    assert_eq!(slices_of(&west, "shop/api-federated").len(), 4, "two clusters, two families");
    assert_eq!(west.service_plan("shop/api").export_status, None);
}

#[test]
fn a_mark_for_peers_is_no_conflict() {
    let mut west = Cluster::new("west");
    west.settings.compat.insert(System::Linkerd);
    let service = marked("shop/api", &[("mirror.linkerd.io/exported", "true")], &[]);
    west.exports(service, &[("10.2.0.1", "")], 100);
    west.link("east", view(&[("shop/api", summary(200, "http", 80, 3))]));
    west.settle();
    let status = west.service_plan("shop/api").export_status.clone().unwrap();
    assert_eq!(condition(&status.conditions, "Conflict").status, "False");
}

#[test]
fn submariners_annotation_is_in_the_exports_condition() {
    let mut west = west(&[System::Submariner], &[], &[]);
    let mut export = export("shop/api", 100);
    export.metadata.annotations = Some(texts(&[("lighthouse.submariner.io/use-clusterset-ip", "false")]));
    west.world.exports.insert(Arc::new(export));
    west.settle();
    let status = west.service_plan("shop/api").export_status.clone().unwrap();
    assert!(condition(&status.conditions, "Ready").message.contains("lighthouse.submariner.io/use-clusterset-ip"));
}

#[test]
fn gkes_serviceexport_exports() {
    let mut west = west(&[System::Gke], &[], &[]);
    foreign(&mut west, OptionalKind::GkeExport, "shop/api", Value::Null);
    assert!(is_exported(&west, "shop/api"));
    foreign(&mut west, OptionalKind::GkeExport, "shop/none", Value::Null);
    let problems = &west.service_plan("shop/none").problems;
    assert_eq!(problems[0].to_string(), "not heeded: ServiceExport.net.gke.io: there is no Service shop/none");
}

#[test]
fn istios_rule_shifts_shares_and_says_what_is_left_out() {
    let mut west = west(&[System::Istio], &[("istio.io/global", "true")], &[]);
    assert!(is_exported(&west, "shop/api"));
    let policy = json!({
        "connectionPool": {"tcp": {"maxConnections": 5}},
        "loadBalancer": {"localityLbSetting": {"distribute": [{"from": "west", "to": {"west": 80, "east": 20}}]}},
    });
    let spec = json!({"host": "api", "trafficPolicy": policy});
    foreign(&mut west, OptionalKind::DestinationRule, "shop/api-rule", spec);
    let weights = |west: &Cluster| west.service_plan("shop/api").imports.values().next().unwrap().weights.clone();
    let shares = weights(&west).unwrap();
    assert_eq!((shares.local, shares.clusters[&"east".parse().unwrap()]), (80 * 120, 20 * 120));
    let field = "DestinationRule shop/api-rule: spec.trafficPolicy.connectionPool.tcp.maxConnections: not carried over";
    assert!(said(&west).iter().any(|said| said.ends_with(field)), "{:?}", said(&west));
    // Our own annotation counts instead.
    let marks = [("isthmus.io/affinity", "local")];
    west.world.services.insert(Arc::new(marked("shop/api", &[("istio.io/global", "true")], &marks)));
    west.settle();
    assert_eq!(weights(&west), None);
}

//! Skupper's Listeners and Connectors, and names for ExternalDNS.

#![allow(clippy::needless_pass_by_value, reason = "values are written where they are used")]

use super::*;
use crate::{compat::skupper::NAMESPACE, mcs::PublicAddresses, optional::OptionalKind};
use isthmus_control::System;
use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use serde_json::{Value, json};

fn put(cluster: &mut Cluster, kind: OptionalKind, name: &str, spec: Value) {
    let (namespace, name) = name.split_once('/').unwrap();
    let object =
        json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("uid-of-{name}")}, "spec": spec});
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    cluster.world.optional.entry(kind).or_default().insert(ObjectKey::of(&object), Arc::new(object));
}

/// A cluster where Skupper's manifests are taken.
fn skupper(id: &str) -> Cluster {
    let mut cluster = Cluster::new(id);
    cluster.settings.compat.insert(System::Skupper);
    cluster
}

fn backend() -> String {
    format!("{NAMESPACE}/backend")
}

/// West has a Listener for the key, and east says that it serves it.
fn west() -> Cluster {
    let mut west = skupper("west");
    put(
        &mut west,
        OptionalKind::Listener,
        "shop/l",
        json!({"routingKey": "backend", "host": "east-backend", "port": 8080}),
    );
    west.link("east", view(&[(&backend(), key_summary(2))]));
    west.settle();
    west
}

fn key_summary(ready: u32) -> Summary {
    let mut of = summary(100, "x", 1, ready);
    of.ports.values_mut().for_each(|port| port.name = None);
    of
}

fn said(cluster: &Cluster, name: &str) -> Vec<String> {
    cluster.service_plan(name).problems.iter().map(ToString::to_string).collect()
}

/// Slices that hang on a Service.
fn slices(cluster: &Cluster, service: &str) -> usize {
    cluster.world.slices.of_service(&key(service)).count()
}

#[test]
fn a_connectors_pods_are_found_by_a_service_and_exported() {
    let mut east = skupper("east");
    put(
        &mut east,
        OptionalKind::Connector,
        "shop/b",
        json!({"routingKey": "backend", "selector": "app=backend", "port": 8080}),
    );
    east.settle();
    let service = (**east.world.services.get(&key("shop/connector-b")).unwrap()).clone();
    let spec = service.spec.as_ref().unwrap();
    assert_eq!(spec.selector.as_ref().unwrap()["app"], "backend");
    assert!(service.metadata.labels.is_none(), "its slices would have them, too");
    assert_eq!(service.metadata.owner_references.as_ref().unwrap()[0].kind, "Connector");
    assert_eq!(east.service_plan(&backend()).summary.as_ref().unwrap().most_ready(), 0);
    east.world.slices.insert(Arc::new(slice(&service, &[("10.2.0.1", ""), ("10.2.0.2", "")])));
    east.settle();
    let plan = east.service_plan(&backend());
    assert_eq!(plan.summary.as_ref().unwrap().most_ready(), 2);
    let export = plan.exports.values().next().unwrap();
    assert!(export.endpoints.iter().all(|endpoint| endpoint.address.port() == 8080));
    assert!(east.world.imports.is_empty(), "a routing key is no service of any namespace");
}

#[test]
fn a_connector_can_name_an_address_or_a_service() {
    let mut east = skupper("east");
    let api = service("shop/api", &[("http", 80, "TCP")]);
    east.world.slices.insert(Arc::new(slice(&api, &[("10.2.0.1", "")])));
    east.world.services.insert(Arc::new(api));
    for (name, host, port) in
        [("a", "192.0.2.7", 5432), ("b", "api.shop.svc.cluster.local", 80), ("c", "db.example.com", 1)]
    {
        put(
            &mut east,
            OptionalKind::Connector,
            &format!("shop/{name}"),
            json!({"routingKey": "backend", "host": host, "port": port}),
        );
    }
    east.settle();
    for (n, host) in
        ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0", "api.ops", "10.2.0.9", "10.96.0.9"]
            .iter()
            .enumerate()
    {
        let spec = json!({"routingKey": "never", "host": host, "port": 80});
        put(&mut east, OptionalKind::Connector, &format!("shop/never-{n}"), spec);
    }
    // Nor what another namespace has, by its address.
    let mut other = service("ops/api", &[("http", 80, "TCP")]);
    other.spec.as_mut().unwrap().cluster_ip = Some("10.96.0.9".into());
    east.world.slices.insert(Arc::new(slice(&other, &[("10.2.0.9", "")])));
    east.world.services.insert(Arc::new(other));
    east.settle();
    let exports = &east.service_plan(&backend()).exports;
    assert_eq!(exports.values().next().unwrap().endpoints.len(), 2);
    let never = format!("{NAMESPACE}/never");
    assert!(east.service_plan(&never).exports.values().all(|export| export.endpoints.is_empty()));
    assert_eq!(said(&east, &never).len(), 8);
    let problems = said(&east, &backend());
    assert!(problems[0].contains("Connector shop/c: spec.host: found \"db.example.com\""), "{problems:?}");
}

#[test]
fn a_listeners_service_leads_to_whoever_serves_its_key() {
    let mut west = west();
    let service = west.world.services.get(&key("shop/east-backend")).unwrap().clone();
    let (port, target) = ports::targets(&service).next().unwrap();
    assert_eq!(port.number, 8080);
    let import = &west.service_plan("shop/east-backend").imports[&target];
    assert_eq!(import.service.to_string(), format!("{NAMESPACE}/backend:1"));
    assert_eq!(slices(&west, "shop/east-backend"), 2, "one of each family");
    west.peer("east").up = false;
    west.settle();
    assert_eq!(slices(&west, "shop/east-backend"), 0);
    // A restart of ours marks nothing dead, and a key that nobody serves leads nowhere.
    west.peer("east").up = true;
    west.settle();
    west.link("east", PeerView::default());
    west.settle();
    assert_eq!(slices(&west, "shop/east-backend"), 2);
    west.link("east", view(&[(&backend(), key_summary(0))]));
    west.settle();
    assert_eq!(slices(&west, "shop/east-backend"), 0);
    west.world.optional.get_mut(&OptionalKind::Listener).unwrap().clear();
    west.settle();
    assert!(west.world.services.get(&key("shop/east-backend")).is_none());
}

#[test]
fn a_listener_takes_no_name_and_no_port_that_another_has() {
    let mut west = west();
    put(
        &mut west,
        OptionalKind::Listener,
        "shop/m",
        json!({"routingKey": "other", "host": "east-backend", "port": 8080}),
    );
    put(&mut west, OptionalKind::Listener, "shop/n", json!({"routingKey": "backend", "host": "taken", "port": 1}));
    put(&mut west, OptionalKind::Listener, "shop/o", json!({"routingKey": "backend", "host": "a.b", "port": 1}));
    let taken = service("shop/taken", &[("", 1, "TCP")]);
    west.world.services.insert(Arc::new(taken.clone()));
    west.settle();
    assert_eq!(**west.world.services.get(&key("shop/taken")).unwrap(), taken);
    assert!(said(&west, "shop/taken")[0].contains("not ours"));
    assert!(said(&west, "shop/east-backend")[0].contains("Listener shop/m: spec.port: found 8080"));
    assert!(said(&west, "shop/o")[0].contains("spec.host"));
}

#[test]
fn nothing_of_skupper_is_taken_where_nobody_asked() {
    let mut west = west();
    west.settings.compat.clear();
    west.settle();
    assert!(west.world.services.get(&key("shop/east-backend")).is_none());
}

/// A cluster that tells ExternalDNS, with an annotated export.
fn named(annotations: &[(&str, &str)]) -> Cluster {
    let mut west = Cluster::new("west");
    west.exports(service("shop/api", &[("http", 80, "TCP")]), &[("10.2.0.1", "")], 100);
    let mut export = export("shop/api", 100);
    let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    export.metadata.annotations = Some(annotations.collect());
    west.world.exports.insert(Arc::new(export));
    let service = ObjectKey::new("isthmus-system", "isthmus-gateway");
    west.settings.external_dns = Some(PublicAddresses { service, fixed: Vec::new() });
    west.world.optional.insert(OptionalKind::DnsEndpoint, Default::default());
    let balancer: Service = serde_json::from_value(json!({
        "metadata": {"namespace": "isthmus-system", "name": "isthmus-gateway"},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}, {"ip": "2001:db8::7"}]}},
    }))
    .unwrap();
    west.world.services.insert(Arc::new(balancer));
    west.settle();
    west
}

#[test]
fn an_annotated_export_has_a_dnsendpoint_with_the_gateways_addresses() {
    let mut west = named(&[(HOSTNAME, "api.example.com, www.example.com"), (TTL, "30")]);
    let record = west.service_plan("shop/api").record.clone().unwrap();
    let endpoints = record.data["spec"]["endpoints"].as_array().unwrap().clone();
    assert_eq!(endpoints.len(), 4);
    let first = json!({"dnsName": "api.example.com", "recordType": "A", "targets": ["203.0.113.7"], "recordTTL": 30});
    assert_eq!(endpoints[0], first);
    assert_eq!(endpoints[1]["recordType"], "AAAA");
    // What is configured counts, and a name of the gateways' makes another name of it.
    west.settings.external_dns.as_mut().unwrap().fixed = vec!["gw.example.com".into()];
    west.settle();
    let record = west.service_plan("shop/api").record.clone().unwrap();
    assert_eq!(record.data["spec"]["endpoints"][0]["recordType"], "CNAME");
    // Without its kind, or without an export.
    west.world.optional.clear();
    west.settle();
    assert!(west.service_plan("shop/api").record.is_none());
}

#[test]
fn names_that_are_none_and_missing_addresses_are_said() {
    let mut west = named(&[(HOSTNAME, "a..b"), (TTL, "soon")]);
    let problems = said(&west, "shop/api");
    assert!(problems[0].contains("found \"a..b\"") && problems[1].contains("found \"soon\""), "{problems:?}");
    assert!(west.service_plan("shop/api").record.is_none());
    west = named(&[(HOSTNAME, "a.b")]);
    west.settings.external_dns.as_mut().unwrap().service = ObjectKey::new("isthmus-system", "none");
    west.settle();
    assert!(said(&west, "shop/api")[0].contains("no load balancer's address"));
}

#[test]
fn a_dnsendpoint_of_somebody_else_stays_and_one_of_ours_goes_with_its_export() {
    let mut west = named(&[(HOSTNAME, "a.b")]);
    put(&mut west, OptionalKind::DnsEndpoint, "shop/api", json!({"endpoints": []}));
    west.settle();
    assert!(said(&west, "shop/api")[0].contains("not ours"));
    let mut ours = named(&[(HOSTNAME, "a.b")]);
    let mut record = ours.service_plan("shop/api").record.clone().unwrap();
    record.metadata.uid = Some("u".into());
    ours.world.optional.get_mut(&OptionalKind::DnsEndpoint).unwrap().insert(key("shop/api"), Arc::new(record));
    ours.world.exports = Objects::default();
    let plan = ours.replan();
    let unwanted = &plan.services[&key("shop/api")].unwanted;
    assert!(unwanted.iter().any(|of| of.kind == Kind::Record && of.uid.as_deref() == Some("u")), "{unwanted:?}");
}

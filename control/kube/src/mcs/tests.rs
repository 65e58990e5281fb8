//! Plans, applied until nothing changes: what users see.

mod any;
mod cluster;
mod compat;
mod gateway_ports;
mod headless;
mod modes;
mod skupper;
mod tenants;

pub(crate) use cluster::*;

use super::*;
use crate::api::mcs::{DERIVED_SERVICE, ImportType};
use isthmus_control::exchange::summary::{Port, PortSummary, Summary};
use isthmus_control_api::{Affinity, Protocol};
use std::sync::Arc;

/// What another cluster says of a service with one port.
pub(crate) fn summary(since_seconds: u64, name: &str, number: u16, ready: u32) -> Summary {
    let port = PortSummary { name: Some(name.into()), ready, ..PortSummary::default() };
    let ports = [(Port { number, protocol: Protocol::Tcp }, port)].into();
    Summary { since: since_seconds * 1000, ports, ..Summary::default() }
}

/// West exports shop/api with two endpoints, and so does east, whose export is younger.
fn west() -> Cluster {
    let mut west = Cluster::new("west");
    west.exports(service("shop/api", &[("http", 80, "TCP")]), &[("10.2.0.1", ""), ("10.2.0.2", "")], 100);
    west.link("east", view(&[("shop/api", summary(200, "http", 80, 3))]));
    west
}

#[test]
fn what_is_exported_anywhere_is_imported_here_and_leads_to_the_gateways() {
    let mut west = west();
    west.settle();
    let import = west.import("shop/api").unwrap();
    let derived = west.derived("shop/api").unwrap();
    let spec = derived.spec.as_ref().unwrap();
    assert_eq!(Some(&import.spec.ips), spec.cluster_ips.as_ref());
    assert_eq!((import.spec.ips.len(), import.spec.type_), (2, ImportType::ClusterSetIP));
    assert_eq!(import.spec.ip_families, ["IPv4", "IPv6"]);
    assert_eq!(import.metadata.annotations.as_ref().unwrap()[DERIVED_SERVICE], derived_name("shop/api"));
    let status = import.status.as_ref().unwrap();
    assert!(status.clusters.iter().map(|of| &*of.cluster).eq(["east", "west"]));
    assert_eq!(condition(&status.conditions, "Ready").status, "True");
    let slices = west.slices("shop/api");
    let (v4, v6) = (["10.9.0.1", "10.9.0.2"].map(str::to_owned), ["fd00::1", "fd00::2"].map(str::to_owned));
    for cluster in ["east", "west"] {
        assert_eq!(slices[&format!("{cluster} IPv4")], (vec![20000], v4.to_vec()));
        assert_eq!(slices[&format!("{cluster} IPv6")], (vec![20000], v6.to_vec()));
    }
    let plan = west.service_plan("shop/api");
    let listen = &plan.imports[&20000];
    assert_eq!((listen.service.to_string(), listen.affinity), ("shop/api:80".into(), Affinity::None));
    let endpoints: Vec<_> = plan.exports[&listen.service].endpoints.iter().map(|of| of.address.to_string()).collect();
    assert_eq!(endpoints, ["10.2.0.1:1080", "10.2.0.2:1080"]);
    let told = plan.summary.as_ref().unwrap();
    assert_eq!((told.since, told.most_ready()), (100_000, 2));
    assert_eq!(told.zones[&Arc::from("zone-a")], 2);
    assert!(plan.problems.is_empty());
}

/// There can be a hundred thousand of them.
#[test]
fn slices_that_stay_the_same_are_in_memory_once() {
    let mut west = west();
    west.settle();
    let next = west.replan();
    west.link("south", view(&[("shop/api", summary(300, "http", 80, 1))]));
    let grown = west.replan();
    let [before, next, grown] = [&west.plan, &next, &grown].map(|plan| &plan.services[&key("shop/api")].slices);
    assert_eq!((before.len(), grown.len()), (4, 6));
    assert!(before.iter().zip(next).all(|(one, other)| one.is_shared(other)));
    assert!(before.iter().all(|one| grown.iter().any(|other| one.is_shared(other))));
}

/// It would choose clusters for all of this cluster's clients.
#[test]
fn no_other_cluster_says_what_only_this_one_may() {
    let mut west = Cluster::new("west");
    let texts =
        [("isthmus.io/weights", "east=1"), ("kubectl.kubernetes.io/last-applied-configuration", "{}"), ("note", "1")];
    let annotations = texts.map(|(key, value)| (Arc::from(key), Arc::from(value))).into();
    west.link("east", view(&[("shop/api", Summary { annotations, ..summary(200, "http", 80, 3) })]));
    west.settle();
    let annotations = west.import("shop/api").unwrap().metadata.annotations.clone().unwrap();
    assert!(annotations.keys().eq([DERIVED_SERVICE, "note"]), "{annotations:?}");
    assert_eq!(west.service_plan("shop/api").imports[&20000].weights, None);
}

#[test]
fn an_import_goes_with_the_last_export() {
    let mut west = west();
    west.settle();
    west.world.exports.remove(&key("shop/api"));
    west.settle();
    assert!(
        west.import("shop/api").unwrap().status.as_ref().unwrap().clusters.iter().map(|of| &*of.cluster).eq(["east"])
    );
    assert!(west.slices("shop/api").keys().eq(["east IPv4", "east IPv6"]));
    assert!(west.service_plan("shop/api").exports.is_empty() && west.service_plan("shop/api").summary.is_none());
    west.link("east", view(&[]));
    west.settle();
    assert!(
        west.import("shop/api").is_none() && west.derived("shop/api").is_none() && west.slices("shop/api").is_empty()
    );
    assert!(!west.plan.services.contains_key(&key("shop/api")), "nothing is left to be done");
}

#[test]
fn a_service_with_no_export_stays_at_home() {
    let mut west = west();
    west.world.services.insert(Arc::new(service("shop/own", &[("", 1, "TCP")])));
    west.settle();
    assert!(west.import("shop/own").is_none() && !west.plan.services.contains_key(&key("shop/own")));
}

#[test]
fn an_export_that_cannot_be_says_why() {
    let mut west = west();
    west.world.exports.insert(Arc::new(export("shop/none", 1)));
    let mut external = service("shop/away", &[]);
    external.spec.as_mut().unwrap().type_ = Some("ExternalName".into());
    west.exports(external, &[], 1);
    west.settle();
    for (name, reason) in [("shop/none", "NoService"), ("shop/away", "InvalidServiceType")] {
        let status = west.service_plan(name).export_status.as_ref().unwrap();
        let valid = condition(&status.conditions, "Valid");
        assert_eq!((&*valid.status, &*valid.reason), ("False", reason), "{valid:?}");
        assert!(west.import(name).is_none() && west.service_plan(name).summary.is_none());
    }
    let conditions = &west.service_plan("shop/api").export_status.as_ref().unwrap().conditions;
    let said = ["Valid", "Ready", "Conflict"].map(|of| condition(conditions, of)).map(|of| (&*of.status, &*of.reason));
    assert_eq!(said, [("True", "Valid"), ("True", "Exported"), ("False", "NoConflicts")]);
}

#[test]
fn times_of_conditions_change_only_with_what_they_say() {
    let mut west = west();
    west.settle();
    let since = |west: &Cluster, of| {
        let status = west.service_plan("shop/api").export_status.clone().unwrap();
        condition(&status.conditions, of).last_transition_time.clone()
    };
    let first = (since(&west, "Valid"), since(&west, "Conflict"));
    west.link("east", view(&[("shop/api", summary(200, "http", 8080, 3))]));
    west.settle();
    assert_eq!(since(&west, "Valid"), first.0);
    assert!(since(&west, "Conflict") > first.1);
}

#[test]
fn a_dead_peers_slices_go_and_no_others() {
    let mut west = west();
    west.link("south", view(&[("shop/api", summary(300, "http", 80, 1))]));
    west.settle();
    let import = west.import("shop/api").unwrap().spec.clone();
    west.peer("east").up = false;
    west.settle();
    assert!(west.slices("shop/api").keys().eq(["south IPv4", "south IPv6", "west IPv4", "west IPv6"]));
    assert_eq!(west.import("shop/api").unwrap().spec, import, "the service is still exported");
    west.peer("east").up = true;
    west.settle();
    assert_eq!(west.slices("shop/api").len(), 6);
}

#[test]
fn no_ready_endpoint_is_no_slice() {
    let mut west = west();
    west.link("east", view(&[("shop/api", summary(200, "http", 80, 0))]));
    west.settle();
    assert!(west.slices("shop/api").keys().eq(["west IPv4", "west IPv6"]));
}

#[test]
fn a_restart_marks_nothing_dead() {
    let mut west = west();
    west.exports(service("shop/db", &[("", 5432, "TCP")]), &[("10.2.0.3", "")], 100);
    west.link("south", view(&[("shop/log", summary(300, "http", 80, 1))]));
    west.settle();
    let (slices, import) = (west.slices("shop/api"), west.import("shop/log").cloned());
    // A new process knows nothing of its peers, and has no plan before.
    west.plan = Plan::default();
    for peer in ["east", "south"] {
        west.link(peer, PeerView::default());
    }
    west.settle();
    assert_eq!(west.slices("shop/api"), slices);
    assert_eq!(west.slices("shop/log").len(), 2);
    assert_eq!(west.import("shop/log"), import.as_ref());
    // One that does not come is down: nobody is led there, but its services are still exported.
    west.peer("south").late = true;
    west.settle();
    assert!(west.slices("shop/log").is_empty() && west.import("shop/log").unwrap().spec == import.unwrap().spec);
    // It was away for long enough that the export is gone.
    west.link("south", view(&[]));
    west.settle();
    assert!(west.import("shop/log").is_none() && west.slices("shop/log").is_empty());
    assert_eq!(west.slices("shop/api"), slices);
    // A link that is removed is no link that has said nothing yet.
    west.peers.clear();
    west.settle();
    assert!(west.slices("shop/api").keys().eq(["west IPv4", "west IPv6"]));
}

#[test]
fn the_address_of_an_import_outlives_its_service() {
    let mut west = west();
    west.settle();
    let ips = west.import("shop/api").unwrap().spec.ips.clone();
    west.world.services.remove(&ObjectKey::new("shop", &derived_name("shop/api")));
    west.settle();
    assert_eq!(west.import("shop/api").unwrap().spec.ips, ips);
    assert_eq!(west.derived("shop/api").unwrap().spec.as_ref().unwrap().cluster_ips.as_ref(), Some(&ips));
}

#[test]
fn a_namespace_that_is_missing_is_said_on_either_side() {
    let mut west = west();
    let mut east = view(&[("away/db", summary(1, "db", 1, 1))]);
    Arc::make_mut(&mut east.exports).lacking.insert("shop".into());
    west.link("east", east);
    west.settle();
    assert!(west.import("away/db").is_none());
    assert_eq!(west.service_plan("away/db").problems, [Problem::NoNamespaceHere]);
    let status = west.service_plan("shop/api").export_status.clone().unwrap();
    let ready = condition(&status.conditions, "Ready");
    assert_eq!((&*ready.status, &*ready.message), ("True", "its namespace is missing in east"));
    west.world.namespaces.insert("away".into());
    west.settle();
    assert!(west.import("away/db").is_some());
}

#[test]
fn an_export_that_peers_cannot_be_told_of_says_so() {
    let mut west = west();
    let api = || Arc::new([("shop/api".parse().unwrap())].into());
    west.link("east", PeerView { untold: api(), ..view(&[]) });
    west.link("north", view(&[]));
    west.settle();
    let status = west.service_plan("shop/api").export_status.clone().unwrap();
    let ready = condition(&status.conditions, "Ready");
    assert_eq!((&*ready.status, &*ready.reason), ("False", "Failed"));
    assert_eq!(ready.message, "there is no room for it in what east can be told");
    west.peer("east").untold = Arc::default();
    west.settle();
    let status = west.service_plan("shop/api").export_status.clone().unwrap();
    assert_eq!(condition(&status.conditions, "Ready").status, "True");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let mut west = west();
    let foreign = service(&format!("shop/{}", derived_name("shop/api")), &[("", 1, "TCP")]);
    west.world.services.insert(Arc::new(foreign.clone()));
    west.settle();
    assert_eq!(west.derived("shop/api").as_deref(), Some(&foreign));
    let problems = &west.service_plan("shop/api").problems;
    assert!(matches!(&problems[..], [Problem::NotOurs { kind: Kind::Service, .. }]), "{problems:?}");
}

#[test]
fn a_change_of_type_makes_the_service_anew() {
    let mut west = west();
    west.settle();
    let mut east = summary(1, "http", 80, 3);
    east.headless = true;
    west.link("east", view(&[("shop/api", east)]));
    west.settle();
    let import = west.import("shop/api").unwrap();
    assert_eq!((import.spec.type_, import.spec.ips.len()), (ImportType::Headless, 0));
    assert!(!import.spec.ip_families.is_empty());
    let status = west.service_plan("shop/api").export_status.clone().unwrap();
    assert_eq!(condition(&status.conditions, "Conflict").reason, "TypeConflict");
    let conflict = west.service_plan("shop/api").conflict().unwrap();
    assert!(conflict.contains("from the oldest export, in cluster \"east\"; 1 of 2 clusters disagrees."), "{conflict}");
    west.link("east", view(&[]));
    west.settle();
    let import = west.import("shop/api").unwrap();
    assert_eq!((import.spec.type_, import.spec.ips.len()), (ImportType::ClusterSetIP, 2));
    assert_eq!(west.service_plan("shop/api").conflict(), None);
}

#[test]
fn what_clients_are_to_prefer_is_on_service_and_slices() {
    let mut west = west();
    let mut local = service("shop/api", &[("http", 80, "TCP")]);
    sticky(&mut local, 10);
    let spec = local.spec.as_mut().unwrap();
    (spec.traffic_distribution, spec.internal_traffic_policy) = (Some("PreferClose".into()), Some("Local".into()));
    local.metadata.annotations = Some([("isthmus.io/affinity".into(), "local".into())].into());
    west.world.services.insert(Arc::new(local));
    west.settle();
    let import = &west.import("shop/api").unwrap().spec;
    assert_eq!(import.session_affinity.as_deref(), Some("ClientIP"));
    assert_eq!(import.session_affinity_config.as_ref().unwrap().client_ip.as_ref().unwrap().timeout_seconds, Some(10));
    assert_eq!(import.traffic_distribution.as_deref(), Some("PreferClose"));
    assert_eq!(import.internal_traffic_policy.as_deref(), Some("Local"));
    let derived = west.derived("shop/api").unwrap();
    assert_eq!(derived.spec.as_ref().unwrap().traffic_distribution.as_deref(), Some("PreferClose"));
    let (_, slice) = west.world.slices.iter().find(|(_, slice)| slice.origin().is_some()).unwrap();
    for endpoint in slice.endpoints.iter().flatten() {
        let zone = endpoint.zone.as_deref();
        assert!(
            zone.is_some() && endpoint.hints.as_ref().unwrap().for_zones.as_ref().unwrap()[0].name == zone.unwrap()
        );
    }
    assert_eq!(west.service_plan("shop/api").imports[&20000].affinity, Affinity::Local);
}

#[test]
fn endpoints_that_change_are_planned_alone_and_what_others_depend_on_is_not() {
    let mut west = west();
    west.settle();
    let name = key("shop/api");
    let alone = |west: &Cluster| {
        plan_one(&west.world, &west.peers, &west.settings, &west.plan.services[&name], &name, &time(west.seconds))
    };
    let api = service("shop/api", &[("http", 80, "TCP")]);
    west.world.slices.insert(Arc::new(slice(&api, &[("10.2.0.9", "")])));
    let plan = alone(&west).unwrap();
    assert_eq!(plan, west.replan().services[&name]);
    assert_eq!(plan.exports.values().map(|export| export.endpoints.len()).collect::<Vec<_>>(), [1]);
    let other = service("shop/api", &[("http", 80, "TCP"), ("more", 81, "TCP")]);
    west.world.services.insert(Arc::new(other));
    assert_eq!(alone(&west), None, "it needs a port of the gateway");
}

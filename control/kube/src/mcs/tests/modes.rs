//! Global services, mirrors, and what clients are to prefer.

use super::*;
use k8s_openapi::api::core::v1::Service;

/// A Service with annotations, and with a selector.
fn marked(name: &str, annotations: &[(&str, &str)]) -> Service {
    let mut service = service(name, &[("http", 80, "TCP")]);
    let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    service.metadata.annotations = Some(annotations.collect());
    service.metadata.creation_timestamp = Some(time(50));
    service.spec.as_mut().unwrap().selector = Some([("app".to_owned(), "api".to_owned())].into());
    service
}

/// West has shop/api so marked, with so many endpoints; east exports it, too.
fn west(annotations: &[(&str, &str)], endpoints: &[(&str, &str)]) -> Cluster {
    let mut west = Cluster::new("west");
    let service = marked("shop/api", annotations);
    west.world.slices.insert(Arc::new(slice(&service, endpoints)));
    west.world.services.insert(Arc::new(service));
    west.link("east", view(&[("shop/api", summary(200, "http", 80, 3))]));
    west.settle();
    west
}

const TWO: &[(&str, &str)] = &[("10.2.0.1", ""), ("10.2.0.2", "")];

/// Slices of ours that hang on the local Service: names and ports.
fn on_local(west: &Cluster) -> Vec<(String, Vec<i32>)> {
    let api = key("shop/api");
    let of = west.world.slices.of_service(&api).map(|(_, slice)| slice);
    let ours = of.filter(|slice| slice.group().as_ref() == Some(&api) && is_ours(&***slice));
    let ports = |slice: &k8s_openapi::api::discovery::v1::EndpointSlice| {
        slice.ports.iter().flatten().filter_map(|port| port.port).collect()
    };
    ours.map(|slice| (slice.metadata.name.clone().unwrap(), ports(slice))).collect()
}

#[test]
fn a_service_can_say_itself_that_it_is_exported() {
    let west = west(&[(EXPORT, "true")], TWO);
    let plan = west.service_plan("shop/api");
    assert_eq!(plan.summary.as_ref().unwrap().since, 50_000);
    assert!(plan.export_status.is_none() && plan.exports.len() == 1);
    assert!(on_local(&west).is_empty());
    let west = self::west(&[(EXPORT, "yes")], TWO);
    assert!(west.service_plan("shop/api").summary.is_none());
}

#[test]
fn others_serve_under_a_global_services_own_name() {
    let west = west(&[(GLOBAL, "true")], TWO);
    assert!(west.service_plan("shop/api").summary.is_some());
    let target = i32::from(*west.service_plan("shop/api").imports.keys().next().unwrap());
    assert_eq!(on_local(&west), [(format!("{}-east-ipv4-global", derived_name("shop/api")), vec![target])]);
}

#[test]
fn a_global_services_own_endpoints_come_first_where_local_is_preferred() {
    let global = [(GLOBAL, "true"), (AFFINITY, "local")];
    let mut west = west(&global, TWO);
    assert!(on_local(&west).is_empty());
    west.world.slices.insert(Arc::new(slice(&marked("shop/api", &global), &[])));
    west.settle();
    assert_eq!(on_local(&west).len(), 1);
    west.peer("east").up = false;
    west.settle();
    assert!(on_local(&west).is_empty());
    west.peer("east").up = true;
    west.settle();
    // It is no longer global.
    west.world.services.insert(Arc::new(marked("shop/api", &[])));
    west.settle();
    assert!(on_local(&west).is_empty());
}

#[test]
fn what_kubernetes_cannot_do_for_a_global_service_is_said() {
    let west = west(&[(GLOBAL, "true"), (AFFINITY, "remote")], TWO);
    let problems = &west.service_plan("shop/api").problems;
    assert!(matches!(&problems[..], [Problem::Unheeded { what }] if what.starts_with(GLOBAL)), "{problems:?}");
}

#[test]
fn weights_are_for_the_gateway() {
    let west = west(&[(EXPORT, "true"), (WEIGHTS, "east=80,west=20")], TWO);
    let import = west.service_plan("shop/api").imports.values().next().unwrap();
    let weights = import.weights.as_ref().unwrap();
    assert_eq!((weights.local, weights.clusters[&"east".parse().unwrap()], weights.others), (20, 80, true));
}

#[test]
fn a_mirror_leads_to_its_cluster_and_nowhere_else() {
    let mut west = west(&[(EXPORT, "true")], TWO);
    west.settings.mirrored.insert("east".parse().unwrap());
    west.settle();
    let mirror = west.world.services.get(&key("shop/api-east")).unwrap();
    let (_, target) = ports::targets(mirror).next().unwrap();
    let import = &west.service_plan("shop/api").imports[&target];
    let weights = import.weights.as_ref().unwrap();
    assert_eq!(import.service.to_string(), "shop/api:80");
    assert!(!weights.others && weights.local == 0 && weights.clusters.keys().all(|of| of.as_str() == "east"));
    let slices = |west: &Cluster| west.world.slices.of_service(&key("shop/api-east")).count();
    assert_eq!(slices(&west), 2);
    west.peer("east").up = false;
    west.settle();
    assert_eq!(slices(&west), 0);
    west.peer("east").up = true;
    west.settle();
    let before: Vec<_> = west.world.services.iter().map(|(key, of)| (key.clone(), of.clone())).collect();
    // A restart of ours, and then the link is mirrored no more.
    west.link("east", PeerView::default());
    west.settle();
    assert!(west.world.services.iter().map(|(key, of)| (key.clone(), of.clone())).eq(before));
    assert_eq!(slices(&west), 2);
    west.settings.mirrored.clear();
    west.settle();
    assert!(west.world.services.get(&key("shop/api-east")).is_none());
    assert_eq!(slices(&west), 0);
}

#[test]
fn a_mirror_takes_no_name_that_somebody_else_has() {
    let mut west = west(&[(EXPORT, "true")], TWO);
    let other = service("shop/api-east", &[("", 1, "TCP")]);
    west.world.services.insert(Arc::new(other.clone()));
    west.settings.mirrored.insert("east".parse().unwrap());
    west.settle();
    assert_eq!(**west.world.services.get(&key("shop/api-east")).unwrap(), other);
    let problems = &west.service_plan("shop/api").problems;
    assert!(matches!(&problems[..], [Problem::NotOurs { kind: Kind::Service, .. }]), "{problems:?}");
}

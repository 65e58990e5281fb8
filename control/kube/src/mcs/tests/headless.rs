//! Headless services: an address for each endpoint.

use super::*;
use crate::api::mcs::SOURCE_CLUSTER;
use isthmus_control::exchange::summary::{Member, member_service};
use k8s_openapi::api::core::v1::Service;

fn headless(since: u64, members: &[&str]) -> Summary {
    let member = |key: &&str| Member { key: (**key).into(), is_hostname: true };
    Summary { headless: true, members: members.iter().map(member).collect(), ..summary(since, "db", 5432, 2) }
}

/// West and east both run shop/db, east with two endpoints.
fn west() -> Cluster {
    let mut west = Cluster::new("west");
    let mut db = service("shop/db", &[("db", 5432, "TCP")]);
    db.spec.as_mut().unwrap().cluster_ip = Some("None".into());
    west.exports(db, &[("10.2.0.7", "db-0"), ("10.2.0.8", "")], 100);
    west.link("east", view(&[("shop/db", headless(200, &["db-0", "db-1"]))]));
    west.settle();
    west
}

/// The Services of east's endpoints: key, addresses and gateway port.
fn members(west: &Cluster) -> Vec<(String, Vec<String>, u16)> {
    let said = |service: &Service| {
        let labels = service.metadata.labels.as_ref().unwrap();
        let target = ports::targets(service).next().unwrap().1;
        let ips = service.spec.as_ref().unwrap().cluster_ips.clone().unwrap();
        labels.get(SOURCE_CLUSTER).map(|_| (labels[import::MEMBER].clone(), ips, target))
    };
    let mut all: Vec<_> =
        west.world.services.of_service(&key("shop/db")).filter_map(|(_, service)| said(service)).collect();
    all.sort();
    all
}

#[test]
fn every_remote_endpoint_has_an_address_of_its_own() {
    let west = west();
    let import = west.import("shop/db").unwrap();
    assert_eq!((import.spec.type_, import.spec.ips.len()), (ImportType::Headless, 0));
    let members = members(&west);
    assert!(members.iter().map(|(key, ..)| &**key).eq(["db-0", "db-1"]));
    assert!(members[0].1 != members[1].1 && members[0].2 != members[1].2);
    // The slice of the service has those addresses, and host names.
    let of = |cluster: &str| {
        let name = format!("{}-{cluster}-ipv4", derived_name("shop/db"));
        let slice = west.world.slices.get(&ObjectKey::new("shop", &name)).unwrap();
        let endpoint = |of: &k8s_openapi::api::discovery::v1::Endpoint| (of.addresses[0].clone(), of.hostname.clone());
        let ports: Vec<_> = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
        (slice.endpoints.iter().flatten().map(endpoint).collect::<Vec<_>>(), ports)
    };
    let named = |ip: &str, name: &str| (ip.to_owned(), Some(name.to_owned()));
    assert_eq!(of("east"), (vec![named(&members[0].1[0], "db-0"), named(&members[1].1[0], "db-1")], vec![5432]));
    // Its own endpoints are within reach by their own addresses.
    assert_eq!(of("west"), (vec![named("10.2.0.7", "db-0"), ("10.2.0.8".into(), None)], vec![6432]));
    let plan = west.service_plan("shop/db");
    let listen = &plan.imports[&members[1].2];
    let member = listen.member.as_ref().unwrap();
    assert_eq!((member.cluster.as_str(), &*member.key), ("east", "db-1"));
    let weights = listen.weights.as_ref().unwrap();
    assert!(weights.local == 0 && !weights.others, "not west's own, should it have one of that name");
    assert_eq!(listen.service.service, member_service(&"shop/db".parse().unwrap(), "db-1"));
    // What east asks for when it wants west's db-0.
    let own = plan.exports.iter().find(|(port, _)| port.service == member_service(&"shop/db".parse().unwrap(), "db-0"));
    assert_eq!(own.unwrap().1.endpoints[0].address.to_string(), "10.2.0.7:6432");
    assert!(plan.summary.as_ref().unwrap().members.len() == 2);
}

/// By that label others find them, CoreDNS and gateways among them; those of an endpoint's own Service lead to our gateways.
#[test]
fn the_slices_of_the_import_are_its_endpoints_and_no_gateways() {
    let west = west();
    let labelled = |name: &str| -> Vec<_> {
        let slices = west.world.slices.iter().filter(|(_, slice)| slice.origin() == Some(key("shop/db")));
        let has = slices.filter(|(_, slice)| slice.metadata.labels.as_ref().unwrap().contains_key(name));
        has.flat_map(|(_, slice)| slice.endpoints.iter().flatten().map(|of| of.addresses[0].clone())).collect()
    };
    let gateways: Vec<_> = west.world.gateways.iter().flat_map(|of| &of.addresses).map(ToString::to_string).collect();
    let of_import = labelled(crate::api::mcs::SERVICE_NAME);
    assert!(!of_import.is_empty() && of_import.iter().all(|address| !gateways.contains(address)), "{of_import:?}");
    let others = labelled(objects::ORIGIN);
    assert!(!others.is_empty() && others.iter().all(|address| gateways.contains(address)), "{others:?}");
}

#[test]
fn an_endpoint_that_goes_takes_its_address_and_no_other() {
    let mut west = west();
    let before = members(&west);
    west.link("east", view(&[("shop/db", headless(200, &["db-1", "db-2"]))]));
    west.settle();
    let after = members(&west);
    assert!(after.iter().map(|(key, ..)| &**key).eq(["db-1", "db-2"]));
    assert_eq!(after[0], before[1]);
    let slices = west.world.slices.iter().filter(|(_, slice)| slice.origin() == Some(key("shop/db"))).count();
    assert_eq!(
        slices,
        1 + 2 + 4,
        "west's is of one family, east's and its endpoints' of two: {:?}",
        west.slices("shop/db")
    );
}

#[test]
fn a_dead_peers_endpoints_keep_their_addresses() {
    let mut west = west();
    let before = members(&west);
    west.peer("east").up = false;
    west.settle();
    assert_eq!(members(&west), before);
    assert!(west.slices("shop/db").keys().eq(["west IPv4"]));
    // And so they do over a restart, at which nothing is known.
    west.peer("east").up = true;
    west.settle();
    let slices = west.slices("shop/db");
    west.plan = Plan::default();
    west.link("east", PeerView::default());
    west.settle();
    assert_eq!((members(&west), west.slices("shop/db")), (before, slices));
}

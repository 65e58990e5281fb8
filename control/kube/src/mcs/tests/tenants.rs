//! Whoever may write Services in one namespace, and whoever exports from another cluster, harms no other.

use super::*;
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};

/// East exports these, one port each.
fn west(names: &[&str]) -> Cluster {
    let mut west = Cluster::new("west");
    west.world.namespaces.insert("evil".into());
    exports(&mut west, "east", names);
    west.settle();
    west
}

fn exports(west: &mut Cluster, cluster: &str, names: &[&str]) {
    west.link(cluster, view(&names.iter().map(|name| (*name, summary(200, "http", 80, 3))).collect::<Vec<_>>()));
}

/// The gateway ports of a service, as they are listened on.
fn listens(west: &Cluster, name: &str) -> Vec<u16> {
    west.service_plan(name).imports.keys().copied().collect()
}

/// Somebody writes on the Service that is derived from a service.
fn edit(west: &mut Cluster, name: &str, edit: impl FnOnce(&mut Service)) {
    let mut service = (*west.derived(name).unwrap()).clone();
    edit(&mut service);
    west.world.services.insert(Arc::new(service));
}

fn lead_to(service: &mut Service, target: i32) {
    for port in service.spec.iter_mut().flat_map(|spec| spec.ports.iter_mut().flatten()) {
        port.target_port = Some(IntOrString::Int(target));
    }
}

#[test]
fn what_only_looks_like_ours_is_not_believed() {
    let mut west = west(&["evil/mine", "shop/api"]);
    let (mine, api) = (listens(&west, "evil/mine"), listens(&west, "shop/api"));
    west.plan = Plan::default();
    let real = (*west.derived("evil/mine").unwrap()).clone();
    let forge = |change: fn(&mut Service)| {
        let mut service = real.clone();
        service.metadata.creation_timestamp = Some(time(0));
        lead_to(&mut service, 20001);
        change(&mut service);
        Arc::new(service)
    };
    // Of another name; and under the right one, but not owned by the import.
    for forged in [
        forge(|service| service.metadata.name = Some("derived-0000000000".into())),
        forge(|service| service.metadata.owner_references = None),
        forge(|service| service.metadata.owner_references.as_mut().unwrap()[0].uid = "another".into()),
        forge(|service| drop(service.metadata.labels.as_mut().unwrap().remove(crate::api::mcs::SERVICE_NAME))),
    ] {
        assert_eq!(ObjectKey::of(&*west.derived("shop/api").unwrap()).name.len(), 18);
        let mut world = west.world.clone();
        world.services.insert(forged.clone());
        let (before, settings) = (Plan::default(), west.settings.clone());
        let before = Before { plan: &before, is_ours: true };
        let plan = plan(&world, &west.peers, &settings, before, &time(1));
        assert!(plan.services[&key("shop/api")].imports.keys().eq(&api), "{forged:?}");
    }
    west.settle();
    assert_eq!((listens(&west, "evil/mine"), listens(&west, "shop/api")), (mine, api));
}

#[test]
fn a_port_that_somebody_changes_is_put_right_and_takes_nothing() {
    let mut west = west(&["evil/mine", "shop/api"]);
    let (mine, api) = (listens(&west, "evil/mine"), listens(&west, "shop/api"));
    for leads in [false, true] {
        west.leads = leads;
        edit(&mut west, "evil/mine", |service| lead_to(service, 20001));
        let plan = west.replan();
        assert!(plan.services[&key("shop/api")].imports.keys().eq(&api));
        assert!(plan.services[&key("evil/mine")].imports.keys().eq(&mine), "it goes on meanwhile");
        let wanted = plan.services[&key("evil/mine")].services[0].clone();
        assert!(ports::targets(&wanted).map(|(_, target)| target).eq(mine.iter().copied()), "{wanted:?}");
    }
}

#[test]
fn of_two_that_claim_a_port_at_a_start_the_older_has_it() {
    let mut west = west(&["shop/api"]);
    exports(&mut west, "east", &["evil/mine", "shop/api"]);
    west.settle();
    let api = listens(&west, "shop/api");
    edit(&mut west, "evil/mine", |service| lead_to(service, i32::from(api[0])));
    west.plan = Plan::default();
    west.settle();
    assert_eq!(listens(&west, "shop/api"), api);
    assert_ne!(listens(&west, "evil/mine"), api);
}

#[test]
fn a_service_that_has_lost_its_port_where_none_is_left_stays() {
    let names: Vec<_> = (0..10).map(|n| format!("shop/s{n}")).collect();
    let mut west = west(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (before, last) = (west.derived("shop/s9").unwrap(), listens(&west, "shop/s9"));
    // The range has become smaller.
    west.settings.ports = 20000..=20008;
    west.plan = Plan::default();
    west.settle();
    assert_eq!(west.derived("shop/s9").unwrap(), before);
    assert!(listens(&west, "shop/s9").is_empty() && west.slices("shop/s9").is_empty());
    let status = west.import("shop/s9").unwrap().status.clone().unwrap();
    assert_eq!(condition(&status.conditions, "Ready").reason, "NoGatewayPort");
    west.settings.ports = 20000..=20009;
    west.settle();
    assert_eq!(listens(&west, "shop/s9"), last);
}

#[test]
fn a_cluster_beyond_its_quota_keeps_what_it_has_and_takes_from_no_other() {
    let mut west = west(&["shop/s5", "shop/s6"]);
    west.settings.quota = Quota { ports: 3, addresses: 1000 };
    // South's are older: it is the first to pay for s1.
    west.link("south", view(&[("shop/x", summary(100, "http", 80, 3)), ("shop/s1", summary(100, "http", 80, 3))]));
    let (s5, s6) = (listens(&west, "shop/s5"), listens(&west, "shop/s6"));
    exports(&mut west, "east", &["shop/s1", "shop/s2", "shop/s3", "shop/s4", "shop/s5", "shop/s6"]);
    west.settle();
    assert_eq!((listens(&west, "shop/s5"), listens(&west, "shop/s6")), (s5, s6), "what was there before");
    let lacking: Vec<_> = (1..=4).filter(|n| listens(&west, &format!("shop/s{n}")).is_empty()).collect();
    assert_eq!(lacking, [3, 4], "s1 is south's too");
    assert_eq!(listens(&west, "shop/x").len(), 1);
    let status = west.import("shop/s3").unwrap().status.clone().unwrap();
    let ready = condition(&status.conditions, "Ready");
    let said = "the quota of east is used up: there is no gateway port for shop/s3:80";
    assert_eq!((&*ready.status, &*ready.reason, &*ready.message), ("False", "QuotaExceeded", said));
    // What is exported here as well is this cluster's own.
    west.exports(service("shop/s3", &[("http", 80, "TCP")]), &[("10.2.0.1", "")], 1);
    west.settle();
    assert_eq!(listens(&west, "shop/s3").len(), 1);
}

#[test]
fn endpoints_beyond_the_quota_have_no_address() {
    let mut west = Cluster::new("west");
    west.settings.quota = Quota { ports: 1000, addresses: 2 };
    let member =
        |n: u8| isthmus_control::exchange::summary::Member { key: format!("db-{n}").into(), is_hostname: true };
    let db = |of: std::ops::Range<u8>| Summary {
        headless: true,
        members: of.map(member).collect(),
        ..summary(1, "db", 5432, 3)
    };
    west.link("east", view(&[("shop/db", db(1..3))]));
    west.settle();
    let before = listens(&west, "shop/db");
    assert_eq!(before.len(), 2);
    west.link("east", view(&[("shop/db", db(0..3))]));
    west.settle();
    assert_eq!(listens(&west, "shop/db"), before);
    let status = west.import("shop/db").unwrap().status.clone().unwrap();
    let ready = condition(&status.conditions, "Ready");
    assert_eq!(ready.reason, "QuotaExceeded", "{}", ready.message);
    assert!(ready.message.starts_with("the quota of east is used up: there is no address for Service shop/derived-"));
}

#[test]
fn a_mirror_takes_no_name_that_another_services_mirror_has() {
    let mut west = west(&["shop/a-b"]);
    let mirrored = ["east", "b-east"].map(|name| name.parse().unwrap());
    west.settings.mirrored.extend(mirrored);
    west.settle();
    let before = west.world.services.get(&key("shop/a-b-east")).unwrap().clone();
    exports(&mut west, "b-east", &["shop/a"]);
    west.settle();
    assert_eq!(*west.world.services.get(&key("shop/a-b-east")).unwrap(), before);
    let taken = Problem::Taken { key: key("shop/a-b-east"), by: key("shop/a-b") };
    assert_eq!(west.service_plan("shop/a").problems, [taken]);
    // Both at once: one of them has it, and the other says so.
    let mut both = Cluster::new("west");
    both.settings.mirrored = west.settings.mirrored.clone();
    exports(&mut both, "east", &["shop/a-b"]);
    exports(&mut both, "b-east", &["shop/a"]);
    both.settle();
    assert!(both.service_plan("shop/a").problems.is_empty());
    let taken = Problem::Taken { key: key("shop/a-b-east"), by: key("shop/a") };
    assert_eq!(both.service_plan("shop/a-b").problems, [taken]);
    exports(&mut both, "b-east", &[]);
    both.settle();
    assert!(both.service_plan("shop/a-b").problems.is_empty());
}

#[test]
fn slices_of_mirrors_and_global_services_have_names_of_their_own() {
    let mut west = Cluster::new("west");
    for name in ["shop/y-p-p", "shop/y"] {
        let mut of = service(name, &[("http", 80, "TCP")]);
        of.metadata.annotations = Some([(GLOBAL.to_owned(), "true".to_owned())].into());
        west.world.services.insert(Arc::new(of));
    }
    west.settings.mirrored = ["p", "p-p"].map(|name| name.parse().unwrap()).into();
    exports(&mut west, "p", &["shop/y-p-p", "shop/y"]);
    exports(&mut west, "p-p", &["shop/y-p-p", "shop/y"]);
    west.settle();
    let wanted: Vec<_> = west.plan.services.values().flat_map(|plan| &plan.slices).map(Wanted::key).collect();
    let names: BTreeSet<_> = wanted.iter().collect();
    assert_eq!(names.len(), wanted.len(), "{wanted:?}");
}

#[test]
fn a_slice_of_somebody_else_is_left_alone() {
    let mut west = west(&["shop/api"]);
    let name = format!("shop/{}-east-ipv4", derived_name("shop/api"));
    let mut foreign = slice(&service("shop/other", &[]), &[]);
    foreign.metadata.name = Some(key(&name).name.to_string());
    west.world.slices.insert(Arc::new(foreign.clone()));
    west.settle();
    assert_eq!(**west.world.slices.get(&key(&name)).unwrap(), foreign);
    assert_eq!(west.service_plan("shop/api").problems, [Problem::NotOurs { kind: Kind::Slice, key: key(&name) }]);
}

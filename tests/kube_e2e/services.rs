//! A service exported in one cluster, and what becomes of it in both.

use crate::mesh::{API, EXPORT, Imported, Mesh, SHOP, api, echo, wait_echo, wait_export};
use ::kube::{Api, ResourceExt as _, api::DeleteParams};
use isthmus_control_kube::api::mcs::{ImportType, ServiceExport};
use isthmus_tests::{Topology, eventually, kube};
use k8s_openapi::api::core::v1::Service;

const VALID: [(&str, &str, &str); 3] =
    [("Valid", "True", "Valid"), ("Ready", "True", "Exported"), ("Conflict", "False", "NoConflicts")];

#[test]
fn an_export_is_an_import_in_both_clusters_until_it_is_taken_back() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let _echo = echo(&topology, "east");
    let (_west, _east) = (mesh.gateway(&topology, "west"), mesh.gateway(&topology, "east"));
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    wait_export(&mesh.east, "api", &VALID);
    for cluster in [&mesh.west, &mesh.east] {
        let imported = Imported::wait(cluster, "api", &["east"]);
        assert_eq!(imported.import.spec.type_, ImportType::ClusterSetIP);
        assert_eq!(imported.import.spec.ports[0].port, 80);
        let spec = imported.service.spec.clone().unwrap();
        assert_eq!(imported.import.spec.ips, spec.cluster_ips.unwrap());
        assert!(spec.selector.is_none() && imported.service.name_any().starts_with("derived-"));
        assert_eq!(imported.service.owner_references()[0].uid, imported.import.uid().unwrap());
        // It leads to our gateway, on a port of the range, and names no pod of east's.
        let [slice] = &imported.slices[..] else { panic!("{:?}", imported.slices) };
        assert_eq!(slice.endpoints.as_ref().unwrap()[0].addresses, ["10.0.0.1"]);
        assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(i32::from(imported.port())));
        assert!((20000..30000).contains(&imported.port()));
        // The endpoint's address is a host of both clusters, and only east's serves anything there.
        wait_echo(&topology, cluster.name(), imported.port());
    }
    let exports: Api<ServiceExport> = api(&mesh.east);
    mesh.east.block_on(exports.delete("api", &DeleteParams::default())).unwrap();
    for cluster in [&mesh.west, &mesh.east] {
        Imported::wait_gone(cluster, "api");
    }
}

#[test]
fn what_does_not_change_is_not_written_again() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let (mut west, _east) = (mesh.gateway(&topology, "west"), mesh.gateway(&topology, "east"));
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    let first = Imported::wait(&mesh.west, "api", &["east"]);
    // Something else changes; when that has arrived, everything has been looked at again.
    let more = |yaml: &str| yaml.replace("name: api", "name: more");
    let service = API.split("---").next().unwrap();
    mesh.east.apply(&more(service));
    mesh.east.apply(&more(EXPORT));
    mesh.west.block_on(kube::object(
        api::<isthmus_control_kube::api::mcs::ServiceImport>(&mesh.west),
        "more",
        "the other one comes, too",
        |found| {
            let ips = found.map(|import| import.spec.ips.len()).unwrap_or_default();
            if ips > 0 { Ok(()) } else { Err("not yet".into()) }
        },
    ));
    assert_eq!(first.again(&mesh.west), first);
    // Not even by a control that is new, and does not remember.
    for forgets in [false, true] {
        west.kill();
        if forgets {
            std::fs::remove_dir_all(topology.cluster("west").dir().join("west-state")).unwrap();
        }
        west.restart();
        eventually("it has taken over", || {
            let registry = &west.status()["control"]["registry"];
            let is_synced = west.clusters_of("shop/api") == ["east"];
            if registry["leader"]["leading"] == true && is_synced { Ok(()) } else { Err(registry.to_string()) }
        });
        assert_eq!(first.again(&mesh.west), first, "forgets: {forgets}");
    }
}

#[test]
fn two_exports_that_differ_are_in_conflict_and_the_older_one_counts() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let (_west, _east) = (mesh.gateway(&topology, "west"), mesh.gateway(&topology, "east"));
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    Imported::wait(&mesh.west, "api", &["east"]);
    mesh.west.apply(&API.replacen("  ports:", "  sessionAffinity: ClientIP\n  ports:", 1));
    mesh.west.apply(EXPORT);
    for cluster in [&mesh.west, &mesh.east] {
        let conflict = ("Conflict", "True", "SessionAffinity");
        wait_export(cluster, "api", &[conflict, ("Conflict", "True", "in cluster \"east\"")]);
        let imported = Imported::wait(cluster, "api", &["east", "west"]);
        assert_eq!(imported.import.spec.session_affinity.as_deref(), Some("None"));
    }
}

#[test]
fn a_namespace_that_a_cluster_has_not_is_said_on_the_export() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let (_west, _east) = (mesh.gateway(&topology, "west"), mesh.gateway(&topology, "east"));
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(mesh.west.client().clone());
    mesh.west.block_on(namespaces.delete(SHOP, &DeleteParams::default())).unwrap();
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    wait_export(&mesh.east, "api", &[("Ready", "True", "its namespace is missing in west")]);
    mesh.west.block_on(kube::object(namespaces, SHOP, "it is gone", |found| {
        if found.is_none() { Ok(()) } else { Err("it is still going".into()) }
    }));
    mesh.west.make_namespace(SHOP);
    Imported::wait(&mesh.west, "api", &["east"]);
    wait_export(&mesh.east, "api", &VALID);
}

#[test]
fn what_somebody_changes_or_deletes_of_ours_is_put_right() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let (_west, _east) = (mesh.gateway(&topology, "west"), mesh.gateway(&topology, "east"));
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    let before = Imported::wait(&mesh.west, "api", &["east"]);
    let services: Api<Service> = api(&mesh.west);
    mesh.west.block_on(services.delete(&before.service.name_any(), &DeleteParams::default())).unwrap();
    let uid = before.service.uid();
    mesh.west.block_on(kube::object(services, &before.service.name_any(), "it is there again", |found| {
        let again = found.and_then(::kube::ResourceExt::uid);
        if again.is_some() && again != uid { Ok(()) } else { Err(format!("{again:?}")) }
    }));
    // Its slices may go with it, and come again after it.
    let after = Imported::wait(&mesh.west, "api", &["east"]);
    assert_eq!(
        (after.port(), after.service.spec.unwrap().cluster_ips),
        (before.port(), before.service.spec.unwrap().cluster_ips)
    );
}

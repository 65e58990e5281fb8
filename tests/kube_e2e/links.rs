//! Clusters linked by objects of their API servers.

use crate::mesh::Mesh;
use ::kube::{
    Api,
    api::{Patch, PatchParams},
};
use isthmus_control_kube::api::{
    about::{CLUSTER_ID, CLUSTERSET, ClusterProperty},
    link::ClusterLink,
};
use isthmus_tests::{KubeCluster, Topology, eventually, kube};
use serde_json::json;

fn links(cluster: &KubeCluster) -> Api<ClusterLink> {
    Api::all(cluster.client().clone())
}

/// The conditions of a link that are as wanted, once all of them are.
fn wait_conditions(cluster: &KubeCluster, peer: &str, wanted: &[(&str, &str)]) -> ClusterLink {
    cluster.block_on(kube::object(links(cluster), peer, &format!("its link says {wanted:?}"), |link| {
        let link = link.ok_or("there is none")?;
        let conditions = link.status.iter().flat_map(|status| &status.conditions);
        let found: Vec<_> = conditions.map(|found| (found.type_.as_str(), found.status.as_str())).collect();
        let as_wanted = wanted.iter().all(|wanted| found.contains(wanted));
        if as_wanted { Ok(link.clone()) } else { Err(format!("{:?}", link.status)) }
    }))
}

#[test]
fn clusters_are_linked_by_their_objects_which_say_how_they_fare() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let _west = mesh.gateway(&topology, "west");
    let east = mesh.gateway(&topology, "east");
    let up = [("Established", "True"), ("TrustValid", "True"), ("TablesSynced", "True")];
    let link = wait_conditions(&mesh.west, "east", &up);
    assert_eq!(link.status.unwrap().direction.as_deref(), Some("out"));
    let link = wait_conditions(&mesh.east, "west", &up);
    assert_eq!(link.status.unwrap().direction.as_deref(), Some("in"));
    drop(east);
    wait_conditions(&mesh.west, "east", &[("Established", "False"), ("TablesSynced", "False")]);
}

#[test]
fn a_link_that_is_wrong_says_why_and_the_others_stay() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let west = mesh.gateway(&topology, "west");
    mesh.west.apply(
        "{apiVersion: isthmus.io/v1alpha1, kind: ClusterLink, metadata: {name: north}, spec: {endpoints: [north]}}",
    );
    mesh.west.apply(
        "{apiVersion: isthmus.io/v1alpha1, kind: ClusterLink, metadata: {name: south}, spec: {limits: {streams: 0, bytesPerSecond: 1MiB}}}",
    );
    for (name, why) in [
        ("north", "spec.endpoints[0]: found \"north\", expected host:port, port 1 to 65535"),
        ("south", "spec.limits.streams: found \"0\", expected a number from 1 to 10000000"),
    ] {
        let link = wait_conditions(&mesh.west, name, &[("Established", "False")]);
        assert_eq!(link.status.unwrap().conditions[0].message, why);
    }
    assert_eq!(west.link("east")["state"].as_str().map(|state| state != "up"), Some(true), "east does not run");
}

#[test]
fn a_cluster_says_its_id_and_does_not_overwrite_what_is_not_its_own() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let other = "{apiVersion: about.k8s.io/v1beta1, kind: ClusterProperty, metadata: {name: clusterset.k8s.io}, spec: {value: theirs}}";
    mesh.west.apply(other);
    let west = mesh.gateway(&topology, "west");
    let properties: Api<ClusterProperty> = Api::all(mesh.west.client().clone());
    mesh.west.block_on(kube::object(properties.clone(), CLUSTER_ID, "the cluster's id", |found| {
        let value = found.map(|found| found.spec.value.as_str());
        if value == Some("west") { Ok(()) } else { Err(format!("{value:?}")) }
    }));
    let theirs = mesh.west.block_on(properties.get(CLUSTERSET)).unwrap();
    assert_eq!(theirs.spec.value, "theirs");
    eventually("the problem shows", || {
        let problems = west.status()["control"]["registry"]["problems"].to_string();
        if problems.contains("found \\\"theirs\\\"") { Ok(()) } else { Err(west.status()["control"].to_string()) }
    });
    // What is ours is put right again.
    let patch = json!({"spec": {"value": "someone"}});
    mesh.west.block_on(properties.patch(CLUSTER_ID, &PatchParams::default(), &Patch::Merge(patch))).unwrap();
    mesh.west.block_on(kube::object(properties, CLUSTER_ID, "it is put right", |found| {
        let value = found.map(|found| found.spec.value.as_str());
        if value == Some("west") { Ok(()) } else { Err(format!("{value:?}")) }
    }));
}

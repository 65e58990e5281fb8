//! API servers that are gone, rights and definitions that are missing, replicas that die.

use crate::mesh::{API, EXPORT, Imported, Mesh, api, echo, wait_echo};
use ::kube::{Api, api::DeleteParams, runtime::watcher::Config};
use isthmus_control_kube::registry::LEASE;
use isthmus_tests::{
    Gateway, KubeCluster, Process, Surroundings, Topology, eventually,
    identity::{isthmus, text},
    kube,
};
use k8s_openapi::{
    api::coordination::v1::Lease, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde_json::Value;
use std::path::Path;

/// Waits until the registry of a gateway says what is wanted of it.
fn wait_registry(gateway: &Gateway<'_>, what: &str, wanted: impl Fn(&Value) -> bool) {
    eventually(what, || {
        let registry = gateway.status()["control"]["registry"].clone();
        if wanted(&registry) { Ok(()) } else { Err(registry.to_string()) }
    });
}

#[test]
fn traffic_goes_on_without_the_api_server_and_nothing_is_lost_when_it_is_back() {
    let topology = Topology::west_and_east();
    let mut mesh = Mesh::start(&topology);
    let _echo = echo(&topology, "east");
    let (mut west, _east) = (mesh.gateway(&topology, "west"), mesh.gateway(&topology, "east"));
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    let before = Imported::wait(&mesh.west, "api", &["east"]);
    wait_echo(&topology, "west", before.port());

    mesh.west.kill_api_server();
    wait_registry(&west, "it says that it cannot write", |registry| {
        registry["leader"]["leading"] == false && registry["watches"]["services"]["error"].is_string()
    });
    wait_echo(&topology, "west", before.port());
    // A gateway that starts meanwhile goes on from its disk.
    west.kill();
    west.restart();
    wait_registry(&west, "it has not seen the API server", |registry| registry["synced"] == false);
    wait_echo(&topology, "west", before.port());

    mesh.west.start_api_server();
    wait_registry(&west, "it leads again", |registry| {
        registry["synced"] == true && registry["leader"]["leading"] == true
    });
    eventually("what it has says the same again", || {
        let clusters = west.clusters_of("shop/api");
        if clusters == ["east"] { Ok(()) } else { Err(format!("{clusters:?}")) }
    });
    assert_eq!(before.again(&mesh.west), before);
    wait_echo(&topology, "west", before.port());
}

#[test]
fn a_right_that_is_missing_is_named_and_used_once_it_is_there() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let rights = include_str!("../../deploy/rbac.yaml");
    let of_imports = "resources: [serviceimports], verbs: [list, watch, create, patch, delete]";
    assert!(rights.contains(of_imports));
    mesh.east.apply(&rights.replace(of_imports, "resources: [serviceimports], verbs: [list, watch]"));
    let east = mesh.gateway(&topology, "east");
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    wait_registry(&east, "it names the right", |registry| {
        let failures = registry["failures"].to_string();
        ["ServiceImport shop/api: RBAC: ", "cannot patch resource"].iter().all(|part| failures.contains(part))
    });
    mesh.east.apply(rights);
    Imported::wait(&mesh.east, "api", &["east"]);
    wait_registry(&east, "nothing fails any more", |registry| {
        registry["failures"].as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn a_definition_that_is_missing_is_named_with_its_mend() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let definitions: Api<CustomResourceDefinition> = Api::all(mesh.east.client().clone());
    let name = "serviceexports.multicluster.x-k8s.io";
    mesh.east.block_on(definitions.delete(name, &DeleteParams::default())).unwrap();
    mesh.east.block_on(kube::object(definitions, name, "it is gone", |found| match found {
        None => Ok(()),
        Some(_) => Err("it is still there".into()),
    }));
    let east = mesh.gateway(&topology, "east");
    let file = "deploy/crds/multicluster.x-k8s.io_serviceexports.yaml";
    wait_registry(&east, "it says what to apply", |registry| {
        let error = registry["watches"]["serviceexports"]["error"].as_str().unwrap_or_default();
        registry["synced"] == false && error.ends_with(&format!("kubectl apply -f {file}"))
    });
    mesh.east.apply(include_str!("../../deploy/crds/multicluster.x-k8s.io_serviceexports.yaml"));
    wait_registry(&east, "it goes on", |registry| registry["synced"] == true);
}

/// A second replica of west, beside its pods: it sees the API server, and no peers.
fn replica(topology: &Topology, mesh: &Mesh, clock: Option<&str>) -> Process {
    let west = topology.cluster("west");
    let dir = west.dir().join("replica");
    std::fs::create_dir_all(&dir).unwrap();
    let mut config = mesh.config(topology, "west");
    config.tunnel = "10.0.0.9:15008".parse().unwrap();
    let path = dir.join("west.yaml");
    std::fs::write(&path, config.to_yaml()).unwrap();
    let surroundings = Surroundings { clock: clock.map(str::to_owned), ..Surroundings::default() };
    let mut command = surroundings.prefix();
    command.extend([text(&isthmus()), "run", "--config", text(&path)].map(String::from));
    let args: Vec<_> = command.iter().skip(1).map(String::as_str).collect();
    Process::start(west.pods(), "west's second replica", &dir.join("log"), Path::new(&command[0]), &args)
}

/// Waits until the lease is as wanted; its holder and its epoch.
fn wait_lease(cluster: &KubeCluster, what: &str, mut wanted: impl FnMut(&str, i32) -> bool) -> (String, i32) {
    let leases: Api<Lease> = Api::namespaced(cluster.client().clone(), "isthmus-system");
    let which = Config::default().fields(&format!("metadata.name={LEASE}"));
    cluster.block_on(kube::watched(leases, which, what, |all| {
        let spec = all.first().and_then(|lease| lease.spec.clone()).ok_or("there is none")?;
        let (holder, epoch) = (spec.holder_identity.unwrap_or_default(), spec.lease_transitions.unwrap_or_default());
        if wanted(&holder, epoch) { Ok((holder, epoch)) } else { Err(format!("{holder:?}, {epoch}")) }
    }))
}

#[test]
fn one_replica_writes_and_another_takes_over_when_it_dies() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let mut first = mesh.gateway(&topology, "west");
    let (leader, epoch) = wait_lease(&mesh.west, "the first leads", |holder, _| !holder.is_empty());
    // A second one, whose clock says that the lease has long ended.
    let second = replica(&topology, &mesh, Some("+1h"));
    let mut renewals = 0;
    wait_lease(&mesh.west, "the first one stays", |holder, now| {
        assert_eq!((holder, now), (leader.as_str(), epoch));
        renewals += 1;
        renewals > 5 && second.log().contains("the registry is Kubernetes")
    });
    mesh.west.apply(API);
    mesh.west.apply(EXPORT);
    Imported::wait(&mesh.west, "api", &["west"]);
    first.kill();
    let (_, next) = wait_lease(&mesh.west, "the second leads", |holder, _| !holder.is_empty() && holder != leader);
    assert_eq!(next, epoch + 1);
    // And it writes.
    let exports: Api<isthmus_control_kube::api::mcs::ServiceExport> = api(&mesh.west);
    mesh.west.block_on(exports.delete("api", &DeleteParams::default())).unwrap();
    Imported::wait_gone(&mesh.west, "api");
    drop(second);
}

#[test]
fn who_ends_gives_the_lease_back() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let mut west = mesh.gateway(&topology, "west");
    let (_, epoch) = wait_lease(&mesh.west, "it leads", |holder, _| !holder.is_empty());
    west.terminate();
    assert!(west.wait_end().success());
    let (_, then) = wait_lease(&mesh.west, "it is given back", |holder, _| holder.is_empty());
    assert_eq!(then, epoch);
}

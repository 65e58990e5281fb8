//! Objects that others write: what is theirs is left alone, and what is ours is put right.

use crate::mesh::{API, EXPORT, Imported, Mesh, api};
use ::kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use isthmus_control_kube::{
    api::mcs::ServiceImport,
    apply::{Action, Applier, Kind, Part, Target, Write},
    mcs::ObjectKey,
};
use isthmus_tests::{
    KubeCluster, Topology,
    kube::{self, Options},
};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn object(kind: &str, version: &str, name: &str, port: u16) -> Value {
    let meta = json!({"namespace": "shop", "name": name, "labels": {"n": port.to_string()}});
    json!({"apiVersion": version, "kind": kind, "metadata": meta, "spec": {"ports": [{"port": port, "protocol": "TCP"}]}})
}

fn import(name: &str, port: u16) -> Value {
    let mut import = object("ServiceImport", "multicluster.x-k8s.io/v1beta1", name, port);
    (import["spec"]["type"], import["spec"]["ipFamilies"]) = (json!("ClusterSetIP"), json!(["IPv4"]));
    import
}

fn write(kind: Kind, name: &str, action: Action) -> Write {
    Write { target: Target { kind, key: ObjectKey::new("shop", name), part: Part::Object }, action }
}

/// Has these written, and waits until the API server has answered to each: what failed.
fn written(cluster: &KubeCluster, writes: &[Write]) -> Vec<String> {
    cluster.block_on(async {
        let mut applier = Applier::new(cluster.client().clone());
        applier.look(ObjectKey::new("shop", "api"));
        applier.go(Instant::now() + Duration::from_secs(30), |_| writes.to_vec());
        while applier.counts().written + applier.counts().failed < writes.len() as u64 {
            applier.next().await;
        }
        applier.failures().into_iter().map(|(target, why)| format!("{target}: {why}")).collect()
    })
}

/// The watch of a kind may lag behind, or fail.
#[test]
fn what_was_not_seen_is_made_and_never_taken_over() {
    let cluster = KubeCluster::start(&Options::new("west"));
    cluster.make_namespace("shop");
    let (services, imports): (Api<Service>, Api<ServiceImport>) = (api(&cluster), api(&cluster));
    let both = |name: &str, port| {
        let service = write(Kind::Service, name, Action::Create(object("Service", "v1", name, port)));
        [service, write(Kind::Import, name, Action::Create(import(name, port)))]
    };
    assert_eq!(written(&cluster, &both("new", 80)), [""; 0]);
    let (service, made) = cluster.block_on(async { (services.get("new").await, imports.get("new").await) });
    let (service, made) = (service.unwrap(), made.unwrap());
    for managed in [service.managed_fields(), made.managed_fields()] {
        let by: Vec<_> = managed.iter().map(|of| (of.manager.as_deref(), of.operation.as_deref())).collect();
        assert_eq!(by, [(Some("isthmus"), Some("Apply"))], "as if it had been applied over itself");
    }
    // These were made meanwhile; that somebody else applied them too changes nothing.
    for theirs in [object("Service", "v1", "theirs", 1), import("theirs", 1)] {
        cluster.apply(&theirs.to_string());
    }
    let before =
        cluster.block_on(async { (services.get("theirs").await.unwrap(), imports.get("theirs").await.unwrap()) });
    for name in ["new", "theirs"] {
        let failed = written(&cluster, &both(name, 81)).join("\n");
        for kind in ["ServiceImport", "Service"] {
            let said = format!("{kind} shop/{name}: {kind} shop/{name} has been made meanwhile");
            assert!(failed.contains(&said), "{failed}");
        }
    }
    let after =
        cluster.block_on(async { (services.get("theirs").await.unwrap(), imports.get("theirs").await.unwrap()) });
    assert_eq!(after, before);
    // What was seen is written only where it is the same.
    let apply = |uid: &str| {
        let mut body = object("Service", "v1", "new", 82);
        body["metadata"]["uid"] = json!(uid);
        written(&cluster, &[write(Kind::Service, "new", Action::Apply(body))])
    };
    assert_eq!(apply("another").len(), 1);
    assert_eq!(apply(&service.uid().unwrap()), [""; 0]);
    assert_eq!(cluster.block_on(services.get("new")).unwrap().labels()["n"], "82");
}

#[test]
fn a_gateway_port_that_somebody_changes_is_put_right() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let _west = mesh.gateway(&topology, "west");
    mesh.west.apply(API);
    mesh.west.apply(EXPORT);
    let before = Imported::wait(&mesh.west, "api", &["west"]);
    let services: Api<Service> = api(&mesh.west);
    let (name, port) = (before.service.name_any(), before.port());
    let patch = Patch::Strategic(json!({"spec": {"ports": [{"port": 80, "targetPort": port + 1}]}}));
    let params = PatchParams { field_manager: Some("tenant".into()), ..PatchParams::default() };
    let changed = mesh.west.block_on(services.patch(&name, &params, &patch)).unwrap();
    // It is not believed either, when it stands on a Service that only says that it is ours.
    let mut forged = changed.clone();
    forged.metadata = ::kube::core::ObjectMeta {
        name: Some("derived-0000000000".into()),
        namespace: forged.namespace(),
        labels: forged.metadata.labels.clone(),
        ..Default::default()
    };
    (forged.status, forged.spec.as_mut().unwrap().cluster_ip, forged.spec.as_mut().unwrap().cluster_ips) =
        (None, None, None);
    mesh.west.block_on(services.create(&PostParams::default(), &forged)).unwrap();
    mesh.west.block_on(kube::object(services, &name, "it is put right", |found| {
        let found = found.ok_or("it is gone")?;
        let is_later = found.resource_version() != changed.resource_version();
        let now = Imported { service: found.clone(), ..before.clone() }.port();
        if is_later && now == port { Ok(()) } else { Err(format!("{now}")) }
    }));
    let after = before.again(&mesh.west);
    assert_eq!((after.port(), after.slices), (port, before.slices));
}

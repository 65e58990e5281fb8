//! What the Multi-Cluster Services API requires of objects (KEP-1645), asked as its users ask: in v1alpha1 as well, in a namespace for
//! each requirement, with a Service that two address families, two ports and an affinity make it hard to get right.
#![allow(clippy::needless_pass_by_value, reason = "values are written where they are used")]

use crate::mesh::Mesh;
use isthmus_tests::{Gateway, KubeCluster, Topology, eventually};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A gateway's pod that can be reached in both families, as a Service that has both needs it.
const DUAL: &str = include_str!("manifests/gateway-dual.yaml");

const HELLO: &str = include_str!("manifests/hello.yaml");

/// A mesh that runs, and the namespace of one requirement.
struct Place<'a> {
    mesh: &'a Mesh,
    namespace: &'a str,
}

#[test]
fn an_import_exists_as_long_as_anybody_exports() {
    with_mesh("hello-1", |place| {
        place.export_from("west", json!({}), json!({}));
        place.wait_import("west", |_| true);
        place.export_from("east", json!({}), json!({}));
        place.wait_import("west", |import| clusters(import) == ["east", "west"]);
        place.unexport("west");
        place.wait_import("west", |import| clusters(import) == ["east"]);
        place.unexport("east");
        place.wait_no_import("west");
        place.wait_no_import("east");
    });
}

#[test]
fn the_import_has_what_the_service_has() {
    with_mesh("hello-2", |place| {
        let service = json!({"internalTrafficPolicy": "Cluster", "trafficDistribution": "PreferClose"});
        let export = json!({"exportedLabels": {"to": "all"}, "exportedAnnotations": {"note": "1"}});
        place.export_from("west", service, export);
        for cluster in ["west", "east"] {
            let import =
                place.wait_import(cluster, |import| import["spec"]["ips"].as_array().is_some_and(|ips| ips.len() == 2));
            let spec = &import["spec"];
            assert_eq!(spec["type"], "ClusterSetIP");
            assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]));
            let ips = [0, 1].map(|index| spec["ips"][index].as_str().unwrap().parse::<std::net::IpAddr>().unwrap());
            assert!(ips[0].is_ipv4() && ips[1].is_ipv6(), "{ips:?}");
            assert_eq!(ports(&import), [("tcp", "TCP", 42), ("udp", "UDP", 42)]);
            assert_eq!(spec["sessionAffinity"], "ClientIP");
            assert_eq!(spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10);
            assert_eq!(spec["internalTrafficPolicy"], "Cluster");
            assert_eq!(spec["trafficDistribution"], "PreferClose");
            let meta = &import["metadata"];
            assert_eq!((&meta["labels"]["to"], &meta["annotations"]["note"]), (&json!("all"), &json!("1")));
            assert_eq!((&meta["labels"]["kept"], &meta["annotations"]["kept"]), (&Value::Null, &Value::Null));
        }
        place.wait_export("west", "Valid", "True");
        place.unexport("west");
        place.wait_no_import("west");
        place.wait_no_import("east");
    });
}

#[test]
fn ports_are_united_and_what_differs_is_a_conflict_of_both() {
    with_mesh("hello-3", |place| {
        place.export_from("west", json!({}), json!({}));
        let other = json!({"ports": [{"name": "tcp", "port": 42}, {"name": "more", "port": 142, "protocol": "SCTP"}]});
        place.export_later_from("east", other, json!({}));
        place.wait_export("west", "Conflict", "True");
        place.wait_export("east", "Conflict", "True");
        let united = [("more", "SCTP", 142), ("tcp", "TCP", 42), ("udp", "UDP", 42)];
        place.wait_import("west", |import| ports(import) == united);
        place.wait_import("east", |import| ports(import) == united);
    });
}

#[test]
fn of_two_numbers_of_one_port_the_older_exports_counts() {
    with_mesh("hello-4", |place| {
        place.export_from("west", json!({}), json!({}));
        let other = json!({"ports": [{"name": "tcp", "port": 43}]});
        place.export_later_from("east", other, json!({}));
        place.wait_export("west", "Conflict", "True");
        place.wait_export("east", "Conflict", "True");
        for cluster in ["west", "east"] {
            let import = place.wait_import(cluster, |import| clusters(import) == ["east", "west"]);
            assert_eq!(ports(&import), [("tcp", "TCP", 42), ("udp", "UDP", 42)]);
        }
    });
}

#[test]
fn labels_that_differ_are_a_conflict_of_both() {
    with_mesh("hello-5", |place| {
        place.export_from(
            "west",
            json!({}),
            json!({"exportedLabels": {"one": "1"}, "exportedAnnotations": {"one": "1"}}),
        );
        place.export_later_from(
            "east",
            json!({}),
            json!({"exportedLabels": {"two": "2"}, "exportedAnnotations": {"two": "2"}}),
        );
        place.wait_export("west", "Conflict", "True");
        place.wait_export("east", "Conflict", "True");
        let import = place.wait_import("east", |import| clusters(import) == ["east", "west"]);
        let meta = &import["metadata"];
        assert_eq!((&meta["labels"]["one"], &meta["annotations"]["one"]), (&json!("1"), &json!("1")));
        assert_eq!((&meta["labels"]["two"], &meta["annotations"]["two"]), (&Value::Null, &Value::Null));
    });
}

#[test]
fn a_headless_service_is_imported_headless_and_without_an_address() {
    with_mesh("hello-6", |place| {
        place.export_from("west", json!({"clusterIP": "None"}), json!({}));
        place.wait_export("west", "Ready", "True");
        for cluster in ["west", "east"] {
            let import = place.wait_import(cluster, |import| import["spec"]["type"] == "Headless");
            assert_eq!(import["spec"]["ips"].as_array().map_or(0, Vec::len), 0, "{import}");
        }
        place.unexport("west");
        place.wait_no_import("east");
    });
}

#[test]
fn of_headless_and_not_the_older_exports_counts() {
    with_mesh("hello-7", |place| {
        place.export_from("west", json!({}), json!({}));
        place.export_later_from("east", json!({"clusterIP": "None"}), json!({}));
        place.wait_export("west", "Conflict", "True");
        place.wait_export("east", "Conflict", "True");
        for cluster in ["west", "east"] {
            let import = place.wait_import(cluster, |import| clusters(import) == ["east", "west"]);
            assert_eq!(import["spec"]["type"], "ClusterSetIP");
        }
    });
}

#[test]
fn an_external_name_is_not_exported() {
    with_mesh("hello-8", |place| {
        place.export_from("west", json!({"type": "ExternalName", "externalName": "example.com"}), json!({}));
        place.wait_export("west", "Valid", "False");
        // What is exported after it has arrived, and it has not.
        place.mesh.cluster("west").apply(&place.yaml(json!({}), "later"));
        place.mesh.cluster("west").apply(&place.export(json!({}), "later"));
        eventually("the later one arrives", || place.import("east", "later").map(drop).ok_or_else(|| "none".into()));
        assert_eq!((place.import("west", "hello"), place.import("east", "hello")), (None, None));
    });
}

impl Place<'_> {
    /// The Service, with some fields of its spec otherwise, and its export.
    fn export_from(&self, cluster: &str, service: Value, export: Value) {
        self.mesh.cluster(cluster).apply(&self.yaml(service, "hello"));
        self.mesh.cluster(cluster).apply(&self.export(export, "hello"));
    }

    /// The same, with a creationTimestamp, of whole seconds, that is later than those of now.
    fn export_later_from(&self, cluster: &str, service: Value, export: Value) {
        let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let now = second();
        eventually("a later second", || if second() > now { Ok(()) } else { Err("not yet".into()) });
        self.export_from(cluster, service, export);
    }

    fn yaml(&self, change: Value, name: &str) -> String {
        let mut service = json!({
            "selector": {"app": "hello"}, "ipFamilyPolicy": "PreferDualStack", "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
            "ports": [{"name": "tcp", "port": 42, "protocol": "TCP"}, {"name": "udp", "port": 42, "protocol": "UDP"}],
        });
        if change["type"] == "ExternalName" {
            service = json!({});
        }
        for (field, value) in change.as_object().into_iter().flatten() {
            service[field] = value.clone();
        }
        let meta = json!({
            "name": name, "namespace": self.namespace, "labels": {"kept": "here"}, "annotations": {"kept": "here"},
        });
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service});
        format!("{}\n---\n{service}\n", HELLO.replace("NAMESPACE", self.namespace))
    }

    fn export(&self, spec: Value, name: &str) -> String {
        let meta = json!({"name": name, "namespace": self.namespace});
        json!({"apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceExport", "metadata": meta, "spec": spec})
            .to_string()
    }

    fn unexport(&self, cluster: &str) {
        self.mesh.cluster(cluster).delete(&self.export(json!({}), "hello"));
    }

    fn import(&self, cluster: &str, name: &str) -> Option<Value> {
        get(self.mesh.cluster(cluster), self.namespace, "serviceimports", name)
    }

    fn wait_import(&self, cluster: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{cluster}'s import"), || match self.import(cluster, "hello") {
            Some(import) if wanted(&import) => Ok(import),
            other => Err(format!("{other:?}")),
        })
    }

    fn wait_no_import(&self, cluster: &str) {
        eventually(&format!("{cluster}'s import is gone"), || match self.import(cluster, "hello") {
            None => Ok(()),
            Some(import) => Err(import.to_string()),
        });
    }

    fn wait_export(&self, cluster: &str, condition: &str, status: &str) {
        eventually(&format!("{cluster}'s export is {condition}={status}"), || {
            let export = get(self.mesh.cluster(cluster), self.namespace, "serviceexports", "hello");
            let export = export.ok_or("there is none")?;
            let conditions = export["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is = conditions.iter().any(|found| found["type"] == condition && found["status"] == status);
            if is { Ok(()) } else { Err(export["status"].to_string()) }
        });
    }
}

/// Runs `requirement` in a namespace of its own of two clusters that are linked.
fn with_mesh(namespace: &str, requirement: impl FnOnce(&Place<'_>)) {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let _gateways: [Gateway<'_>; 2] = ["west", "east"].map(|name| mesh.gateway(&topology, name));
    for cluster in [&mesh.west, &mesh.east] {
        cluster.make_namespace(namespace);
        cluster.apply(DUAL);
    }
    requirement(&Place { mesh: &mesh, namespace });
}

/// An object of the MCS API's older version.
fn get(cluster: &KubeCluster, namespace: &str, kind: &str, name: &str) -> Option<Value> {
    let path = format!("/apis/multicluster.x-k8s.io/v1alpha1/namespaces/{namespace}/{kind}/{name}");
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    match cluster.block_on(cluster.client().request(request)) {
        Ok(object) => Some(object),
        Err(::kube::Error::Api(status)) if status.code == 404 => None,
        Err(e) => panic!("{kind} {name}: {e}"),
    }
}

fn ports(import: &Value) -> Vec<(&str, &str, u64)> {
    let ports = import["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut ports: Vec<_> = ports
        .iter()
        .map(|port| {
            (
                port["name"].as_str().unwrap_or(""),
                port["protocol"].as_str().unwrap_or("TCP"),
                port["port"].as_u64().unwrap_or(0),
            )
        })
        .collect();
    ports.sort_unstable();
    ports
}

fn clusters(import: &Value) -> Vec<&str> {
    let clusters = import["status"]["clusters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names: Vec<_> = clusters.iter().filter_map(|cluster| cluster["cluster"].as_str()).collect();
    names.sort_unstable();
    names
}

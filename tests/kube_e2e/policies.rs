//! ServicePolicy and AccessPolicy, as users apply them: what they say holds, and what is wrong with them is said.

use crate::mesh::{API, EXPORT, Imported, Mesh, SHOP, echo, wait_echo, wait_export};
use ::kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, ValidationDirective},
};
use isthmus_control_kube::optional::OptionalKind;
use isthmus_tests::{KubeCluster, Topology, client, eventually, topology::gateway};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn policies(cluster: &KubeCluster, kind: OptionalKind) -> Api<DynamicObject> {
    Api::namespaced_with(cluster.client().clone(), SHOP, &kind.resource())
}

/// Applies one to the shop, as strictly as kubectl does; what the API server answers.
fn apply(cluster: &KubeCluster, kind: OptionalKind, name: &str, spec: &Value) -> Result<(), String> {
    let object = json!({
        "apiVersion": "isthmus.io/v1alpha1", "kind": kind.kind(), "metadata": {"namespace": SHOP, "name": name}, "spec": spec,
    });
    let params =
        PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply("users").force() };
    let applied = cluster.block_on(policies(cluster, kind).patch(name, &params, &Patch::Apply(&object)));
    applied.map(drop).map_err(|error| error.to_string())
}

/// Waits until a policy's condition has that status and its message that part.
fn wait_accepted(cluster: &KubeCluster, kind: OptionalKind, name: &str, status: &str, part: &str) {
    eventually(&format!("{kind} {name} is accepted: {status}, {part:?}"), || {
        let policy = cluster.block_on(policies(cluster, kind).get(name)).map_err(|error| error.to_string())?;
        let condition = &policy.data["status"]["conditions"][0];
        let is_of_it = condition["observedGeneration"] == json!(policy.metadata.generation);
        let message = condition["message"].as_str().unwrap_or_default();
        if is_of_it && condition["status"] == status && message.contains(part) {
            Ok(())
        } else {
            Err(condition.to_string())
        }
    });
}

/// Waits until nobody in a cluster gets an answer from the service.
fn wait_denied(topology: &Topology, name: &str, port: u16) {
    let cluster = topology.cluster(name);
    eventually(&format!("a client in {name} is refused at port {port}"), || {
        let exchange = async {
            let mut stream = client::connect(cluster.pods(), gateway(port)).await?;
            client::exchange(&mut stream, b"are you there?").await
        };
        match topology.block_on(exchange) {
            Ok(()) => Err("it is answered".to_owned()),
            Err(_) => Ok(()),
        }
    });
}

#[test]
fn who_may_use_a_service_is_what_the_policies_of_its_namespace_say() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let _echo = echo(&topology, "east");
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    let _gateways = ["east", "west"].map(|name| mesh.gateway(&topology, name));
    let port = Imported::wait(&mesh.west, "api", &["east"]).port();
    wait_echo(&topology, "west", port);

    let kind = OptionalKind::AccessPolicy;
    let rule = |cluster: &str| json!([{"name": "peers", "from": [{"clusters": [cluster]}]}]);
    let south = json!({"services": ["api"], "rules": rule("south")});
    apply(&mesh.east, kind, "callers", &south).unwrap();
    wait_accepted(&mesh.east, kind, "callers", "True", "");
    wait_denied(&topology, "west", port);

    apply(&mesh.east, kind, "callers", &json!({"services": ["api"], "rules": rule("west")})).unwrap();
    wait_echo(&topology, "west", port);

    // What the definition knows to be wrong, the API server refuses.
    let wrong = json!({"services": ["api"], "rules": [{"name": "peers", "action": "permit"}]});
    let refused = apply(&mesh.east, kind, "callers", &wrong).unwrap_err();
    assert!(refused.contains("spec.rules[0].action") && refused.contains("allow"), "{refused}");
    let wrong = json!({"services": ["api"], "rulez": []});
    apply(&mesh.east, kind, "callers", &wrong).unwrap();
    wait_accepted(&mesh.east, kind, "callers", "False", "rulez");
    wait_echo(&topology, "west", port);

    // What it does not know is said by the policy, which counts as it was.
    apply(&mesh.east, kind, "callers", &json!({"services": ["bank/api"], "rules": []})).unwrap();
    wait_accepted(&mesh.east, kind, "callers", "False", "services[0]: found \"bank/api\"");
    wait_echo(&topology, "west", port);

    // A new one that is wrong closes its namespace, until it is gone.
    apply(&mesh.east, kind, "more", &json!({"services": ["bank/api"], "rules": []})).unwrap();
    wait_accepted(&mesh.east, kind, "more", "False", "nobody may use its namespace's services");
    mesh.east.block_on(policies(&mesh.east, kind).delete("callers", &Default::default())).unwrap();
    wait_denied(&topology, "west", port);
    mesh.east.block_on(policies(&mesh.east, kind).delete("more", &Default::default())).unwrap();
    wait_echo(&topology, "west", port);
}

/// The first bytes that an endpoint gets, which sends them back.
fn first_bytes(topology: &Topology, port: u16) -> Result<Vec<u8>, String> {
    let first = async {
        let mut stream = client::connect(topology.cluster("west").pods(), gateway(port)).await?;
        stream.write_all(b"hello, this is no header").await?;
        let mut first = vec![0; 12];
        stream.read_exact(&mut first).await?;
        Ok(first)
    };
    topology.block_on(first).map_err(|error: std::io::Error| error.to_string())
}

#[test]
fn how_a_service_is_served_is_what_its_policy_or_an_annotation_says() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let _echo = echo(&topology, "east");
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    let _gateways = ["east", "west"].map(|name| mesh.gateway(&topology, name));
    let port = Imported::wait(&mesh.west, "api", &["east"]).port();
    wait_echo(&topology, "west", port);
    let header = b"\r\n\r\n\0\r\nQUIT\n";
    let wait_first = |what: &str, wanted: &[u8]| {
        eventually(what, || {
            let first = first_bytes(&topology, port)?;
            if first == wanted { Ok(()) } else { Err(format!("{first:?}")) }
        });
    };

    let kind = OptionalKind::ServicePolicy;
    apply(&mesh.east, kind, "api", &json!({"proxyProtocol": "v2"})).unwrap();
    wait_accepted(&mesh.east, kind, "api", "True", "");
    wait_first("the endpoint is told of its client", header);
    let refused = apply(&mesh.east, kind, "api", &json!({"proxyProtocol": "v3"})).unwrap_err();
    assert!(refused.contains("spec.proxyProtocol") && refused.contains("v2"), "{refused}");
    mesh.east.block_on(policies(&mesh.east, kind).delete("api", &Default::default())).unwrap();
    wait_first("nothing is said any more", b"hello, this ");

    let annotated = |value: &str| {
        let annotations = format!("namespace: shop, annotations: {{isthmus.io/policy: {value:?}}}");
        let export = EXPORT.replacen("namespace: shop", &annotations, 1);
        mesh.east.apply(&export);
    };
    annotated("{proxyProtocol: v2}");
    wait_first("the annotation counts", header);
    annotated("{proxyProtocol: v3}");
    wait_export(
        &mesh.east,
        "api",
        &[("Ready", "True", "isthmus.io/policy: proxyProtocol: found \"v3\", expected off or v2")],
    );
}

//! Whose a pod's address is: known by a watch of all pods, where that is asked for.

use crate::mesh::{API, EXPORT, Imported, Mesh, echo};
use ::kube::{Api, api::DeleteParams};
use isthmus_tests::{Gateway, Topology, client, eventually, topology::gateway};
use k8s_openapi::api::core::v1::Pod;
use std::{io, net::IpAddr};

/// The right to watch pods.
const RBAC: &str = include_str!("../../deploy/rbac-pods.yaml");
/// A pod of the service account `web` at 10.0.0.4, and one of `default` at 10.0.0.5.
const CALLERS: &str = include_str!("manifests/callers.yaml");
const POLICY: &str = "accessPolicies:
  - name: callers
    services: [shop/api]
    rules: [{name: web, from: [{clusters: [west], serviceAccounts: [shop/web]}]}]
accessLog: access.log";

/// What becomes of a client's stream that comes from there.
fn ask(topology: &Topology, host: u8, port: u16) -> io::Result<()> {
    let from = IpAddr::from([10, 0, 0, host]);
    topology.block_on(async {
        let mut stream = client::connect_from(topology.cluster("west").pods(), from, gateway(port)).await?;
        client::exchange(&mut stream, b"may I?").await
    })
}

#[test]
fn a_policy_tells_pods_by_their_service_accounts() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let _echo = echo(&topology, "east");
    mesh.west.apply(RBAC);
    mesh.west.apply(CALLERS);
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    let mut config = mesh.config(&topology, "west");
    config.more = config.more.replace("}}", ", podIdentity: true}}");
    let _west = Gateway::start(topology.cluster("west"), &config);
    let east = Gateway::start(topology.cluster("east"), &mesh.config(&topology, "east").with(POLICY));
    let port = Imported::wait(&mesh.west, "api", &["east"]).port();
    eventually("the front is known", || ask(&topology, 4, port).map_err(|error| error.to_string()));
    assert_eq!(ask(&topology, 5, port).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let log = east.cluster().dir().join("access.log");
    eventually("its access record names source, pod and rule", || {
        let records = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
        let source = records.contains("\"source\":\"spiffe://west.e2e/ns/shop/sa/web\"");
        let who = records.contains("\"source_pod\":\"web-0\",\"policy\":\"callers:web\"");
        if source && who { Ok(()) } else { Err(records) }
    });
    // Its address may be somebody else's soon.
    let pods: Api<Pod> = Api::namespaced(mesh.west.client().clone(), "shop");
    mesh.west.block_on(pods.delete("web-0", &DeleteParams::default())).unwrap();
    eventually("the front is forgotten", || match ask(&topology, 4, port) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

//! Manifests that users of other systems have, as they are.

use crate::mesh::{API, EXPORT, Imported, Mesh, api, wait_echo, wait_export};
use ::kube::{Api, api::DynamicObject, runtime::watcher::Config};
use isthmus_control_kube::{
    api::mcs::{SOURCE_CLUSTER, ServiceImport},
    optional::OptionalKind,
};
use isthmus_tests::{
    Endpoint, Gateway, KubeCluster, Topology, client,
    config::Import,
    endpoint, eventually,
    kube::{self, KubeProxy},
    topology::{GATEWAY, pod},
};
use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};

/// The rights that the systems need which have kinds of their own.
const RBAC: &str = include_str!("../../deploy/rbac-compat.yaml");
const CILIUM: &str = include_str!("manifests/compat/cilium.yaml");
const LINKERD: &str = include_str!("manifests/compat/linkerd.yaml");
const SUBMARINER: &str = include_str!("manifests/compat/submariner.yaml");
const GKE_CRD: &str = include_str!("manifests/compat/gke-crd.yaml");
const GKE: &str = include_str!("manifests/compat/gke.yaml");
const ISTIO_CRD: &str = include_str!("manifests/compat/istio-crd.yaml");
const ISTIO: &str = include_str!("manifests/compat/istio.yaml");
const SKUPPER_CRDS: &str = include_str!("manifests/compat/skupper-crds.yaml");
const CONNECTOR: &str = include_str!("manifests/compat/skupper-connector.yaml");
const LISTENER: &str = include_str!("manifests/compat/skupper-listener.yaml");
const DNS_CRD: &str = include_str!("manifests/compat/external-dns-crd.yaml");
const ISTIO_RULE: &str = include_str!("manifests/compat/istio-rule.yaml");

/// Starts a cluster's gateway, which takes the manifests of these systems.
fn gateway<'a>(mesh: &Mesh, topology: &'a Topology, name: &str, more: &str) -> Gateway<'a> {
    mesh.cluster(name).apply(RBAC);
    let mut config = mesh.config(topology, name);
    config.more = config.more.replacen("}}", &format!(", {more}}}}}"), 1);
    Gateway::start(topology.cluster(name), &config)
}

/// A pod of `app`, at the address where each topology has one.
fn pod_of(labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-0\n  namespace: shop\n  labels: {{{labels}}}\n  \
         annotations: {{test.isthmus.io/ips: 10.0.0.3}}\nspec: {{containers: [{{name: main, image: none}}]}}\n"
    )
}

/// Echoes at the address of a cluster's pod.
fn echo(topology: &Topology, name: &str) -> Endpoint {
    let cluster = topology.cluster(name);
    Endpoint::serve(cluster.pods(), cluster.tasks(), pod(3, 8080), endpoint::echo)
}

/// Waits until clients in west reach an echo by the address of a Service there, as kube-proxy leads them.
fn wait_reached(topology: &Topology, mesh: &Mesh, namespace: &str, service: &str, port: u16) {
    let services: Api<Service> = Api::namespaced(mesh.west.client().clone(), namespace);
    let pods = topology.cluster("west").pods();
    eventually(&format!("{namespace}/{service}:{port} is reached from west"), || {
        let found = mesh.west.block_on(services.get(service)).map_err(|error| error.to_string())?;
        let ip = found.spec.and_then(|spec| spec.cluster_ip).and_then(|ip| ip.parse::<IpAddr>().ok());
        let address = SocketAddr::new(ip.ok_or("it has no address")?, port);
        let exchange = async {
            let mut stream = client::connect(pods, address).await?;
            client::exchange(&mut stream, b"are you there?").await
        };
        topology.block_on(exchange).map(drop).map_err(|error: std::io::Error| error.to_string())
    });
}

/// kube-proxy for the clients in west.
fn proxy(topology: &Topology, mesh: &Mesh) -> KubeProxy {
    let pods = topology.cluster("west").pods();
    pods.ip(&format!("route add 10.96.0.0/16 via {GATEWAY}"));
    KubeProxy::start(&mesh.west, pods, "node-a")
}

/// Waits until the problems that a gateway's registry tells of have all of these parts.
fn wait_problems(gateway: &Gateway<'_>, parts: &[&str]) {
    eventually(&format!("{parts:?} are among the problems"), || {
        let registry = gateway.status()["control"]["registry"].clone();
        let all = registry["problems"].to_string();
        if parts.iter().all(|part| all.contains(part)) { Ok(()) } else { Err(registry.to_string()) }
    });
}

#[test]
fn a_namespace_exports_its_services() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let (_west, _east) = (mesh.gateway(&topology, "west"), mesh.gateway(&topology, "east"));
    mesh.east.apply(API);
    let not = "apiVersion: v1\nkind: Service\nmetadata: {name: not, namespace: shop, annotations: {isthmus.io/export: \"false\"}}\nspec: {ports: [{port: 80}]}\n";
    mesh.east.apply(not);
    let namespaces: Api<Namespace> = Api::all(mesh.east.client().clone());
    let annotate = |word: serde_json::Value| {
        let patch = ::kube::api::Patch::Merge(json!({"metadata": {"annotations": {"isthmus.io/export": word}}}));
        mesh.east.block_on(namespaces.patch("shop", &Default::default(), &patch)).unwrap();
    };
    annotate(json!("true"));
    Imported::wait(&mesh.west, "api", &["east"]);
    assert!(mesh.west.block_on(api::<ServiceImport>(&mesh.west).get_opt("not")).unwrap().is_none());
    annotate(json!(null));
    Imported::wait_gone(&mesh.west, "api");
}

#[test]
fn cilium_a_global_service_leads_to_the_other_cluster() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let _echo = echo(&topology, "east");
    let _west = gateway(&mesh, &topology, "west", "compat: [cilium]");
    let _east = gateway(&mesh, &topology, "east", "compat: [cilium]");
    let _proxy = proxy(&topology, &mesh);
    mesh.west.apply(CILIUM);
    mesh.east.apply(CILIUM);
    mesh.east.apply(&pod_of("name: rebel-base"));
    // West has no pod of its own, and prefers those that it had.
    wait_reached(&topology, &mesh, "shop", "rebel-base", 80);
}

#[test]
fn linkerd_an_exported_service_is_mirrored_and_federated() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let _echo = echo(&topology, "east");
    let _west = gateway(&mesh, &topology, "west", "compat: [linkerd]");
    let _east = gateway(&mesh, &topology, "east", "compat: [linkerd]");
    let _proxy = proxy(&topology, &mesh);
    mesh.east.apply(LINKERD);
    mesh.east.apply(&pod_of("app: podinfo"));
    wait_reached(&topology, &mesh, "shop", "podinfo-east", 9898);
    wait_reached(&topology, &mesh, "shop", "podinfo-federated", 9898);
}

#[test]
fn submariner_an_export_of_the_older_version_is_taken_with_what_it_asks_for_in_vain() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let (_west, _east) = (
        gateway(&mesh, &topology, "west", "compat: [submariner]"),
        gateway(&mesh, &topology, "east", "compat: [submariner]"),
    );
    mesh.east.apply(API);
    mesh.east.apply(SUBMARINER);
    Imported::wait(&mesh.west, "api", &["east"]);
    wait_export(&mesh.east, "api", &[("Ready", "True", "lighthouse.submariner.io/use-clusterset-ip")]);
}

#[test]
fn gke_a_kind_that_comes_later_is_taken_when_it_is_there() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let (_west, east) =
        (gateway(&mesh, &topology, "west", "compat: [gke]"), gateway(&mesh, &topology, "east", "compat: [gke]"));
    let kind = OptionalKind::GkeExport.name();
    eventually("everything else works without it", || {
        let registry = east.status()["control"]["registry"].clone();
        let absent = registry["watches"][kind]["absent"] == true;
        if absent && registry["synced"] == true { Ok(()) } else { Err(registry.to_string()) }
    });
    mesh.east.apply(API);
    mesh.east.apply(GKE_CRD);
    wait_served(&mesh.east, "serviceexports.net.gke.io");
    mesh.east.apply(GKE);
    let imported = Imported::wait(&mesh.west, "api", &["east"]);
    let _echo = echo(&topology, "east");
    wait_echo(&topology, "west", imported.port());
    mesh.east.delete(GKE);
    Imported::wait_gone(&mesh.west, "api");
}

#[test]
fn istio_a_global_service_and_the_shares_of_its_rule() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    for cluster in [&mesh.west, &mesh.east] {
        cluster.apply(ISTIO_CRD);
        wait_served(cluster, "destinationrules.networking.istio.io");
        cluster.apply(ISTIO);
    }
    mesh.west.apply(ISTIO_RULE);
    let _echo = echo(&topology, "east");
    mesh.east.apply(&pod_of("app: helloworld"));
    let west = gateway(&mesh, &topology, "west", "compat: [istio]");
    let _east = gateway(&mesh, &topology, "east", "compat: [istio]");
    wait_slice(&mesh.west, "helloworld", "east");
    // Its shares are taken, and what cannot be had is named.
    wait_problems(
        &west,
        &[
            "connectionPool.tcp.maxConnections",
            "connectionPool.tcp.connectTimeout",
            "loadBalancer.simple",
            "outlierDetection",
        ],
    );
    wait_saved(&topology, "\"clusters\":{\"east\":2400}");
}

/// Waits until the table that west keeps on disk has a part.
fn wait_saved(topology: &Topology, part: &str) {
    let dir = topology.cluster("west").dir().to_owned();
    eventually(&format!("west's table has {part}"), || {
        let found: Vec<_> =
            std::fs::read_dir(dir.join("west-state")).into_iter().flatten().flatten().map(|e| e.path()).collect();
        let texts: Vec<_> = found.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        if texts.iter().any(|text| text.contains(part)) { Ok(()) } else { Err(format!("{found:?}: {texts:?}")) }
    });
}

/// Waits until a kind can be used.
fn wait_served(cluster: &KubeCluster, name: &str) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client().clone());
    let mut path = None;
    cluster.block_on(kube::object(definitions, name, "it is established", |found| {
        let conditions =
            found.and_then(|found| found.status.as_ref()).into_iter().flat_map(|of| of.conditions.iter().flatten());
        let mut conditions = conditions.filter(|of| of.type_ == "Established" && of.status == "True");
        path = found.map(|found| {
            let of = &found.spec;
            format!("/apis/{}/{}/{}", of.group, of.versions[0].name, of.names.plural)
        });
        conditions.next().map(drop).ok_or_else(|| "it is not".into())
    }));
    // It says so a moment before it answers.
    let path = path.unwrap();
    eventually(&format!("{path} is served"), || {
        let request = http::Request::get(&path).body(Vec::new()).unwrap();
        cluster.block_on(cluster.client().request_text(request)).map(drop).map_err(|e| e.to_string())
    });
}

/// Waits until a Service of users has a slice of ours that stands for a cluster.
fn wait_slice(cluster: &KubeCluster, service: &str, source: &str) {
    let which = Config::default().labels(&format!("kubernetes.io/service-name={service},{SOURCE_CLUSTER}={source}"));
    let what = format!("{service} leads to {source}");
    cluster.block_on(kube::watched(api::<EndpointSlice>(cluster), which, &what, |all| {
        all.first().map(drop).ok_or_else(|| "no slice".into())
    }));
}

/// The objects of a kind of another system in a namespace.
fn foreign(cluster: &KubeCluster, kind: OptionalKind, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(cluster.client().clone(), namespace, &kind.resource())
}

#[test]
fn skupper_a_listener_leads_to_a_connector_of_another_namespace() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    for cluster in [&mesh.west, &mesh.east] {
        cluster.apply(SKUPPER_CRDS);
        wait_served(cluster, "listeners.skupper.io");
        wait_served(cluster, "connectors.skupper.io");
    }
    mesh.west.make_namespace("west");
    let _echo = echo(&topology, "east");
    let _west = gateway(&mesh, &topology, "west", "compat: [skupper]");
    let east = gateway(&mesh, &topology, "east", "compat: [skupper]");
    let _proxy = proxy(&topology, &mesh);
    mesh.west.apply(LISTENER);
    mesh.east.apply(CONNECTOR);
    mesh.east.apply(&pod_of("app: backend"));
    wait_reached(&topology, &mesh, "west", "east-backend", 8080);
    // One that is wrong is named.
    mesh.east.apply(&CONNECTOR.replace("name: backend", "name: wrong").replace("app=backend", "app in (a)"));
    wait_problems(&east, &["Connector shop/wrong: spec.selector: found"]);
    mesh.west.delete(LISTENER);
    let services: Api<Service> = Api::namespaced(mesh.west.client().clone(), "west");
    mesh.west.block_on(kube::object(services, "east-backend", "it goes with its Listener", |found| match found {
        None => Ok(()),
        Some(_) => Err("it is there".into()),
    }));
}

#[test]
fn an_address_of_the_gateway_leads_to_a_service_where_the_file_says_so() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    let _echo = echo(&topology, "east");
    let mut config = mesh.config(&topology, "west");
    config.imports.push(Import {
        service: "shop/api".into(),
        port: 80,
        listen: SocketAddr::new(GATEWAY.into(), 5432),
        protocol: "TCP",
        server_names: &[],
    });
    let _west = Gateway::start(topology.cluster("west"), &config);
    let _east = mesh.gateway(&topology, "east");
    mesh.east.apply(API);
    mesh.east.apply(EXPORT);
    wait_echo(&topology, "west", 5432);
}

#[test]
fn an_annotated_export_is_told_to_external_dns() {
    let topology = Topology::west_and_east();
    let mesh = Mesh::start(&topology);
    mesh.east.apply(DNS_CRD);
    wait_served(&mesh.east, "dnsendpoints.externaldns.k8s.io");
    let _east = gateway(&mesh, &topology, "east", "externalDns: {addresses: [203.0.113.7]}");
    mesh.east.apply(API);
    let annotations = "annotations: {external-dns.alpha.kubernetes.io/hostname: api.example.com}";
    mesh.east.apply(&EXPORT.replace("namespace: shop", &format!("namespace: shop, {annotations}")));
    let records = || foreign(&mesh.east, OptionalKind::DnsEndpoint, "shop");
    let expected = json!([{"dnsName": "api.example.com", "recordType": "A", "targets": ["203.0.113.7"]}]);
    eventually("there is a DNSEndpoint", || {
        let found = mesh.east.block_on(records().get("api")).map_err(|error| error.to_string())?;
        if found.data["spec"]["endpoints"] == expected { Ok(()) } else { Err(found.data.to_string()) }
    });
    mesh.east.delete(EXPORT);
    eventually("it goes with its export", || match mesh.east.block_on(records().get_opt("api")) {
        Ok(None) => Ok(()),
        found => Err(format!("{found:?}")),
    });
}

//! What is installed: by the command, and by Helm from the chart.

use ::kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use isthmus_control_kube::api::mcs::ServiceImport;
use isthmus_tests::{
    KubeCluster,
    identity::{isthmus, text},
    kube::{self, Options, program},
};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const SYSTEM: &str = "isthmus-system";

/// Values that turn everything the other way round.
const OTHER: &str = "listenAddress: \"[::]\"\ngateway:\n  replicas: 3\n  drainSeconds: 60\n  \
    service: {type: NodePort, nodePort: 30008, udp: false, annotations: {example.com/a: \"b\"}}\n  nodeSelector: {edge: \"yes\"}\n  \
    tolerations: [{key: edge, operator: Exists}]\ndns: {enabled: true, clusterIP: 10.96.0.53}\n\
    rbac: {namespaces: [shop, web], invitations: false}\nnetworkPolicy: {metricsFrom: [{matchLabels: {name: monitoring}}]}\n\
    image: {repository: \"mirror:5000/isthmus\", tag: v1, pullSecrets: [{name: pull}]}\n\
    compat: [istio, cilium]\nexternalDns: {enabled: true}\ntraces: {endpoint: \"http://collector.monitoring.svc:4317\", ratio: \"0.5\"}\n";

/// Values that leave out what can be left out.
const LESS: &str = "dns: {enabled: false}\nnetworkPolicy: {enabled: false}\npodDisruptionBudget: {enabled: false}\n";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart")
}

fn run(program: &Path, args: &[&str], home: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(args).env_remove("KUBECONFIG");
    for name in ["HOME", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, home);
    }
    command.output().unwrap_or_else(|e| panic!("{}: {e}", program.display()))
}

/// Runs it, which succeeds: what it prints.
fn said(program: &Path, args: &[&str], home: &Path) -> String {
    let output = run(program, args, home);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {}: {}: {err}", program.display(), args.join(" "), output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn objects(yaml: &str) -> BTreeMap<String, Value> {
    let all: Vec<Option<Value>> = serde_saphyr::from_multiple(yaml).unwrap();
    let name = |object: &Value| {
        let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        format!("{} {}/{}", part(&object["kind"]), part(&metadata["namespace"]), part(&metadata["name"]))
    };
    all.into_iter().flatten().map(|object| (name(&object), object)).collect()
}

#[test]
fn helm_and_the_command_install_the_same() {
    let home = tempfile::tempdir().unwrap();
    let values = home.path().join("values.yaml");
    for some in ["{}", OTHER, LESS] {
        std::fs::write(&values, some).unwrap();
        let chart = chart();
        let of_helm = ["template", "isthmus", text(&chart), "--namespace", SYSTEM, "--values", text(&values)];
        let of_helm = [&of_helm[..], &["--include-crds", "--set", "cluster=west,clusterset=demo"]].concat();
        let of_helm = objects(&said(&program("helm"), &of_helm, home.path()));
        let ours =
            ["install", "--cluster", "west", "--clusterset", "demo", "--values", text(&values), "--output", "yaml"];
        let mut ours = objects(&said(&isthmus(), &ours, home.path()));
        let namespace = ours.remove(&format!("Namespace /{SYSTEM}")).unwrap();
        assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
        assert!(of_helm.keys().eq(ours.keys()), "{some}: {:?}\n{:?}", of_helm.keys(), ours.keys());
        for (name, object) in &ours {
            assert_eq!(&of_helm[name], object, "{some}: {name}");
        }
    }
    let chart = chart();
    said(&program("helm"), &["lint", text(&chart), "--strict", "--set", "cluster=west,clusterset=demo"], home.path());
    let wrong = ["template", "isthmus", text(&chart), "--set", "cluster=West,clusterset=demo,gateway.replica=3"];
    let refused = run(&program("helm"), &wrong, home.path());
    let refused = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.contains("/cluster") && refused.contains("replica"), "the schema names what is wrong: {refused}");
}

/// The image as far as it can be had without a container runtime: its files, and nobody's rights.
#[test]
fn what_is_in_the_image_runs_as_nobody() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/image-root.sh");
    said(&script, &[text(&isthmus()), text(&root)], home.path());
    let dockerfile = std::fs::read_to_string(chart().join("../../Dockerfile")).unwrap();
    let user = dockerfile.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    let userspec = format!("--userspec={user}");
    let printed = said(Path::new("chroot"), &[&userspec, text(&root), "/isthmus", "--version"], home.path());
    assert!(printed.starts_with("isthmus "), "{printed}");
}

#[test]
fn the_command_installs_and_takes_out_again() {
    let cluster = KubeCluster::start(&Options::new("west"));
    // One definition is newer than ours, and stays.
    let newer = json!({"metadata": {"labels": {"multicluster.x-k8s.io/release-version": "v9.0.0"}}});
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.client().clone());
    let exports = "serviceexports.multicluster.x-k8s.io";
    let params = ::kube::api::PatchParams::default();
    cluster.block_on(crds.patch(exports, &params, &::kube::api::Patch::Merge(newer))).unwrap();
    let kubeconfig = cluster.kubeconfig();
    let at = ["--kubeconfig", text(&kubeconfig)];
    let install = ["install", "--cluster", "west", "--clusterset", "demo", "--wait", "--output", "json"];
    let install =
        || -> Value { serde_json::from_str(&said(&isthmus(), &[&install[..], &at].concat(), cluster.dir())).unwrap() };
    let word = |said: &Value, object: &str| {
        let all = said["objects"].as_array().unwrap();
        all.iter().find(|line| line["object"] == object).unwrap()["done"].as_str().unwrap().to_owned()
    };
    // The pods run: the namespace takes none but restricted ones.
    let first = install();
    assert_eq!(word(&first, "Secret isthmus-ca"), "created");
    let kept = word(&first, &format!("CustomResourceDefinition {exports}"));
    assert!(kept.starts_with("kept"), "{kept}");
    let labels = cluster.block_on(crds.get(exports)).unwrap().labels().clone();
    assert_eq!(labels["multicluster.x-k8s.io/release-version"], "v9.0.0");
    refuses_others(&cluster);
    // What control has written stays, and a second time changes nothing.
    let secrets: Api<Secret> = Api::namespaced(cluster.client().clone(), SYSTEM);
    let written = json!({"data": {"ca.pem": "eA=="}});
    cluster.block_on(secrets.patch("isthmus-ca", &params, &::kube::api::Patch::Merge(written))).unwrap();
    let second = install();
    let is_same = |done: &str| done == "unchanged" || done.starts_with("kept") || done.ends_with("pods run");
    let all = second["objects"].as_array().unwrap().iter();
    let changed: Vec<_> = all.filter(|line| !is_same(line["done"].as_str().unwrap())).collect();
    assert!(changed.is_empty(), "{changed:?}");
    let kept = cluster.block_on(secrets.get("isthmus-ca")).unwrap().data.unwrap();
    assert_eq!(kept["ca.pem"].0, b"x");
    // Nothing shows keys, and nothing is printed where one would be.
    let home = cluster.dir().join("identity");
    let init = ["identity", "init", "--clusterset", "demo", "--cluster", "west", "--out", text(&home)];
    said(&isthmus(), &init, cluster.dir());
    let print = ["install", "--cluster", "west", "--clusterset", "demo", "--identity", text(&home), "--output", "yaml"];
    assert_eq!(run(&isthmus(), &print, cluster.dir()).status.code(), Some(2));
    let bring = ["install", "--cluster", "west", "--clusterset", "demo", "--identity", text(&home)];
    let refused = run(&isthmus(), &[&bring[..], &at].concat(), cluster.dir());
    let err = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && err.contains("found another CA"), "{err}");
    // With other values, what they leave out goes; what somebody else has made stays.
    cluster.make_namespace("shop");
    let own = json!({"metadata": {"name": "own", "labels": {"app.kubernetes.io/name": "isthmus"}}});
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().clone(), SYSTEM);
    cluster.block_on(maps.create(&PostParams::default(), &serde_json::from_value(own).unwrap())).unwrap();
    let values = cluster.dir().join("values.yaml");
    std::fs::write(&values, format!("{LESS}rbac: {{namespaces: [shop]}}\n")).unwrap();
    let less = ["install", "--cluster", "west", "--clusterset", "demo", "--values", text(&values), "--output", "json"];
    let less: Value = serde_json::from_str(&said(&isthmus(), &[&less[..], &at].concat(), cluster.dir())).unwrap();
    for gone in ["ClusterRoleBinding isthmus-imports", "Service isthmus-dns", "NetworkPolicy isthmus-control"] {
        assert_eq!(word(&less, gone), "deleted");
    }
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.client().clone());
    assert!(cluster.block_on(bindings.get_opt("isthmus-imports")).unwrap().is_none());
    cluster.block_on(maps.delete("own", &Default::default())).unwrap();
    // Another namespace is refused, and left as it is.
    for command in [&["install", "--cluster", "west", "--clusterset", "demo"][..], &["uninstall"]] {
        let refused = run(&isthmus(), &[command, &at, &["--namespace", "shop"]].concat(), cluster.dir());
        let err = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && err.contains("found isthmus in isthmus-system"), "{err}");
    }
    // An import, as control makes it of an export of this cluster's own: nobody else deletes it.
    cluster.apply(
        "{apiVersion: multicluster.x-k8s.io/v1beta1, kind: ServiceImport, metadata: {name: api, namespace: shop, \
         labels: {app.kubernetes.io/managed-by: isthmus}}, spec: {type: ClusterSetIP, ports: [{port: 80}]}}",
    );
    said(&isthmus(), &[&["uninstall"][..], &at].concat(), cluster.dir());
    nothing_left(&cluster);
    let imports: Api<ServiceImport> = Api::namespaced(cluster.client().clone(), "shop");
    assert!(cluster.block_on(imports.get_opt("api")).unwrap().is_none());
    let kept = cluster.block_on(secrets.get("isthmus-ca")).unwrap().data.unwrap();
    assert_eq!(kept["ca.pem"].0, b"x", "the CA stays");
}

/// The namespace takes no pod that is not restricted.
fn refuses_others(cluster: &KubeCluster) {
    let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), SYSTEM);
    let pod = json!({"metadata": {"name": "other"}, "spec": {"containers": [{"name": "a", "image": "none"}]}});
    let refused = cluster.block_on(pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()));
    assert!(refused.unwrap_err().to_string().contains("PodSecurity \"restricted"));
}

#[test]
fn helm_installs_upgrades_and_takes_out_again() {
    let cluster = KubeCluster::start(&Options::new("west"));
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {SYSTEM}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
    ));
    let (helm, kubeconfig) = (program("helm"), cluster.kubeconfig());
    let set = "cluster=west,clusterset=demo,gateway.service.type=ClusterIP";
    let helm = |args: &[&str]| {
        let at = ["--kubeconfig", text(&kubeconfig), "--namespace", SYSTEM];
        said(&helm, &[args, &at[..]].concat(), cluster.dir())
    };
    // From the chart as it was shipped first, which brings its own definitions.
    let crds: Api<CustomResourceDefinition> = Api::all(cluster.client().clone());
    let links = "clusterlinks.isthmus.io";
    cluster.block_on(crds.delete(links, &DeleteParams::default())).unwrap();
    cluster.block_on(kube::object(crds.clone(), links, "its definition goes", |found| {
        if found.is_none() { Ok(()) } else { Err("it is there".to_owned()) }
    }));
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/isthmus-0.1.0.tgz");
    helm(&["install", "isthmus", text(&first), "--set", set, "--wait", "--timeout", "5m"]);
    refuses_others(&cluster);
    let secrets: Api<Secret> = Api::namespaced(cluster.client().clone(), SYSTEM);
    let written = json!({"data": {"ca.pem": "eA=="}});
    let params = ::kube::api::PatchParams::default();
    cluster.block_on(secrets.patch("isthmus-ca", &params, &::kube::api::Patch::Merge(written))).unwrap();
    // Server-side, every object, before anything is changed.
    let chart = chart();
    let more = format!("{set},gateway.replicas=3");
    let revision = || cluster.block_on(crds.get(links)).unwrap().labels()["isthmus.io/crd-schema-revision"].clone();
    assert_eq!(revision(), "1");
    // As the guide says: Helm changes no definition that is there.
    cluster.apply(&std::fs::read_to_string(chart.join("crds/isthmus.io_clusterlinks.yaml")).unwrap());
    assert_ne!(revision(), "1");
    helm(&["upgrade", "isthmus", text(&chart), "--set", &more, "--dry-run=server"]);
    helm(&["upgrade", "isthmus", text(&chart), "--set", &more, "--wait", "--timeout", "5m"]);
    let deployments: Api<Deployment> = Api::namespaced(cluster.client().clone(), SYSTEM);
    cluster.block_on(kube::object(deployments, "isthmus-gateway", "three gateways run", |found| {
        let ready = found.and_then(|found| found.status.as_ref()?.available_replicas);
        if ready == Some(3) { Ok(()) } else { Err(format!("{ready:?}")) }
    }));
    let kept = cluster.block_on(secrets.get("isthmus-ca")).unwrap().data.unwrap();
    assert_eq!(kept["ca.pem"].0, b"x", "an upgrade leaves what control has written");
    helm(&["uninstall", "isthmus", "--wait", "--timeout", "5m"]);
    nothing_left(&cluster);
    let kept = cluster.block_on(secrets.get("isthmus-ca")).unwrap().data.unwrap();
    assert_eq!(kept["ca.pem"].0, b"x", "the CA stays");
}

/// Nothing of ours is there any more, but for definitions, the namespace and the CA.
fn nothing_left(cluster: &KubeCluster) {
    let ours = ListParams::default().labels("app.kubernetes.io/name=isthmus");
    macro_rules! none {
        ($($kind:ident),*) => {$(
            let api: Api<$kind> = Api::all(cluster.client().clone());
            let found = cluster.block_on(api.list(&ours)).unwrap();
            let names = found.iter().map(|object| object.name_any()).filter(|name| name != "isthmus-ca");
            let names: Vec<_> = names.collect();
            assert!(names.is_empty(), "{}: {names:?}", stringify!($kind));
        )*};
    }
    none!(Deployment, Service, Secret, ConfigMap, ServiceAccount, Role, RoleBinding, ClusterRole, ClusterRoleBinding);
    none!(PodDisruptionBudget, NetworkPolicy);
}

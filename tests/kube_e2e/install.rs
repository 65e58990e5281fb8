//! From nothing to two linked clusters: what `isthmus install` puts there runs as it is, but for paths and addresses.
//!
//! ```text
//!  west-edge 10.0.0.1: API server, isthmus control (isthmus-control's rights), isthmus gateway (none) ── wan ── east-edge …
//! ```

use crate::mesh::{API, EXPORT, Imported, SHOP, echo, wait_echo};
use ::kube::{
    Api,
    api::{Patch, PatchParams},
};
use isthmus_control_kube::api::link::ClusterLink;
use isthmus_tests::{
    Clock, Cluster, Gateway, KubeCluster, Part, Surroundings, Topology, admin, client, eventually,
    identity::{self, text},
    kube::{self, Kubelet, Options},
    linking::{self, Said},
    topology::{self, CLUSTERSET, gateway},
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use serde_json::json;
use std::path::Path;

const SYSTEM: &str = "isthmus-system";

/// Both clusters, with what is installed; nothing of ours runs yet.
fn install(topology: &Topology) -> ([KubeCluster; 2], Clock) {
    let names = ["west", "east"];
    let options = names.map(|name| Options::new(name).inside(topology.cluster(name).edge(), topology::GATEWAY));
    let clusters = KubeCluster::start_all(&options);
    let mut clock = Clock::start();
    for cluster in &clusters {
        assert_eq!(failed(topology, cluster, &["--before"]), [""; 0], "nothing is in the way");
        assert_eq!(failed(topology, cluster, &[]), ["kubernetes.installed"]);
        clock.leave_out();
        let said =
            operate(topology, cluster, &["install", "--cluster", cluster.name(), "--clusterset", CLUSTERSET], "");
        assert_eq!(said.code, Some(0), "{said:?}");
        clock.step("`isthmus install` in a cluster: definitions, rights, workloads");
        // Its pods count as available, and nobody has made a CA.
        assert_eq!(failed(topology, cluster, &[]), ["kubernetes.ca"]);
        cluster.make_namespace(SHOP);
        clock.leave_out();
    }
    (clusters, clock)
}

/// What `isthmus check` says has failed.
fn failed(topology: &Topology, cluster: &KubeCluster, args: &[&str]) -> Vec<String> {
    let said = operate(topology, cluster, &[&["check", "--output", "json"], args].concat(), "");
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    let lines = report["lines"].as_array().unwrap().iter().filter(|line| line["mark"] == "failed");
    let failed: Vec<_> = lines.map(|line| line["check"].as_str().unwrap().to_owned()).collect();
    assert_eq!(said.code, Some(if failed.is_empty() { 0 } else { 3 }), "{said:?}");
    failed
}

/// Runs a command as the cluster's operator.
fn operate(topology: &Topology, cluster: &KubeCluster, args: &[&str], input: &str) -> Said {
    let kubeconfig = cluster.kubeconfig_inside();
    let args = [args, &["--kubeconfig", text(&kubeconfig)]].concat();
    linking::run_bare(topology.cluster(cluster.name()), &args, input)
}

/// A cluster whose control and gateway run.
struct Running<'a> {
    control: Gateway<'a>,
    gateway: Gateway<'a>,
    _kubelet: Kubelet,
}

impl<'a> Running<'a> {
    /// Starts both by the configurations that are installed.
    fn start(topology: &'a Topology, cluster: &KubeCluster) -> Self {
        let at = topology.cluster(cluster.name());
        let control = control_yaml(at, cluster);
        let control = Gateway::start_part(at, Part::Control, &control, &Surroundings::default());
        let mounts = ["identity", "trust"].map(|name| at.dir().join("mounted").join(name));
        let [identity, trust] = mounts.clone();
        let volumes = vec![("isthmus-gateway".to_owned(), identity), ("isthmus-trust".to_owned(), trust)];
        let kubelet = Kubelet::start(cluster, SYSTEM, volumes);
        let [identity, trust] = &mounts;
        // A pod waits for its volumes.
        eventually("control has made the gateways' SVID", || {
            let there = identity.join("svid.key").is_file() && trust.is_dir();
            if there { Ok(()) } else { Err(control.log()) }
        });
        let text = configuration(cluster, "gateway.yaml")
            .replace("/etc/isthmus/identity", text(identity))
            .replace("/etc/isthmus/trust", text(trust))
            .replace("/var/lib/isthmus/state", text(&at.dir().join("gateway-state")))
            .replace("0.0.0.0:15020", &admin::ADDRESS.to_string())
            .replace(&format!("isthmus-control.{SYSTEM}.svc"), &topology::GATEWAY.to_string());
        let gateway = Gateway::start_part(at, Part::Gateway, &text, &Surroundings::default());
        Self { control, gateway, _kubelet: kubelet }
    }
}

/// The configuration of control as it is installed, with the rights that are.
fn control_yaml(at: &Cluster, cluster: &KubeCluster) -> String {
    let kubeconfig = cluster.kubeconfig_of(SYSTEM, "isthmus-control");
    configuration(cluster, "control.yaml")
        .replace("/var/lib/isthmus", text(&at.dir().join("control")))
        .replace("0.0.0.0:15020", &admin::CONTROL.to_string())
        .replace("  kubernetes:\n", &format!("  kubernetes:\n    kubeconfig: \"{}\"\n", kubeconfig.display()))
}

fn configuration(cluster: &KubeCluster, file: &str) -> String {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().clone(), SYSTEM);
    let map = cluster.block_on(maps.get("isthmus")).unwrap();
    map.data.unwrap()[file].clone()
}

/// A list of the cluster's CA by which this SVID is revoked, in base64.
fn revocations(cluster: &KubeCluster, svid: &Path) -> ByteString {
    let (home, ca) = (tempfile::tempdir().unwrap(), cluster.block_on(secrets(cluster).get("isthmus-ca")).unwrap());
    for (name, text) in ca.data.unwrap() {
        std::fs::write(home.path().join(name), text.0).unwrap();
    }
    std::fs::copy(svid, home.path().join("svid.pem")).unwrap();
    ByteString(std::fs::read(identity::revoke(home.path())).unwrap())
}

fn secrets(cluster: &KubeCluster) -> Api<Secret> {
    Api::namespaced(cluster.client().clone(), SYSTEM)
}

fn links(cluster: &KubeCluster) -> Api<ClusterLink> {
    Api::all(cluster.client().clone())
}

/// Waits until a condition of a link is so, with `part` in its message.
fn wait_link(cluster: &KubeCluster, peer: &str, wanted: (&str, &str), part: &str) {
    cluster.block_on(kube::object(links(cluster), peer, &format!("its link says {wanted:?} {part}"), |link| {
        let conditions = link.and_then(|link| link.status.as_ref()).map(|status| &status.conditions);
        let is_so = conditions
            .into_iter()
            .flatten()
            .any(|found| (found.type_.as_str(), found.status.as_str()) == wanted && found.message.contains(part));
        if is_so { Ok(()) } else { Err(format!("{conditions:?}")) }
    }));
}

#[test]
fn two_commands_link_two_clusters_that_were_installed_by_one_each() {
    let topology = Topology::strangers();
    let ([west, east], mut clock) = install(&topology);
    let west_runs = Running::start(&topology, &west);
    clock.step("a control, its CA and SVID, and a gateway are ready in west");
    let east_runs = Running::start(&topology, &east);
    clock.step("the same in east");
    let address = topology.cluster("east").tunnel_address().to_string();
    let invited = operate(&topology, &east, &["invite", "--endpoint", &address], "");
    assert_eq!(invited.code, Some(0), "{invited:?}");
    clock.step("`isthmus invite` in east");
    let token = invited.out.trim();
    let joined = operate(&topology, &west, &["join", "-"], token);
    assert_eq!(joined.code, Some(0), "{joined:?}");
    clock.step("`isthmus join` in west: the link is up");
    assert!(joined.out.contains("Linked west with east") && joined.out.contains("The link is up."), "{joined:?}");
    wait_link(&east, "west", ("Established", "True"), "");
    wait_link(&east, "west", ("TrustValid", "True"), "");
    let again = operate(&topology, &west, &["join", "-"], token);
    assert!(again.code == Some(1) && again.err.contains("was used before"), "{again:?}");

    // A service of east, used in west.
    let _api = echo(&topology, "east");
    clock.leave_out();
    east.apply(API);
    east.apply(EXPORT);
    clock.step("a Service and its ServiceExport are applied in east");
    let port = Imported::wait(&west, "api", &["east"]).port();
    clock.step("west has the import, its Service and its slices, whole");
    wait_echo(&topology, "west", port);
    clock.step("a client in west has an answer from east");
    // Shown with --nocapture: a newcomer's clock (benches/README.md).
    println!("{clock}");

    // The gateways' SVID is another, and taken up from the volume, while a stream goes on.
    let at = topology.cluster("west");
    let mut stream = topology.block_on(client::connect(at.pods(), gateway(port))).unwrap();
    topology.block_on(client::exchange(&mut stream, b"before")).unwrap();
    let ends = |runs: &Running<'_>| runs.gateway.status()["identity"]["not_after"].to_string();
    let before = ends(&west_runs);
    let none = json!({"data": {"svid.pem": null}});
    west.block_on(secrets(&west).patch("isthmus-gateway", &PatchParams::default(), &Patch::Merge(none))).unwrap();
    eventually("the gateway has a new SVID", || {
        let now = ends(&west_runs);
        if now != before { Ok(()) } else { Err(west_runs.gateway.status()["identity"].to_string()) }
    });
    topology.block_on(client::exchange(&mut stream, b"after")).unwrap();
    wait_echo(&topology, "west", port);

    // So is one that the CA has revoked, by a list that gateways are told of.
    let mounted = at.dir().join("mounted/identity");
    let svid = || std::fs::read(mounted.join("svid.pem")).unwrap();
    let before = svid();
    let list = revocations(&west, &mounted.join("svid.pem"));
    let list = json!({"data": {"crl.pem": list}});
    west.block_on(secrets(&west).patch("isthmus-ca", &PatchParams::default(), &Patch::Merge(list))).unwrap();
    eventually("gateways are given the list, and a new SVID", || {
        let given = mounted.join("crl.pem").is_file() && svid() != before;
        if given { Ok(()) } else { Err(west_runs.control.log()) }
    });
    topology.block_on(client::exchange(&mut stream, b"after that")).unwrap();
    wait_echo(&topology, "west", port);

    // Neither log has what is secret.
    for log in [east_runs.control.log(), east_runs.gateway.log(), west_runs.control.log()] {
        assert!(!log.contains(token.trim_start_matches("isthmus1_")) && !log.contains("PRIVATE KEY"), "{log}");
    }

    // East alone ends it: streams break, and west is not let in any more.
    let unlinked = operate(&topology, &east, &["unlink", "west"], "");
    assert_eq!(unlinked.code, Some(0), "{unlinked:?}");
    wait_link(&west, "east", ("Established", "False"), "");
    assert!(topology.block_on(client::exchange(&mut stream, b"and now")).is_err());
    east.block_on(kube::object(secrets(&east), "isthmus-trust", "west is not trusted any more", |secret| {
        let data = secret.and_then(|secret| secret.data.as_ref());
        if data.is_none_or(std::collections::BTreeMap::is_empty) {
            Ok(())
        } else {
            Err(format!("{:?}", data.map(|data| data.keys())))
        }
    }));
}

#[test]
fn manifests_that_were_generated_link_and_what_is_wrong_with_a_secret_shows() {
    let topology = Topology::strangers();
    let ([west, east], _) = install(&topology);
    let (_west, _east) = (Running::start(&topology, &west), Running::start(&topology, &east));
    let address = topology.cluster("east").tunnel_address().to_string();
    let of_east = operate(&topology, &east, &["link", "generate", "--endpoint", &address], "");
    let of_west = operate(&topology, &west, &["link", "generate", "--dialled-by-us"], "");
    for said in [&of_east, &of_west] {
        assert!(said.code == Some(0) && !said.out.contains("KEY"), "{said:?}");
    }
    east.apply(&of_west.out);
    // Half of it: the link, and nothing that it is trusted by.
    let (secret, link) = of_east.out.split_once("\n---\n").unwrap();
    west.apply(link);
    wait_link(&west, "east", ("TrustValid", "False"), "found no Secret isthmus-link-east");
    west.apply(&secret.replace("CERTIFICATE", "NOTHING"));
    wait_link(&west, "east", ("TrustValid", "False"), "the Secret isthmus-link-east: ca.pem: ");
    west.apply(secret);
    for (cluster, peer) in [(&west, "east"), (&east, "west")] {
        wait_link(cluster, peer, ("Established", "True"), "");
        wait_link(cluster, peer, ("TrustValid", "True"), "");
    }
    // Without its Secret a link is not trusted any more.
    west.delete(secret);
    wait_link(&west, "east", ("Established", "False"), "");
    wait_link(&west, "east", ("TrustValid", "False"), "found no Secret");
    // It is no new link for that: whoever comes by the name of the other cluster has to be let in.
    let invited = operate(&topology, &east, &["invite", "--endpoint", &address], "");
    assert_eq!(invited.code, Some(0), "{invited:?}");
    let joined = operate(&topology, &west, &["join", "-"], invited.out.trim());
    assert!(joined.code == Some(1) && joined.err.contains("east may be trusted already"), "{joined:?}");
    assert!(west.block_on(secrets(&west).get_opt("isthmus-link-east")).unwrap().is_none());
}

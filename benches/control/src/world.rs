//! West, a cluster of Kubernetes, with control and gateway apart; east, which imports from it; and peers.

use crate::{
    objects::{self, NAMESPACE},
    observer::Observer,
    peers::{self, Peer},
};
use isthmus_control_api::ServiceName;
use isthmus_tests::{
    KubeCluster, Netns, Process,
    admin::{self, Metrics},
    identity::{self, isthmus, text},
    kube::Options,
};
use serde_json::Value;
use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) const CLUSTERSET: &str = "bench";
/// Where the services are that all peers export.
pub(crate) const SHARED: &str = "shared";
/// Of west's services, so many are imported by east.
pub(crate) const IMPORTED: usize = 100;
/// Where west takes tunnels.
pub(crate) const TUNNEL: SocketAddr = at(1, 15008);
const SYSTEM: &str = "isthmus-system";
const RBAC: &str = include_str!("../../../deploy/rbac.yaml");
/// Stands for the gateway's pod.
const GATEWAY: &str = include_str!("../../../tests/kube_e2e/manifests/gateway.yaml");
/// A bound for waiting: large clusters take their time.
const PATIENCE: Duration = Duration::from_secs(2400);

/// On loopback of the namespace.
const fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), port)
}

const CONTROL: SocketAddr = at(1, 15010);
const CONTROL_ADMIN: SocketAddr = at(1, 15021);
const EAST_CONTROL: SocketAddr = at(2, 15010);

/// Where east has its import of west's service of this number.
pub(crate) fn import_address(number: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(127, 2, 0, 1).into(), 20000 + number as u16)
}

/// One of west's services.
///
/// # Panics
/// If `name` is no name.
pub(crate) fn service(name: &str) -> ServiceName {
    format!("{NAMESPACE}/{name}").parse().unwrap_or_else(|e| panic!("{e}"))
}

/// Everything. In the order in which it is to end.
pub(crate) struct World {
    /// Sees what west's gateways get.
    pub(crate) here: Observer,
    /// Sees what east's gateways get.
    pub(crate) there: Observer,
    /// West's control.
    pub(crate) control: Process,
    /// West's gateway.
    pub(crate) gateway: Process,
    peers: Vec<Peer>,
    _east: [Process; 2],
    /// West's API server.
    pub(crate) west: KubeCluster,
    services: usize,
    shared: usize,
    /// How long the last growth took to be whole.
    pub(crate) settled_in: Duration,
    dir: tempfile::TempDir,
}

impl World {
    /// West without services, and east, linked.
    ///
    /// # Panics
    /// If something does not start.
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("isthmus-bench-").tempdir();
        let dir = dir.unwrap_or_else(|e| panic!("a temporary directory: {e}"));
        let west =
            KubeCluster::start(&Options::new("west").service_cidrs(&["10.96.0.0/16"]).pod_cidrs(&["10.244.0.0/16"]));
        for namespace in [SYSTEM, NAMESPACE, SHARED] {
            west.make_namespace(namespace);
        }
        west.apply(RBAC);
        west.apply(GATEWAY);
        west.apply(&link("east"));
        let netns = west.netns().clone();
        for name in ["west", "east"] {
            let identity = dir.path().join(name);
            identity::init(CLUSTERSET, name, "24h", &identity);
            let id = format!("spiffe://{name}.{CLUSTERSET}/ns/{SYSTEM}/sa/control");
            identity::issue(&identity, &id, &dir.path().join(format!("{name}-control")));
        }
        for (name, other) in [("west", "east"), ("east", "west")] {
            identity::trust(&dir.path().join(name), other, &dir.path().join(other).join("ca.pem"));
        }
        let kubeconfig = west.kubeconfig_of(SYSTEM, "isthmus");
        let registry =
            format!("registry: {{kubernetes: {{kubeconfig: \"{}\", ports: 20000-29999}}}}\n", kubeconfig.display());
        let control = start(&netns, dir.path(), "west", "control", &control("west", CONTROL, CONTROL_ADMIN, &registry));
        let gateway = start(&netns, dir.path(), "west", "gateway", &gateway("west", TUNNEL, at(1, 15020), CONTROL));
        let mut imports = format!("links: [{{cluster: west, endpoints: [\"{TUNNEL}\"], transport: tls}}]\nimports:\n");
        for number in 0..IMPORTED {
            let (service, listen) = (service(&objects::name(number)), import_address(number));
            // Writing into a string cannot fail.
            let _ = writeln!(imports, "  - {{service: {service}, port: 80, listen: \"{listen}\"}}");
        }
        let of_east = control_yaml_of_east(&imports);
        let east = [
            start(&netns, dir.path(), "east", "control", &of_east),
            start(
                &netns,
                dir.path(),
                "east",
                "gateway",
                &self::gateway("east", at(2, 15008), at(2, 15020), EAST_CONTROL),
            ),
        ];
        let here = Observer::start(&netns, &dir.path().join("west"), CONTROL);
        let there = Observer::start(&netns, &dir.path().join("east"), EAST_CONTROL);
        Self {
            here,
            there,
            control,
            gateway,
            peers: Vec::new(),
            _east: east,
            west,
            services: 0,
            shared: 0,
            settled_in: Duration::ZERO,
            dir,
        }
    }

    /// Services of west.
    pub(crate) fn services(&self) -> usize {
        self.services
    }

    /// Peers, but for east.
    pub(crate) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Services that each of them exports.
    pub(crate) fn shared(&self) -> usize {
        self.shared
    }

    /// Makes services of west until there are so many, and waits until its own gateways and east's have them.
    pub(crate) fn grow_services(&mut self, to: usize) {
        let begun = Instant::now();
        objects::make(&self.west, self.services..to);
        self.services = to;
        self.wait("all services are in the tables", || {
            let (here, there) = (self.here.now(), self.there.now());
            let local =
                here.exports.values().filter(|export| export.endpoints.len() == objects::ENDPOINTS as usize).count();
            let remote = there.imports.values().filter(|import| !import.clusters.is_empty()).count();
            let whole = local == to && remote == to.min(IMPORTED);
            if whole { Ok(()) } else { Err(format!("{local} of {to} here, {remote} in east")) }
        });
        self.finish_growth(begun);
    }

    /// Starts peers, each with so many services, and waits until west has imported all.
    pub(crate) fn grow_peers(&mut self, to: usize, services: usize) {
        let begun = Instant::now();
        self.peers.iter().for_each(|peer| peer.export(services));
        let netns: Arc<Netns> = self.west.netns().clone();
        for number in self.peers.len()..to {
            self.west.apply(&link(&peers::name(number)));
            let peer = Peer::start(&netns, self.dir.path(), &self.dir.path().join("west"), number, services);
            self.peers.push(peer);
        }
        self.shared = services;
        self.wait("all services of all peers are imported", || {
            let table = self.here.now();
            let of_peers = table.imports.values().filter(|import| import.service.service.as_str().starts_with(SHARED));
            let whole = of_peers.filter(|import| import.clusters.len() == to).count();
            if whole == services { Ok(()) } else { Err(format!("{whole} of {services} are whole")) }
        });
        self.finish_growth(begun);
    }

    /// Waits until control has written all that it wants to.
    fn finish_growth(&mut self, begun: Instant) {
        let mut last = (Value::Null, Instant::now());
        self.wait("control has written everything", || {
            let writes = self.status()["control"]["registry"]["writes"].clone();
            if writes != last.0 {
                last = (writes.clone(), Instant::now());
            }
            // Statuses are written with pauses of some seconds.
            if last.1.elapsed() > Duration::from_secs(10) { Ok(()) } else { Err(writes.to_string()) }
        });
        self.settled_in = last.1.duration_since(begun);
    }

    /// What west's control says of itself.
    pub(crate) fn status(&self) -> Value {
        let answer = admin::get(self.west.netns(), CONTROL_ADMIN, "/status");
        answer.ok().and_then(|(_, body)| serde_json::from_str(&body).ok()).unwrap_or_default()
    }

    /// The metrics of west's control.
    ///
    /// # Panics
    /// If it does not answer.
    pub(crate) fn metrics(&self) -> Metrics {
        let answer = admin::get(self.west.netns(), CONTROL_ADMIN, "/metrics");
        Metrics::parse(&answer.unwrap_or_else(|e| panic!("/metrics: {e}")).1)
    }

    fn wait(&self, what: &str, mut probe: impl FnMut() -> Result<(), String>) {
        let (begun, mut told) = (Instant::now(), Instant::now());
        while let Err(why) = probe() {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {why}\n{}", self.control.log());
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                println!("  … {} s: {what}: {why}", begun.elapsed().as_secs());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// CPU seconds of all peers.
    pub(crate) fn peers_cpu(&self) -> f64 {
        self.peers.iter().map(|peer| crate::point::cpu(peer.pid())).sum()
    }
}

fn link(peer: &str) -> String {
    format!("apiVersion: isthmus.io/v1alpha1\nkind: ClusterLink\nmetadata: {{name: {peer}}}\nspec: {{}}\n")
}

fn control(name: &str, listen: SocketAddr, admin: SocketAddr, more: &str) -> String {
    format!(
        "clusterset: {CLUSTERSET}\ncluster: {name}\nidentity: {name}-control\nadmin: \"{admin}\"\nstate: {name}-control-state\n\
         control: {{listen: \"{listen}\"}}\n{more}"
    )
}

fn control_yaml_of_east(more: &str) -> String {
    control("east", EAST_CONTROL, at(2, 15021), more)
}

fn gateway(name: &str, tunnel: SocketAddr, admin: SocketAddr, control: SocketAddr) -> String {
    format!(
        "clusterset: {CLUSTERSET}\ncluster: {name}\nidentity: {name}\ntunnel: {{listen: \"{tunnel}\"}}\nadmin: \"{admin}\"\n\
         state: {name}-gateway-state\ncontrol: {{address: \"{control}\"}}\n"
    )
}

fn start(netns: &Netns, dir: &Path, cluster: &str, part: &str, yaml: &str) -> Process {
    let name = format!("{cluster}-{part}");
    let path = dir.join(format!("{name}.yaml"));
    std::fs::write(&path, yaml).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Process::start(netns, &name, &dir.join(format!("{name}.log")), &isthmus(), &[part, "--config", text(&path)])
}

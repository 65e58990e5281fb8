//! Two controls and two gateways of west, each a process of its own: controls die, stall and are cut off, and so does the API server.
//!
//! ```text
//!  west-1: control, gateway ─┐
//!                            ├─ wan ─ east-1: west's API server, and all of east
//!  west-2: control, gateway ─┘
//! ```

use crate::mesh::{ACCOUNT, GATEWAY, Imported, RBAC, SHOP, SYSTEM, link};
use ::kube::{Api, api::DeleteParams};
use isthmus_control_kube::registry::LEASE;
use isthmus_tests::{
    Cluster, Config, Gateway, KubeCluster, Load, Nginx, Part, Surroundings, Topology, apart, eventually, identity,
    kube::Options,
    load::Reuse,
    several,
    topology::{gateway, pod},
};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};

/// What gateways call control: a name with the addresses of both.
const CONTROL: &str = "isthmus-control:15010";

struct Replicas<'t> {
    topology: &'t Topology,
    kube: KubeCluster,
    controls: [Gateway<'t>; 2],
    gateways: [Gateway<'t>; 2],
    east: Gateway<'t>,
    /// How many endpoints east exports.
    exported: u8,
    /// Where west's gateways have the service.
    port: u16,
    _served: Nginx,
}

impl<'t> Replicas<'t> {
    /// Starts everything; the second control with this clock.
    fn start(topology: &'t Topology, clock: Option<&str>) -> Self {
        let (west, east) = (apart::of(topology, "west"), topology.cluster("east-1"));
        let kube = KubeCluster::start(&Options::new("west").inside(east.edge(), address(east)));
        kube.make_namespace(SYSTEM);
        kube.make_namespace(SHOP);
        kube.apply(RBAC);
        kube.apply(GATEWAY);
        kube.apply(&link("east", &several::endpoints(&[east])));
        let served = Nginx::start(east.pods(), east.dir(), pod(2, 8080), "served");
        let east = Gateway::start(east, &east_config(east, 1));
        let clocks = [None, clock.map(str::to_owned)];
        let controls = [0, 1].map(|n| {
            let surroundings = Surroundings { clock: clocks[n].clone(), ..Surroundings::default() };
            Gateway::start_part(west[n], Part::Control, &control_yaml(&kube, west[0], west[n]), &surroundings)
        });
        let hosts = topology.dir().join("hosts");
        let names = west.map(|at| format!("{} isthmus-control\n", address(at)));
        std::fs::write(&hosts, format!("127.0.0.1 localhost\n{}", names.concat())).unwrap();
        let gateways = west.map(|at| {
            let yaml = apart::gateway_yaml(at, apart::control_address(at));
            let yaml = yaml.replace(&apart::control_address(at).to_string(), CONTROL);
            let surroundings = Surroundings { hosts: Some(hosts.clone()), ..Surroundings::default() };
            Gateway::start_part(at, Part::Gateway, &yaml, &surroundings)
        });
        let port = Imported::wait(&kube, "api", &["east"]).port();
        let replicas = Self { topology, kube, controls, gateways, east, exported: 1, port, _served: served };
        replicas.wait_served();
        replicas
    }

    /// Clients of both gateways.
    fn loads(&self) -> [Load; 2] {
        let at = gateway(self.port);
        let loads =
            self.gateways.each_ref().map(Gateway::cluster).map(|cluster| {
                Load::start(cluster.pods(), cluster.tasks(), at, 2, Reuse::ConnectionPerRequest, "served")
            });
        loads.iter().for_each(|load| load.wait_for(50));
        loads
    }

    /// Waits until one of these leads and both gateways have its newest table; which one.
    fn wait_leader(&self, among: &[usize]) -> usize {
        let leader = eventually("one of the controls leads", || {
            let pushes: Vec<_> = among.iter().map(|&n| (n, self.push(n))).collect();
            let leads: Vec<_> = pushes.iter().filter(|(_, push)| !push["term"].is_null()).collect();
            if let [(leader, _)] = leads[..] { Ok(*leader) } else { Err(format!("{pushes:?}")) }
        });
        eventually("both gateways have its newest table", || {
            let push = self.push(leader);
            let gateways = push["gateways"].as_array().map(Vec::as_slice).unwrap_or_default();
            let has = |gateway: &Value| gateway["tableVersion"] == push["tableVersion"];
            if gateways.len() == 2 && gateways.iter().all(has) { Ok(()) } else { Err(push.to_string()) }
        });
        leader
    }

    /// Waits until a control has no term and no gateways any more.
    fn wait_stands_by(&self, control: usize) {
        eventually("a control that does not lead has no gateways", || {
            let push = self.push(control);
            let has_none = push["gateways"].as_array().is_some_and(Vec::is_empty);
            if has_none && push["term"].is_null() { Ok(()) } else { Err(push.to_string()) }
        });
    }

    /// Something changes in east, and both gateways of west get to know; the term in which they do.
    fn change(&mut self) -> u64 {
        self.exported = if self.exported == 1 { 2 } else { 1 };
        self.east.configure(&east_config(self.topology.cluster("east-1"), self.exported));
        self.wait_served();
        let [one, two] = self.terms();
        assert_eq!(one, two, "both have it from the same control");
        one
    }

    fn wait_served(&self) {
        for gateway in &self.gateways {
            eventually(&format!("{} knows what east exports", gateway.cluster().name()), || {
                let status = gateway.status();
                let services = status["services"].as_array().map(Vec::as_slice).unwrap_or_default();
                let ready = services.iter().find_map(|service| service["clusters"]["east"].as_u64());
                if ready == Some(self.exported.into()) { Ok(()) } else { Err(status.to_string()) }
            });
        }
    }

    /// The terms of the gateways' tables.
    fn terms(&self) -> [u64; 2] {
        self.gateways.each_ref().map(|gateway| gateway.status()["control"]["attachment"]["term"].as_u64().unwrap())
    }

    /// What a control says of its gateways.
    fn push(&self, control: usize) -> Value {
        self.controls[control].status()["control"]["push"].clone()
    }

    /// Nothing of what clients asked for has failed.
    fn assert_served(&self, loads: [Load; 2]) {
        for load in loads {
            load.wait_for(50);
            load.stop().assert_no_failure();
        }
    }
}

fn address(cluster: &Cluster) -> Ipv4Addr {
    let IpAddr::V4(address) = cluster.tunnel_address().ip() else { panic!("the WAN is IPv4") };
    address
}

/// East with so many endpoints, of which the first serves.
fn east_config(east: &Cluster, endpoints: u8) -> Config {
    let endpoints: Vec<_> = (0..endpoints).map(|n| pod(2 + n, 8080)).collect();
    several::config(east).links("west", &[], None).exports("shop/api", &endpoints)
}

/// The configuration of the control beside a gateway. The identity is of the CA that `first` has.
fn control_yaml(kube: &KubeCluster, first: &Cluster, at: &Cluster) -> String {
    let mut config = several::config(at);
    let identity = apart::control_identity(at);
    identity::issue(&first.identity_dir(), &apart::control_id("west"), &identity);
    config.identity = identity.display().to_string();
    config.admin = isthmus_tests::admin::CONTROL;
    let registry = kube.kubeconfig_of(SYSTEM, ACCOUNT);
    config
        .with(&format!("registry: {{kubernetes: {{kubeconfig: \"{}\"}}}}", registry.display()))
        .with(&format!("control: {{listen: \"{}\"}}", apart::control_address(at)))
        .to_yaml()
}

/// Drops what a namespace sends to API servers.
const CUT: &str = "add table ip cut; add chain ip cut out { type filter hook output priority 0; policy accept; }; \
                   add rule ip cut out tcp dport 6443 drop";

#[test]
fn controls_take_over_from_each_other_and_no_client_notices() {
    let topology = several::topology(2, 1);
    let mut west = Replicas::start(&topology, Some("+1h"));
    let loads = west.loads();
    let first = west.wait_leader(&[0, 1]);
    let second = 1 - first;
    west.wait_stands_by(second);
    let mut terms = vec![west.change()];

    // It dies, and is back: the other one leads.
    west.controls[first].kill();
    assert_eq!(west.wait_leader(&[second]), second);
    terms.push(west.change());
    west.controls[first].restart();
    west.wait_stands_by(first);
    assert_eq!(west.wait_leader(&[0, 1]), second, "who is back does not take over");

    // It stands still, for longer than its term: when it goes on, it has nothing to say any more.
    west.controls[second].pause();
    assert_eq!(west.wait_leader(&[first]), first);
    terms.push(west.change());
    west.controls[second].resume();
    west.wait_stands_by(second);
    terms.push(west.change());

    // It cannot reach the API server: its term ends, and its gateways leave it.
    let edge = west.controls[first].cluster().edge();
    edge.exec("nft", &[CUT]);
    west.wait_stands_by(first);
    assert_eq!(west.wait_leader(&[second]), second);
    terms.push(west.change());
    edge.exec("nft", &["delete table ip cut"]);
    assert_eq!(west.wait_leader(&[0, 1]), second);
    terms.push(west.change());

    assert!(terms.is_sorted() && terms[0] < terms[1] && terms[1] < terms[2] && terms[3] < terms[4], "{terms:?}");
    assert_eq!((terms[2], terms[4]), (terms[3], terms[5]), "{terms:?}");
    for gateway in &west.gateways {
        assert!(!gateway.log().contains("another control is newer"), "there was one writer at a time");
    }
    west.assert_served(loads);
}

#[test]
fn an_api_server_that_stalls_stops_no_traffic_and_a_leader_is_found_once_it_goes_on() {
    let topology = several::topology(2, 1);
    let mut west = Replicas::start(&topology, None);
    let loads = west.loads();
    west.wait_leader(&[0, 1]);
    let before = west.change();
    west.kube.pause_api_server();
    west.wait_stands_by(0);
    west.wait_stands_by(1);
    loads.iter().for_each(|load| load.wait_for(200));
    west.kube.resume_api_server();
    west.wait_leader(&[0, 1]);
    let after = west.change();
    assert!(after >= before, "{before} {after}");
    west.assert_served(loads);
}

/// Nobody knows how far the terms had come but the gateways.
#[test]
fn a_lease_that_is_deleted_while_no_control_runs_locks_no_gateway_out() {
    let topology = several::topology(2, 1);
    let mut west = Replicas::start(&topology, None);
    let first = west.wait_leader(&[0, 1]);
    // The second term, which the first of a new Lease is behind.
    west.controls[first].terminate();
    west.controls[first].wait_end();
    west.wait_leader(&[1 - first]);
    let before = west.change();
    west.controls.iter_mut().for_each(Gateway::kill);
    let leases: Api<Lease> = Api::namespaced(west.kube.client().clone(), SYSTEM);
    west.kube.block_on(leases.delete(LEASE, &DeleteParams::default())).unwrap();
    let loads = west.loads();
    west.controls.iter_mut().for_each(Gateway::restart);
    west.wait_leader(&[0, 1]);
    let after = west.change();
    assert!(after > before, "{before} {after}");
    west.assert_served(loads);
}

//! Clusters of one control and several gateways, each a process of its own.

use crate::{
    Cluster, Config, Gateway, Part, Surroundings, Topology, admin, eventually, identity,
    several::{self, endpoints},
    topology::CLUSTERSET,
};
use serde_json::Value;
use std::net::SocketAddr;

/// A cluster: its control is where its first gateway is.
#[derive(Debug)]
pub struct Apart<'a> {
    /// Its control.
    pub control: Gateway<'a>,
    /// Its gateways.
    pub gateways: Vec<Gateway<'a>>,
}

impl<'a> Apart<'a> {
    /// Starts the control with this configuration and all the gateways, and waits until they are attached.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn start(topology: &'a Topology, name: &str, config: &Config) -> Self {
        let clusters = of(topology, name);
        let first = clusters[0];
        identity::issue(&first.identity_dir(), &control_id(name), &control_identity(first));
        let control = Gateway::start_part(first, Part::Control, &config.to_yaml(), &Surroundings::default());
        let gateways = clusters.iter().map(|at| launch(at, control_address(first))).collect();
        let apart = Self { control, gateways };
        apart.wait_attached(clusters.len());
        apart
    }

    /// Waits until so many gateways are attached and have the newest table.
    ///
    /// # Panics
    /// If they do not.
    pub fn wait_attached(&self, count: usize) -> Value {
        self.wait_push(&format!("{count} gateways have the newest table"), |push| {
            let gateways = push["gateways"].as_array().map(Vec::as_slice).unwrap_or_default();
            gateways.len() == count && gateways.iter().all(|gateway| gateway["tableVersion"] == push["tableVersion"])
        })
    }

    /// Waits for what its control says of its gateways.
    ///
    /// # Panics
    /// If it does not come true.
    pub fn wait_push(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{what}, says {}'s control", self.control.cluster().name()), || {
            let push = self.control.status()["control"]["push"].clone();
            if wanted(&push) { Ok(push) } else { Err(push.to_string()) }
        })
    }
}

/// The namespaces of a cluster's gateways, in order.
///
/// # Panics
/// If there are none.
pub fn of<'a>(topology: &'a Topology, name: &str) -> [&'a Cluster; 2] {
    [1, 2].map(|n| topology.cluster(&format!("{name}-{n}")))
}

/// The configuration of the control of `name`.
pub fn config(topology: &Topology, name: &str) -> Config {
    let first = of(topology, name)[0];
    let mut config = several::config(first);
    config.identity = control_identity(first).display().to_string();
    config.admin = admin::CONTROL;
    config.with(&format!("control: {{listen: \"{}\"}}", control_address(first)))
}

/// Links a control's configuration with the other cluster, whose gateways are dialled if they are to be.
#[must_use]
pub fn linked(topology: &Topology, config: Config, peer: &str, dials: bool) -> Config {
    let endpoints = if dials { endpoints(&of(topology, peer)) } else { Vec::new() };
    config.links(peer, &endpoints, None)
}

/// The text of a gateway's configuration.
pub fn gateway_yaml(cluster: &Cluster, control: SocketAddr) -> String {
    let name = cluster.name().split('-').next().unwrap_or_default();
    format!(
        "clusterset: {CLUSTERSET}\ncluster: {name}\nidentity: {}\ntunnel: {{listen: \"{}\"}}\nadmin: \"{}\"\n\
         control: {{address: \"{control}\"}}\n",
        cluster.identity_dir().display(),
        cluster.tunnel_address(),
        admin::ADDRESS
    )
}

/// Starts a gateway and waits until it is ready.
///
/// # Panics
/// If it does not become so.
pub fn launch<'a>(cluster: &'a Cluster, control: SocketAddr) -> Gateway<'a> {
    Gateway::start_part(cluster, Part::Gateway, &gateway_yaml(cluster, control), &Surroundings::default())
}

/// Where the control beside this gateway takes gateways.
pub fn control_address(cluster: &Cluster) -> SocketAddr {
    SocketAddr::new(cluster.tunnel_address().ip(), 15010)
}

/// The identity directory of the control beside this gateway.
pub fn control_identity(cluster: &Cluster) -> std::path::PathBuf {
    cluster.dir().join("control-identity")
}

/// The SPIFFE id of a cluster's control.
pub fn control_id(cluster: &str) -> String {
    format!("spiffe://{cluster}.{CLUSTERSET}/ns/isthmus-system/sa/control")
}

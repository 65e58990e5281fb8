//! The usual two gateways: west imports what east exports, and west dials.

use crate::{
    Config, Gateway, Load, Topology, Transport, client,
    load::Reuse,
    topology::{gateway, pod},
    wait::eventually,
};
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;

/// The service that east exports.
pub const SERVICE: &str = "shop/api";

/// The policy of an export or import that has the local hop.
pub const LOCAL_HOP: &str = "{localHop: \"on\"}";

/// Where west's clients find it.
pub fn import() -> SocketAddr {
    gateway(18080)
}

/// Where east's first endpoint is.
pub fn endpoint() -> SocketAddr {
    pod(2, 8080)
}

/// West's and east's gateways, linked.
#[derive(Debug)]
pub struct Pair<'a> {
    /// The topology that they are in.
    pub topology: &'a Topology,
    /// The egress gateway, which dials.
    pub west: Gateway<'a>,
    /// The ingress gateway.
    pub east: Gateway<'a>,
}

impl<'a> Pair<'a> {
    /// Starts both over `transport`, with `endpoints` behind the service, and waits until west knows the service.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn start(topology: &'a Topology, transport: Transport, endpoints: &[SocketAddr]) -> Self {
        Self::start_with(topology, &west_config(topology, transport), &east_config(topology, transport, endpoints))
    }

    /// Starts both with these configurations, and waits until west knows the service.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn start_with(topology: &'a Topology, west_config: &Config, east_config: &Config) -> Self {
        let is_here = west_config.exports.iter().any(|(service, ..)| service == SERVICE);
        let clusters: &[&str] = if is_here { &["east", "west"] } else { &["east"] };
        let east = Gateway::start(topology.cluster("east"), east_config);
        let west = Gateway::start(topology.cluster("west"), west_config);
        west.wait_imported(SERVICE, clusters);
        for (gateway, config) in [(&west, west_config), (&east, east_config)] {
            if [config.import_policy, config.export_policy].contains(&Some(LOCAL_HOP)) {
                gateway.wait_metric("isthmus_local_hop", &["state=\"on\""], |on| on == 1.0);
            }
        }
        Self { topology, west, east }
    }

    /// A client's connection to the service.
    ///
    /// # Errors
    /// As connect(2) has them.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        client::connect(self.west.cluster().pods(), import()).await
    }

    /// HTTP load on the service.
    pub fn load(&self, clients: usize, reuse: Reuse, body: &str) -> Load {
        let west = self.west.cluster();
        Load::start(west.pods(), west.tasks(), import(), clients, reuse, body)
    }

    /// Waits until a stream to an echoing endpoint works, however many have to be tried.
    ///
    /// # Panics
    /// If none does.
    pub fn wait_echo(&self) {
        eventually("a stream through both gateways works", || {
            self.topology
                .block_on(async {
                    let mut stream = self.connect().await?;
                    client::exchange(&mut stream, b"are you there?").await
                })
                .map_err(|e: io::Error| e.to_string())
        });
    }

    /// Resident bytes of both gateways.
    ///
    /// # Panics
    /// If one has ended.
    pub fn resident(&self) -> u64 {
        self.west.resident() + self.east.resident()
    }
}

/// West's configuration: it dials east and imports its service.
pub fn west_config(topology: &Topology, transport: Transport) -> Config {
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let config = Config::new(west).dials(east, transport).imports(SERVICE, import());
    if transport == Transport::TlsAndLocalHop { config.with_import_policy(LOCAL_HOP) } else { config }
}

/// East's configuration: it exports the service, and west dials it.
///
/// Over h2 it dials as well: only who dials can open an HTTP/2 CONNECT, and east has to tell west what it exports.
pub fn east_config(topology: &Topology, transport: Transport, endpoints: &[SocketAddr]) -> Config {
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let config = match transport {
        Transport::Auto | Transport::Tls | Transport::Quic => Config::new(east).is_dialled_by(west),
        Transport::TlsAndLocalHop => Config::new(east).is_dialled_by(west).with_export_policy(LOCAL_HOP),
        Transport::H2 => Config::new(east).dials(west, transport),
    };
    config.exports(SERVICE, endpoints)
}

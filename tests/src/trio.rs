//! Three gateways: west and east, which cannot dial each other, and hub, which relays.

use crate::{
    Config, Gateway, Topology, Transport, client,
    pair::{SERVICE, endpoint, import},
    topology::{gateway, pod},
    wait::eventually,
};
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;

/// The service that west exports.
pub const WESTS: &str = "shop/db";

/// What hub's configuration has for relaying.
pub const RELAY: &str = "relay: {allow: [west, east]}";

/// Where west's endpoint is.
pub fn wests_endpoint() -> SocketAddr {
    pod(3, 5432)
}

/// Where east's clients find west's service.
pub fn easts_import() -> SocketAddr {
    gateway(15432)
}

/// West's, east's and hub's gateways. West and east dial hub; each uses a service of the other's.
#[derive(Debug)]
pub struct Trio<'a> {
    /// The topology that they are in.
    pub topology: &'a Topology,
    /// What dials through the relay's other side: east comes first by name.
    pub west: Gateway<'a>,
    /// What dials through the relay.
    pub east: Gateway<'a>,
    /// The relay.
    pub hub: Gateway<'a>,
}

impl<'a> Trio<'a> {
    /// Starts all three; west and east dial hub over `transport`, and hub's configuration has these lines besides.
    ///
    /// # Panics
    /// If one does not start.
    pub fn start(topology: &'a Topology, transport: Transport, hub: &str) -> Self {
        let [west, east] = ends(topology, transport);
        Self::start_with(topology, &west, &east, &self::hub(topology).with(hub))
    }

    /// Starts all three with these configurations.
    ///
    /// # Panics
    /// If one does not start.
    pub fn start_with(topology: &'a Topology, west: &Config, east: &Config, hub: &Config) -> Self {
        let hub = Gateway::start(topology.cluster("hub"), hub);
        let west = Gateway::start(topology.cluster("west"), west);
        let east = Gateway::start(topology.cluster("east"), east);
        Self { topology, west, east, hub }
    }

    /// Waits until each knows the other's service.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn wait_imported(&self) {
        self.west.wait_imported(SERVICE, &["east"]);
        self.east.wait_imported(WESTS, &["west"]);
    }

    /// A connection of a client in west to east's service.
    ///
    /// # Errors
    /// As connect(2) has them.
    pub async fn connect_east(&self) -> io::Result<TcpStream> {
        client::connect(self.west.cluster().pods(), import()).await
    }

    /// A connection of a client in east to west's service.
    ///
    /// # Errors
    /// As connect(2) has them.
    pub async fn connect_west(&self) -> io::Result<TcpStream> {
        client::connect(self.east.cluster().pods(), easts_import()).await
    }

    /// Waits until streams work both ways, however many have to be tried.
    ///
    /// # Panics
    /// If none does.
    pub fn wait_echo(&self) {
        eventually("streams between west and east work", || {
            let both = async {
                client::exchange(&mut self.connect_east().await?, b"are you there?").await?;
                client::exchange(&mut self.connect_west().await?, b"and you?").await
            };
            self.topology.block_on(both).map_err(|e: io::Error| e.to_string())
        });
    }

    /// Waits until new streams of both go through `via`; directly, if that is none.
    ///
    /// # Panics
    /// If they do not.
    pub fn wait_via(&self, via: Option<&str>) {
        for (gateway, peer) in [(&self.west, "east"), (&self.east, "west")] {
            eventually(&format!("new streams to {peer} go via {via:?}"), || {
                let link = gateway.link(peer);
                // Before anything was chosen, nothing is known.
                let so = link["chosen"].is_string() && link["via"].as_str() == via;
                if so { Ok(()) } else { Err(link.to_string()) }
            });
        }
    }
}

/// West's and east's configurations.
pub fn ends(topology: &Topology, transport: Transport) -> [Config; 2] {
    let [west, east, hub] = ["west", "east", "hub"].map(|name| topology.cluster(name));
    [
        Config::new(west)
            .dials(hub, transport)
            .reaches(east, hub)
            .imports(SERVICE, import())
            .exports(WESTS, &[wests_endpoint()]),
        Config::new(east)
            .dials(hub, transport)
            .reaches(west, hub)
            .imports(WESTS, easts_import())
            .exports(SERVICE, &[endpoint()]),
    ]
}

/// Hub's configuration, without a word of relaying.
pub fn hub(topology: &Topology) -> Config {
    let [west, east, hub] = ["west", "east", "hub"].map(|name| topology.cluster(name));
    Config::new(hub).is_dialled_by(west).is_dialled_by(east)
}

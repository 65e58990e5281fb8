//! Two gateways with the local hop on, and what they serve.

use crate::{
    client::{self, Ways},
    dice::Dice,
    restarts::{HOSTS, Served, Side},
    server,
    tally::Tally,
};
use isthmus_tests::{
    Cluster, Config, Endpoint, Gateway, Topology, Transport, eventually,
    pair::{self, LOCAL_HOP, Pair},
    topology::{gateway, pod},
};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The service that stays in west.
const NEAR: &str = "shop/near";
/// How long gateways are under load before the first look: every pool and buffer that streams fill is full then.
const WARM_UP: Duration = Duration::from_secs(10);
/// Connections that have ended hold their ports for a minute. A load that opens hundreds a second uses them up but for this: the kernel
/// may give a port out again after a second.
const REUSE: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) pair: Pair<'a>,
    /// By [`Side`] and host.
    endpoints: [[Option<Endpoint>; HOSTS]; 2],
}

/// The clusters.
pub(crate) fn topology() -> Topology {
    Topology::west_and_east()
}

impl<'a> Stage<'a> {
    /// Starts all of it, and waits until it serves.
    pub(crate) fn start(topology: &'a Topology) -> Self {
        let endpoints = Side::ALL.map(|side| {
            let cluster = topology.cluster(side.name());
            for netns in [cluster.pods(), cluster.edge()] {
                netns.run(|| std::fs::write(REUSE, "1")).unwrap_or_else(|error| panic!("{REUSE}: {error}"));
            }
            std::array::from_fn(|host| Some(serve(cluster, Served { side, host, life: 0 })))
        });
        let pair = Pair::start_with(topology, &west(topology, false), &east(topology, HOSTS));
        pair.west.wait_imported(NEAR, &["west"]);
        Self { pair, endpoints }
    }

    /// Both gateways.
    pub(crate) fn gateways(&self) -> [&Gateway<'a>; 2] {
        [&self.pair.west, &self.pair.east]
    }

    /// Starts so many clients, which go on until then.
    pub(crate) fn clients(&self, number: u64, seed: u64, until: Instant, tally: &Arc<Tally>) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for number in 0..number {
            let ways = Ways { pods: self.pair.west.cluster().pods().clone(), far: pair::import(), near: near() };
            let client = client::run(ways, Dice::new(seed + number), until, tally.clone());
            clients.spawn_on(client, self.pair.topology.tasks());
        }
        clients
    }

    /// Streams that nobody counts, and files that change once.
    pub(crate) fn warm_up(&self, clients: u64) {
        let clients = self.clients(clients, u64::MAX / 2, Instant::now() + WARM_UP, &Arc::default());
        self.reload_west(true);
        self.reload_east(2);
        self.pair.topology.block_on(clients.join_all());
    }

    /// West listens for the near service at one more address, or does not.
    pub(crate) fn reload_west(&self, more: bool) {
        self.pair.west.configure(&west(self.pair.topology, more));
    }

    /// East serves from so many of its endpoints, 2 or 3: of one alone, streams are refused for seconds after it was restarted.
    pub(crate) fn reload_east(&self, endpoints: usize) {
        self.pair.east.configure(&east(self.pair.topology, endpoints));
    }

    /// Files are as they were at the start, and west has heard of it.
    pub(crate) fn reload_all(&self) {
        self.reload_west(false);
        self.reload_east(HOSTS);
        let pods = self.pair.west.cluster().pods();
        eventually("west listens at no more than at the start", || match pods.connect(near_too()) {
            Ok(_) => Err("somebody listens there".into()),
            Err(_) => Ok(()),
        });
    }

    /// Ends one of the endpoints at both clusters, with its connections, and starts it again.
    pub(crate) fn restart(&mut self, host: usize, tally: &Tally) {
        let host = host % HOSTS;
        for side in Side::ALL {
            let cluster = self.pair.topology.cluster(side.name());
            let running = &mut self.endpoints[side as usize][host];
            tally.stop(side, host);
            *running = None;
            eventually(&format!("{} is free", address(host)), || match cluster.pods().connect(address(host)) {
                Ok(_) => Err("somebody listens there".into()),
                Err(_) => Ok(()),
            });
            *running = Some(serve(cluster, tally.start(side, host)));
        }
    }

    /// What both gateways say of how streams ended.
    pub(crate) fn tell(&self) {
        for gateway in self.gateways() {
            println!("\n{}'s streams, as its metrics have them:", gateway.cluster().name());
            let all = gateway.metrics();
            let some = all.of("isthmus_streams_closed_total").into_iter().filter(|(_, value)| *value > 0.0);
            some.for_each(|(sample, value)| println!("  {sample} {value}"));
        }
    }

    /// Whether a gateway has turned the local hop off.
    pub(crate) fn distrusted(&self) -> Option<String> {
        self.gateways().into_iter().find_map(|gateway| {
            let hop = gateway.status()["local_hop"].clone();
            (hop["state"] != "on").then(|| format!("{}'s local hop: {hop}", gateway.cluster().name()))
        })
    }
}

/// An endpoint that says who it is, and does what its clients want.
fn serve(cluster: &Cluster, served: Served) -> Endpoint {
    let behaviour = move |stream| server::serve(stream, served);
    Endpoint::serve(cluster.pods(), cluster.tasks(), address(served.host), behaviour)
}

/// Where an endpoint is: the same in both clusters.
fn address(host: usize) -> SocketAddr {
    all()[host]
}

fn all() -> [SocketAddr; HOSTS] {
    [2, 3, 4].map(|host| pod(host, 8080))
}

fn near() -> SocketAddr {
    gateway(18081)
}

/// The same service, while west's file has it twice.
fn near_too() -> SocketAddr {
    gateway(18082)
}

fn west(topology: &Topology, more: bool) -> Config {
    let config = pair::west_config(topology, Transport::TlsAndLocalHop).with_export_policy(LOCAL_HOP);
    let config = config.exports(NEAR, &all()).imports(NEAR, near());
    if more { config.imports(NEAR, near_too()) } else { config }
}

fn east(topology: &Topology, endpoints: usize) -> Config {
    pair::east_config(topology, Transport::TlsAndLocalHop, &all()[..endpoints])
}

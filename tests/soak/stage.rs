//! Two gateways with the local hop on, and what they serve.

use crate::{client::Ways, dice::Dice, server, tally::Tally};
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
/// Until everything that streams held is given back.
const REST: Duration = Duration::from_secs(60);

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) pair: Pair<'a>,
    /// At west and at east, the same hosts.
    endpoints: Vec<(SocketAddr, [Option<Endpoint>; 2])>,
}

/// The clusters.
pub(crate) fn topology() -> Topology {
    Topology::west_and_east()
}

impl<'a> Stage<'a> {
    /// Starts all of it, and waits until it serves.
    pub(crate) fn start(topology: &'a Topology) -> Self {
        let endpoints = [2, 3, 4].map(|host| {
            let address = pod(host, 8080);
            (address, ["west", "east"].map(|name| Some(serve(topology.cluster(name), address))))
        });
        let pair = Pair::start_with(topology, &west(topology, false), &east(topology, 3));
        pair.west.wait_imported(NEAR, &["west"]);
        Self { pair, endpoints: endpoints.into() }
    }

    /// Both gateways.
    pub(crate) fn gateways(&self) -> [&Gateway<'a>; 2] {
        [&self.pair.west, &self.pair.east]
    }

    /// What clients use.
    pub(crate) fn ways(&self) -> Ways {
        let pods = self.pair.west.cluster().pods().clone();
        Ways { pods, far: pair::import(), near: near() }
    }

    /// A few seconds of streams that nobody counts.
    pub(crate) fn warm_up(&self) {
        let (until, tally) = (Instant::now() + Duration::from_secs(3), Arc::new(Tally::default()));
        let mut clients = JoinSet::new();
        for seed in 0..16 {
            let client = crate::client::run(self.ways(), Dice::new(seed), until, tally.clone());
            clients.spawn_on(client, self.pair.topology.tasks());
        }
        self.pair.topology.block_on(clients.join_all());
        self.wait_rest();
    }

    /// West listens for the near service at one more address, or does not.
    pub(crate) fn reload_west(&self, more: bool) {
        self.pair.west.configure(&west(self.pair.topology, more));
    }

    /// East serves from so many of its endpoints, 2 or 3: of one alone, streams are refused for seconds after it was restarted.
    pub(crate) fn reload_east(&self, endpoints: usize) {
        self.pair.east.configure(&east(self.pair.topology, endpoints));
    }

    /// Ends one of the endpoints at both clusters, with its connections, and starts it again.
    pub(crate) fn restart(&mut self, which: usize, tally: &Tally) {
        let which = which % self.endpoints.len();
        let (address, running) = &mut self.endpoints[which];
        let clusters = ["west", "east"].map(|name| self.pair.topology.cluster(name));
        tally.restart();
        for (cluster, endpoint) in clusters.into_iter().zip(running) {
            *endpoint = None;
            eventually(&format!("{address} is free"), || match cluster.pods().connect(*address) {
                Ok(_) => Err("somebody listens there".into()),
                Err(_) => Ok(()),
            });
            *endpoint = Some(serve(cluster, *address));
        }
        tally.restart();
    }

    /// Waits until nothing of streams is left; what is.
    pub(crate) fn wait_rest(&self) -> Vec<String> {
        let deadline = Instant::now() + REST;
        loop {
            let left: Vec<_> = self.gateways().into_iter().filter_map(left).collect();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(100));
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

fn left(gateway: &Gateway<'_>) -> Option<String> {
    let streams = gateway.metrics().sum("isthmus_streams_active", &[]);
    let ends = gateway.map("ends").entries();
    let name = gateway.cluster().name();
    (streams > 0.0 || ends > 0).then(|| format!("{name} still has {streams} streams, and {ends} ends in the kernel"))
}

/// An endpoint that does what its clients want.
fn serve(cluster: &Cluster, address: SocketAddr) -> Endpoint {
    Endpoint::serve(cluster.pods(), cluster.tasks(), address, server::serve)
}

fn near() -> SocketAddr {
    gateway(18081)
}

fn west(topology: &Topology, more: bool) -> Config {
    let config = pair::west_config(topology, Transport::TlsAndLocalHop).with_export_policy(LOCAL_HOP);
    let endpoints = [2, 3, 4].map(|host| pod(host, 8080));
    let config = config.exports(NEAR, &endpoints).imports(NEAR, near());
    if more { config.imports(NEAR, gateway(18082)) } else { config }
}

fn east(topology: &Topology, endpoints: usize) -> Config {
    let all = [2, 3, 4].map(|host| pod(host, 8080));
    pair::east_config(topology, Transport::TlsAndLocalHop, &all[..endpoints])
}

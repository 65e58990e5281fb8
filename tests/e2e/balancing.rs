//! Which endpoint gets a stream: the slow one hardly any, the one that resets none, the near one first, each its share.

use crate::over_each_transport;
use isthmus_tests::{
    Config, Endpoint, Gateway, Topology, Transport, client, endpoint, eventually,
    gateway::{Part, Surroundings},
    pair::{self, Pair},
    topology::pod,
};
use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

over_each_transport!(a_slow_endpoint_gets_hardly_any_stream, an_endpoint_that_resets_is_left_out);

/// Says which host it is, so long after it was asked.
pub(crate) fn teller(topology: &Topology, cluster: &str, host: u8, after: Duration) -> Endpoint {
    let cluster = topology.cluster(cluster);
    Endpoint::serve(cluster.pods(), cluster.tasks(), pod(host, 8080), move |mut stream| async move {
        stream.read_u8().await?;
        tokio::time::sleep(after).await;
        stream.write_u8(host).await?;
        stream.shutdown().await
    })
}

/// Which host has answered a new stream, which stays open.
async fn asked(topology: &Topology) -> io::Result<(u8, TcpStream)> {
    let mut stream = client::connect(topology.cluster("west").pods(), pair::import()).await?;
    stream.write_u8(b'?').await?;
    Ok((stream.read_u8().await?, stream))
}

/// Which host answers a new stream.
pub(crate) async fn ask(topology: &Topology) -> io::Result<u8> {
    asked(topology).await.map(|(host, _)| host)
}

fn addresses(hosts: impl IntoIterator<Item = u8>) -> Vec<SocketAddr> {
    hosts.into_iter().map(|host| pod(host, 8080)).collect()
}

/// Each core knows endpoints for itself: one, so that what a test counts is what one of them does.
fn on_one_core(config: Config) -> Config {
    config.with("cores: 1")
}

fn start<'a>(topology: &'a Topology, transport: Transport, hosts: std::ops::RangeInclusive<u8>) -> Pair<'a> {
    let east = on_one_core(pair::east_config(topology, transport, &addresses(hosts)));
    Pair::start_with(topology, &pair::west_config(topology, transport), &east)
}

fn a_slow_endpoint_gets_hardly_any_stream(transport: Transport) {
    let topology = Topology::west_and_east();
    let _quick: Vec<_> = (2..=4).map(|host| teller(&topology, "east", host, Duration::ZERO)).collect();
    let slow = teller(&topology, "east", 5, Duration::from_secs(1));
    let pair = start(&topology, transport, 2..=5);
    pair.topology.block_on(async {
        for _ in 0..10 {
            ask(&topology).await.unwrap();
        }
        let before = slow.accepted();
        for _ in 0..300 {
            ask(&topology).await.unwrap();
        }
        let streams = slow.accepted() - before;
        assert!(streams <= 15, "{streams} of 300 streams went to the slow endpoint");
    });
}

fn an_endpoint_that_resets_is_left_out(transport: Transport) {
    let topology = Topology::west_and_east();
    let _well: Vec<_> = (2..=4).map(|host| teller(&topology, "east", host, Duration::ZERO)).collect();
    let east = topology.cluster("east");
    let ill = Endpoint::serve(east.pods(), east.tasks(), pod(5, 8080), |mut stream| async move {
        stream.read_u8().await?;
        endpoint::reset(stream);
        Ok(())
    });
    let mut east = on_one_core(pair::east_config(&topology, transport, &addresses(2..=5)));
    east.export_more = Some("policy: {balance: roundRobin, outliers: {resets: 3, ejection: 60s}}");
    let pair = Pair::start_with(&topology, &pair::west_config(&topology, transport), &east);
    let failed = pair.topology.block_on(async {
        let mut failed = 0;
        for _ in 0..200 {
            failed += usize::from(ask(&topology).await.is_err());
        }
        failed
    });
    assert_eq!((failed, ill.accepted()), (3, 3));
    let status = pair.east.status();
    let endpoints = status["services"][0]["endpoints"].as_array().unwrap();
    let of_it = endpoints.iter().find(|endpoint| endpoint["address"] == "10.0.0.5:8080").unwrap();
    assert_eq!(of_it["health"], "ejected");
    assert_eq!(of_it["message"], "resets streams before its first byte");
    let answer = Surroundings::default().command(
        topology.cluster("east").edge(),
        &["trace", pair::SERVICE, "--admin", &isthmus_tests::admin::ADDRESS.to_string(), "--output", "json"],
    );
    let trace: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let endpoints = trace["exports"][0]["endpoints"].as_array().unwrap();
    let percents: Vec<_> = endpoints.iter().map(|endpoint| endpoint["percent"].as_f64().unwrap()).collect();
    assert!(percents[..3].iter().all(|&percent| (33.0..=34.0).contains(&percent)) && percents[3] == 0.0, "{answer}");
    assert_eq!(endpoints[3]["health"], "ejected");
    eventually("the ejection is counted", || match pair.east.metrics().sum("isthmus_endpoint_ejections_total", &[]) {
        1.0 => Ok(()),
        found => Err(found.to_string()),
    });
}

/// Exact to the stream on each core, so far within a hundredth of 10,000 streams whatever the number of cores.
#[test]
fn explicit_shares_are_exact() {
    const STREAMS: u32 = 10_000;
    let topology = Topology::west_and_east();
    let _here = teller(&topology, "west", 2, Duration::ZERO);
    let _there = teller(&topology, "east", 3, Duration::ZERO);
    let mut west = pair::west_config(&topology, Transport::Tls).exports(pair::SERVICE, &addresses([2]));
    west.import_more = Some("weights: \"east=80,west=20\"");
    let _pair = Pair::start_with(&topology, &west, &pair::east_config(&topology, Transport::Tls, &addresses([3])));
    let counts = topology.block_on(async {
        let mut counts = BTreeMap::new();
        for _ in 0..STREAMS {
            *counts.entry(ask(&topology).await.unwrap()).or_insert(0_u32) += 1;
        }
        counts
    });
    let off = [(2, 20), (3, 80)].map(|(host, percent)| counts[&host].abs_diff(STREAMS * percent / 100));
    assert!(off.iter().all(|&off| off <= STREAMS / 100 / 5), "{counts:?}");
}

/// The near endpoint has what it can carry; what is beyond goes to the others.
#[test]
fn the_own_zone_comes_first_and_spills_over() {
    let topology = Topology::west_and_east();
    let _all: Vec<_> = (2..=4).map(|host| teller(&topology, "east", host, Duration::ZERO)).collect();
    let mut east = on_one_core(pair::east_config(&topology, Transport::Tls, &addresses(2..=4)));
    east.export_more = Some("policy: {near: zone}");
    let yaml = east.with("zone: a").to_yaml();
    let yaml = (2..=4).fold(yaml, |yaml, host| {
        let zone = if host == 2 { "a" } else { "b" };
        yaml.replace(&format!("\"10.0.0.{host}:8080\""), &format!("{{address: \"10.0.0.{host}:8080\", zone: {zone}}}"))
    });
    let _east = Gateway::start_part(topology.cluster("east"), Part::Both, &yaml, &Surroundings::default());
    let west = Gateway::start(topology.cluster("west"), &pair::west_config(&topology, Transport::Tls));
    west.wait_imported(pair::SERVICE, &["east"]);
    topology.block_on(async {
        for _ in 0..50 {
            assert_eq!(ask(&topology).await.unwrap(), 2);
        }
        let (mut held, mut near) = (vec![], 0);
        for _ in 0..40 {
            let (host, stream) = asked(&topology).await.unwrap();
            near += usize::from(host == 2);
            held.push(stream);
        }
        assert!((8..=32).contains(&near), "{near} of 40 streams at the near endpoint");
    });
}

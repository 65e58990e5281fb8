//! The local hop in the kernel: that it is used where it is asked for, and nowhere else. What streams carry over it, the tests of streams
//! say: each of them is run over it, too.

use isthmus_tests::{
    Endpoint, Topology, Transport, client, endpoint, eventually,
    pair::{self, LOCAL_HOP, Pair},
};

/// The ends that have joined, and the messages redirected.
fn counts(pair: &Pair<'_>) -> [f64; 4] {
    [&pair.west, &pair.east]
        .map(isthmus_tests::Gateway::metrics)
        .map(|metrics| {
            let joined = metrics.sum("isthmus_local_hop_ends_total", &["result=\"joined\""]);
            [joined, metrics.sum("isthmus_local_hop_messages_total", &["way=\"redirected\""])]
        })
        .concat()
        .try_into()
        .unwrap()
}

fn exchanged(pair: &Pair<'_>, times: usize) {
    pair.topology.block_on(async {
        let mut stream = pair.connect().await.unwrap();
        for _ in 0..times {
            client::exchange(&mut stream, b"there and back").await.unwrap();
        }
    });
}

#[test]
fn clients_and_endpoints_in_pods_are_redirected() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, Transport::TlsAndLocalHop, &[pair::endpoint()]);
    let before = counts(&pair);
    exchanged(&pair, 100);
    let after = counts(&pair);
    let more: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    // Both ends of one connection at each gateway, and what goes there and back.
    assert_eq!((more[0], more[2]), (2.0, 2.0), "{more:?}");
    assert!(more[1] >= 198.0 && more[3] >= 198.0, "{more:?}");
}

/// An export asks, an import does not: the import's clients are let alone, by the same gateway, too.
#[test]
fn a_service_that_does_not_ask_is_let_alone() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let (west_config, east_config) = (
        pair::west_config(&topology, Transport::Tls),
        pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]),
    );
    let pair = Pair::start_with(&topology, &west_config, &east_config.clone().with_export_policy(LOCAL_HOP));
    assert_eq!(pair.west.status()["local_hop"]["state"], "unused");
    let before = counts(&pair);
    exchanged(&pair, 10);
    let after = counts(&pair);
    assert_eq!((after[0], after[2] - before[2]), (0.0, 2.0));
    // It is turned off live: new connections go by TCP.
    pair.east.configure(&east_config);
    pair.east.wait_log(&["configuration reloaded"]);
    let before = counts(&pair);
    exchanged(&pair, 10);
    assert_eq!(counts(&pair), before);
}

/// Connections of one request each cost more than they gain: new ones go by TCP, until the service's clients stay again.
#[test]
fn services_whose_connections_are_short_are_left_out_until_they_stay() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, Transport::TlsAndLocalHop, &[pair::endpoint()]);
    let wait = |left_out: f64| {
        for gateway in [&pair.west, &pair.east] {
            gateway.wait_metric("isthmus_local_hop_left_out", &[], |found| found == left_out);
        }
    };
    // One that stays, and joined while nothing was known.
    let stays = pair.topology.block_on(pair.connect()).unwrap();
    for _ in 0..300 {
        exchanged(&pair, 1);
    }
    wait(1.0);
    joins(&pair, 0.0);
    pair.topology.block_on(async {
        let mut stays = stays;
        for _ in 0..3_000 {
            client::exchange(&mut stays, b"there and back").await.unwrap();
        }
    });
    wait(0.0);
    joins(&pair, 2.0);
}

/// Waits until so many ends of a new connection join at each gateway: each core hears of a decision by itself.
fn joins(pair: &Pair<'_>, ends: f64) {
    eventually("what new connections do", || {
        let [west, _, east, _] = counts(pair);
        exchanged(pair, 1);
        let [west_then, _, east_then, _] = counts(pair);
        match [west_then - west, east_then - east] {
            joined if joined == [ends; 2] => Ok(()),
            joined => Err(format!("{joined:?} ends joined, expected {ends}")),
        }
    });
}

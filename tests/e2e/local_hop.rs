//! The local hop in the kernel: that it is used where it is asked for, and nowhere else. What streams carry over it, the tests of streams
//! say: each of them is run over it, too.

use isthmus_tests::{
    Endpoint, Topology, Transport, client, endpoint,
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

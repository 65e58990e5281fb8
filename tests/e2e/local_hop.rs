//! The local hop in the kernel: that it is used where it is asked for, and nowhere else. What streams carry over it, the tests of streams
//! say: each of them is run over it, too.

use isthmus_tests::{
    Endpoint, Gateway, Haproxy, Pattern, Topology, Transport, check, client, endpoint, eventually,
    pair::{self, LOCAL_HOP, Pair},
    topology::{self, pod},
};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

/// The ends that have joined, and the messages redirected.
fn counts(pair: &Pair<'_>) -> [f64; 4] {
    [&pair.west, &pair.east]
        .map(Gateway::metrics)
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

/// So many streams that one of them is looked at, of sixteen: that none is happens once in ten to the eleventh.
const MANY: usize = 400;
/// Where the programs note what was redirected into an end: behind the address of its socket.
const DELIVERED: std::ops::Range<usize> = 8..16;

/// Makes `fault` at west, whose side is the clients', while many streams are open: the reason that its gateway gives has these words, new
/// streams go by TCP, and work, and those that are open go on.
fn turned_off_by(words: &str, fault: impl FnOnce(&Pair<'_>, &mut Vec<TcpStream>)) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, Transport::TlsAndLocalHop, &[pair::endpoint()]);
    let mut open = topology.block_on(async {
        let mut open = Vec::new();
        for _ in 0..MANY {
            let mut stream = pair.connect().await.unwrap();
            // Often enough to be worth it, or the gateways would leave the service out.
            for _ in 0..6 {
                client::exchange(&mut stream, b"there and back").await.unwrap();
            }
            open.push(stream);
        }
        open
    });
    let mut kept = open.pop().unwrap();
    fault(&pair, &mut open);
    assert_turned_off(&pair.west, words);
    // The other gateway's is another one.
    assert_eq!(pair.east.status()["local_hop"]["state"], "on");
    let before = counts(&pair);
    topology.block_on(async {
        // What had joined goes on, redirected, and right.
        client::exchange(&mut kept, &Pattern::new(1).take(300_000)).await.unwrap();
        client::exchange(&mut kept, b"small again").await.unwrap();
        for seed in 0..20 {
            let mut stream = pair.connect().await.unwrap();
            client::exchange(&mut stream, &Pattern::new(seed).take(100_000)).await.unwrap();
        }
    });
    let after = counts(&pair);
    assert_eq!(after[0], before[0], "nothing joins at west any more");
    assert_eq!(after[2] - before[2], 40.0, "at east all do");
    assert!(after[1] > before[1], "what had joined is redirected");
}

/// Log, status and metric say so, for this reason.
fn assert_turned_off(gateway: &Gateway<'_>, words: &str) {
    gateway.wait_metric("isthmus_local_hop", &["state=\"distrusted\""], |state| state == 1.0);
    assert_eq!(gateway.metrics().sum("isthmus_local_hop", &["state=\"on\""]), 0.0);
    gateway.wait_log(&["ERROR", "the local hop is off until the next start: new streams go by TCP", words]);
    let status = gateway.status()["local_hop"].clone();
    assert_eq!(status["state"], "distrusted");
    assert!(status["reason"].as_str().unwrap().contains(words), "{status}");
}

/// Has the kernel's account of each open end say that one byte more was delivered than there was.
fn miscount(pair: &Pair<'_>) {
    let ends = pair.west.map("ends");
    for key in ends.keys() {
        let Some(mut end) = ends.get(&key) else { continue };
        let delivered = u64::from_ne_bytes(end[DELIVERED].try_into().unwrap());
        end[DELIVERED].copy_from_slice(&(delivered + 1).to_ne_bytes());
        ends.set(&key, end).unwrap();
    }
}

#[test]
fn bytes_that_do_not_show_turn_it_off_live() {
    turned_off_by("1 bytes were delivered to a connection that does not show them", |pair, _| miscount(pair));
}

/// The streams end at once: nothing has stood still for long.
#[test]
fn a_difference_at_a_streams_end_turns_it_off_live() {
    turned_off_by("bytes came out of a connection that", |pair, open| {
        miscount(pair);
        open.clear();
    });
}

/// Every entry of the map of ends is taken, which some 33,000 local streams would do. The next one has no room.
#[test]
fn a_full_map_turns_it_off_live() {
    turned_off_by("a map of the kernel's is full", |pair, _| {
        let taken = pair.west.map("ends").fill();
        assert!((60_000..65_536).contains(&taken), "{taken} entries beside those of {MANY} streams");
        eventually("a stream has found it full", || {
            exchanged(pair, 1);
            let refused = pair.west.status()["local_hop"]["refused"].as_u64();
            if refused > Some(0) { Ok(()) } else { Err(format!("{refused:?}")) }
        });
    });
}

/// What it is served by is HAProxy, in front of an echo.
fn haproxy(topology: &Topology, options: &[&str]) -> (Endpoint, Haproxy) {
    let (east, behind) = (topology.cluster("east"), pod(3, 9090));
    let server = format!("server one {behind}");
    let section = [&["mode tcp", &server], options].concat();
    let echo = Endpoint::serve(east.pods(), east.tasks(), behind, endpoint::echo);
    (echo, Haproxy::start(east.pods(), east.dir(), pair::endpoint(), "", &section))
}

/// Several messages on each of many streams, one after the other; how many streams had all of them back.
fn talks(pair: &Pair<'_>, patience: Duration) -> usize {
    pair.topology.block_on(async {
        let mut streams = JoinSet::new();
        for _ in 0..MANY {
            let mut stream = pair.connect().await.unwrap();
            streams.spawn(async move {
                let talk = async {
                    for _ in 0..5 {
                        client::exchange(&mut stream, b"there and back").await?;
                    }
                    Ok::<(), io::Error>(())
                };
                timeout(patience, talk).await.is_ok_and(|talk| talk.is_ok())
            });
        }
        streams.join_all().await.into_iter().filter(|all| *all).count()
    })
}

/// HAProxy as it comes has no quarrel with it.
#[test]
fn an_haproxy_that_does_not_splice_is_served() {
    let topology = Topology::west_and_east();
    let _haproxy = haproxy(&topology, &[]);
    let pair = Pair::start(&topology, Transport::TlsAndLocalHop, &[pair::endpoint()]);
    assert_eq!(talks(&pair, client::STALL_BOUND), MANY);
    assert_eq!(pair.east.status()["local_hop"]["unread"], serde_json::json!([]));
    let report = check::check(&pair.east, &[]);
    assert_eq!(check::marks(&report, "gateway.localHop"), ["ok"], "{report}");
    assert_eq!(check::marks(&report, "gateway.localHopRead"), [""; 0], "{report}");
}

/// The limit that is documented: it sees nothing of what is redirected. It is named, and without the local hop it works.
#[test]
fn an_haproxy_that_splices_is_named_by_check() {
    let topology = Topology::west_and_east();
    let _haproxy = haproxy(&topology, &["option splice-auto", "option splice-request", "option splice-response"]);
    let pair = Pair::start(&topology, Transport::TlsAndLocalHop, &[pair::endpoint()]);
    let endpoint = pair::endpoint().to_string();
    let well = std::thread::scope(|scope| {
        let talking = scope.spawn(|| talks(&pair, Duration::from_secs(20)));
        let found = check::wait_named(&pair.east, "gateway of east", &[&endpoint, "nothing was read"]);
        assert!(found["fix"].as_str().unwrap().contains("splice-auto"), "{found}");
        pair.east.wait_metric("isthmus_local_hop_unread_streams", &[], |streams| streams > 0.0);
        talking.join().unwrap()
    });
    assert!(well < MANY, "no stream stood still");
    let east = &pair.east;
    east.configure(&pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]));
    east.wait_log(&["configuration reloaded"]);
    // The log has it before every core has.
    eventually("new connections go by TCP", || {
        let [.., before, _] = counts(&pair);
        let _ = topology.block_on(async { timeout(Duration::from_secs(1), one(&pair)).await });
        let [.., after, _] = counts(&pair);
        if after == before { Ok(()) } else { Err(format!("{} ends joined", after - before)) }
    });
    assert_eq!(talks(&pair, client::STALL_BOUND), MANY);
}

/// A stream with one message.
async fn one(pair: &Pair<'_>) -> io::Result<()> {
    client::exchange(&mut pair.connect().await?, b"there and back").await
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
    // It is the only one that asks: nothing in the kernel looks at connections any more.
    looks(&pair, false);
    pair.topology.block_on(async {
        let mut stays = stays;
        for _ in 0..3_000 {
            client::exchange(&mut stays, b"there and back").await.unwrap();
        }
    });
    wait(0.0);
    looks(&pair, true);
    joins(&pair, 2.0);
    // Nobody asks any more.
    pair.west.configure(&pair::west_config(&topology, Transport::Tls));
    pair.east.configure(&pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]));
    looks(&pair, false);
    pair.west.configure(&pair::west_config(&topology, Transport::TlsAndLocalHop));
    pair.east.configure(&pair::east_config(&topology, Transport::TlsAndLocalHop, &[pair::endpoint()]));
    looks(&pair, true);
    joins(&pair, 2.0);
}

/// A connection of a service that is mostly small messages moves bulk: both ends at both gateways become plain sockets again, and what is said on
/// it before and after arrives whole. Others stay.
#[test]
fn a_connection_that_moves_bulk_is_taken_out() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, Transport::TlsAndLocalHop, &[pair::endpoint()]);
    let mut small = pair.topology.block_on(pair.connect()).unwrap();
    let mut talk = |times: usize| {
        pair.topology.block_on(async {
            for _ in 0..times {
                client::exchange(&mut small, b"there and back").await.unwrap();
            }
        });
    };
    // Far more than the bulk below costs, so that the service is not left out.
    talk(3000);
    let mut bulk = pair.topology.block_on(pair.connect()).unwrap();
    let mut exchange = |bytes: &[u8]| pair.topology.block_on(client::exchange(&mut bulk, bytes)).unwrap();
    let withdrawn =
        |gateway: &Gateway<'_>| gateway.metrics().sum("isthmus_local_hop_returns_total", &["because=\"bulk\""]);
    // The self-test has taken some out.
    let expected = [&pair.west, &pair.east].map(withdrawn).map(|before| before + 2.0);
    // Whether a reader is late is decided by the machine, too.
    let mut seed = 0;
    eventually("both ends are taken out at both gateways", || {
        exchange(&Pattern::new(seed).take(2_000_000));
        seed += 1;
        let found = [&pair.west, &pair.east].map(withdrawn);
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let before = counts(&pair);
    (0..100).for_each(|_| exchange(b"there and back"));
    assert_eq!(counts(&pair), before, "it is redirected no more");
    talk(100);
    let after = counts(&pair);
    assert!(after[1] >= before[1] + 198.0 && after[3] >= before[3] + 198.0, "{before:?} {after:?}");
    for (gateway, withdrawn) in [&pair.west, &pair.east].into_iter().zip(expected) {
        assert_eq!(gateway.status()["local_hop"]["withdrawn"].as_f64(), Some(withdrawn));
        assert_eq!(gateway.status()["local_hop"]["state"], "on");
    }
}

/// What a client of TLS says first, for this name.
fn client_hello(name: &'static str) -> Vec<u8> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut hello).unwrap();
    }
    hello
}

/// A service's endpoint is the gateway's own listener, whose clients say first whom they want: what it has read of them before it reads
/// as one that takes part is not taken for lost.
#[test]
fn what_was_read_before_is_not_missed() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let named = topology::gateway(18081);
    let west_config = pair::west_config(&topology, Transport::Tls)
        .with_affinity("local")
        .exports(pair::SERVICE, &[named])
        .with_export_policy(LOCAL_HOP)
        .imports_named("shop/back", named, &["api.example"]);
    let east_config =
        pair::east_config(&topology, Transport::Tls, &[pod(3, 8080)]).exports("shop/back", &[pair::endpoint()]);
    let pair = Pair::start_with(&topology, &west_config, &east_config);
    pair.west.wait_imported("shop/back", &["east"]);
    let hello = client_hello("api.example");
    let before = counts(&pair);
    // One of sixteen is looked at: none of so many once in 10^11 runs.
    const CLIENTS: usize = 400;
    pair.topology.block_on(async {
        for _ in 0..CLIENTS {
            let mut stream = pair.connect().await.unwrap();
            client::exchange(&mut stream, &hello).await.unwrap();
            client::exchange(&mut stream, b"there and back").await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        }
    });
    let after = counts(&pair);
    assert_eq!(after[0] - before[0], 2.0 * CLIENTS as f64, "both ends take part");
    assert!(after[1] - before[1] >= 2.0 * CLIENTS as f64, "and are redirected: {before:?} {after:?}");
    assert_eq!(pair.west.status()["local_hop"]["state"], "on", "{}", pair.west.log());
}

/// Waits until the programs of both gateways look at new connections, or at none.
fn looks(pair: &Pair<'_>, looks: bool) {
    for gateway in [&pair.west, &pair.east] {
        eventually("what the programs look at", || {
            let enabled = gateway.map("settings").get(&[0; 4]);
            if enabled == Some(u32::from(looks).to_ne_bytes().to_vec()) { Ok(()) } else { Err(format!("{enabled:?}")) }
        });
    }
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

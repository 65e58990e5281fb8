//! Clients that are handed to a core.

mod shares;

use super::{chosen::with_sides, *};
use crate::{
    balance::{health::HealthStatus, sides::SideStatus},
    core::tests::{East, deaf, exporting, idle, importing, local, read_all, reset, service},
    tunnel::{
        Refusal, StreamError, Tunnel,
        driver::tests::pair::{End, Offer, SETTINGS, Stream, on_a_core, opened, request as asked, spawn, until},
        mux::{Introduction, Settings, hello::REVISION},
        tls::tests::authority,
    },
};
use isthmus_control_api::{GatewayId, Link, Retries, ServicePolicy, Table, Timeouts};
use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CLIENTS_REFUSED: &str = r#"isthmus_refusals_total{bound="connections"}"#;

/// Two cores share three connections: two each. Five streams of a peer are no clients.
#[test]
fn clients_are_counted_by_themselves_and_each_core_has_its_share() {
    on_a_core(async {
        let east = East::with(|config| (config.cores, config.limits.connections) = (2, 3));
        let (address, _endpoint) = idle().await;
        east.apply(exporting(importing(&[]), &[address]));
        let west = east.peer(SETTINGS).await;
        let mut streams: Vec<Stream> = vec![];
        for _ in 0..5 {
            let mut stream = west.tunnel.open(&asked("west")).unwrap();
            opened(&mut stream).await.unwrap();
            streams.push(stream);
        }
        assert_eq!(east.core.streams.len(), 5);
        let first = east.client().await;
        let _second = east.client().await;
        assert_eq!(east.core.clients.get(), 2);
        assert!(east.counted(&format!("{CLIENTS_REFUSED} 0")));
        let mut third = east.client().await;
        assert_eq!(third.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(east.counted(&format!("{CLIENTS_REFUSED} 1")));
        reset(first);
        until(|| east.core.clients.get() == 1).await;
        let _fourth = east.client().await;
        assert_eq!(east.core.clients.get(), 2);
        assert!(east.counted(&format!("{CLIENTS_REFUSED} 1")));
    });
}

/// Bytes that a client sends before its stream is accepted: more than the peer gives credit for.
const EARLY_BYTES: usize = 10_000;
/// West's credit.
const LITTLE: Settings = Settings { window: 1000, ..SETTINGS };

/// A client's stream that west has accepted with the client's first bytes half way, and west's end of it.
async fn half_sent(east: &East) -> (TcpStream, Stream, End) {
    half_sent_by(east, importing(&["west"])).await
}

/// The same by an import of that table.
async fn half_sent_by(east: &East, table: Table) -> (TcpStream, Stream, End) {
    east.apply(table);
    let mut west = east.peer(LITTLE).await;
    let (mut client, accepted) = crate::tunnel::tls::tests::connection().await;
    client.write_all(&[7; EARLY_BYTES]).await.unwrap();
    east.serve(accepted);
    let Offer(_, mut theirs) = west.offers.recv().await.unwrap();
    until(|| theirs.first_byte().is_some()).await;
    theirs.accept();
    (client, theirs, west)
}

/// Sends so many bytes into a stream, and its end.
async fn send(theirs: &mut Stream, bytes: usize) {
    let (bytes, mut sent) = (vec![5; bytes], 0);
    while sent < bytes.len() {
        sent += poll_fn(|cx| theirs.poll_write(cx, &bytes[sent..])).await.unwrap();
    }
    theirs.finish();
}

#[test]
fn a_peer_that_sends_before_it_reads_is_read_while_the_first_bytes_wait() {
    on_a_core(async {
        let east = East::new();
        let (mut client, mut theirs, west) = half_sent(&east).await;
        // More than east gives credit for: it must be on its way to the client before west reads anything.
        const ANSWER: usize = 1 << 20;
        let answered = spawn(async move {
            send(&mut theirs, ANSWER).await;
            theirs
        });
        client.read_exact(&mut vec![0; ANSWER]).await.unwrap();
        let mut theirs = answered.await.unwrap();
        client.shutdown().await.unwrap();
        let (sink, mut endpoint) = local().await;
        let taken = spawn(async move { read_all(&mut endpoint).await });
        while poll_fn(|cx| theirs.poll_receive(cx, &sink)).await.unwrap() > 0 {}
        sink.finish();
        assert_eq!(taken.await.unwrap().0, [7; EARLY_BYTES]);
        drop((theirs, west));
    });
}

#[test]
fn the_end_of_a_peer_that_never_reads_comes_to_the_client() {
    on_a_core(async {
        let east = East::new();
        let (mut client, mut theirs, _west) = half_sent(&east).await;
        send(&mut theirs, 5000).await;
        let (bytes, end) = read_all(&mut client).await;
        end.unwrap();
        assert_eq!(bytes.len(), 5000);
    });
}

#[test]
fn a_client_that_goes_while_its_first_bytes_wait_resets_its_stream() {
    on_a_core(async {
        let east = East::new();
        let (mut client, mut theirs, _west) = half_sent(&east).await;
        // Once this is there, the stream is open.
        poll_fn(|cx| theirs.poll_write(cx, b"?")).await.unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        reset(client);
        until(|| east.core.clients.get() == 0).await;
        // Reading would give credit, and the first bytes would wait no more.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        until(|| matches!(theirs.poll_write(&mut cx, b"!"), Poll::Ready(Err(StreamError::Reset)))).await;
    });
}

/// The import's timeouts hold from the moment that the stream is open, whether its first bytes have all been sent or not.
#[test]
fn first_bytes_that_a_peer_never_takes_wait_no_longer_than_the_stream_may() {
    let soon = Some(Duration::from_millis(50));
    for timeouts in [
        Timeouts { first_byte: soon, ..Timeouts::default() },
        Timeouts { idle: soon, ..Timeouts::default() },
        Timeouts { max_age: soon, ..Timeouts::default() },
    ] {
        on_a_core(async {
            let east = East::new();
            let mut table = importing(&["west"]);
            for import in table.imports.values_mut() {
                Arc::make_mut(import).policy =
                    Arc::new(ServicePolicy { timeouts: timeouts.clone(), ..ServicePolicy::default() });
            }
            let (mut client, mut theirs, _west) = half_sent_by(&east, table).await;
            assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
            let labels = r#"service="shop/api:80",peer="west",direction="egress",reason="timeout""#;
            until(|| east.counted(&format!("isthmus_streams_closed_total{{{labels}}} 1"))).await;
            let mut cx = Context::from_waker(std::task::Waker::noop());
            until(|| matches!(theirs.poll_write(&mut cx, b"!"), Poll::Ready(Err(StreamError::Reset)))).await;
        });
    }
}

#[test]
fn an_endpoint_that_does_not_answer_in_time_is_counted_as_a_timeout() {
    on_a_core(async {
        let east = East::with(|config| config.connect_timeout = Duration::from_millis(50));
        let (address, _full) = deaf().await;
        east.apply(exporting(importing(&[]), &[address]));
        let mut client = east.client().await;
        assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let labels = r#"service="shop/api:80",peer="_local",direction="egress",reason="refused_timeout""#;
        until(|| east.counted(&format!("isthmus_streams_closed_total{{{labels}}} 1"))).await;
    });
}

#[test]
fn a_peer_that_does_not_answer_in_time_is_counted_as_a_timeout() {
    on_a_core(async {
        let east = East::with(|config| config.connect_timeout = Duration::from_millis(50));
        east.apply(importing(&["west"]));
        let mut west = east.peer(SETTINGS).await;
        let mut client = east.client().await;
        // West takes the stream, and never says what became of it.
        let Offer(_, mut theirs) = west.offers.recv().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        let labels = r#"service="shop/api:80",peer="west",direction="egress",reason="refused_timeout""#;
        until(|| east.counted(&format!("isthmus_streams_closed_total{{{labels}}} 1"))).await;
        let mut cx = Context::from_waker(std::task::Waker::noop());
        until(|| matches!(theirs.poll_write(&mut cx, b"!"), Poll::Ready(Err(StreamError::Reset)))).await;
    });
}

/// The settings of one of several gateways.
fn gateway(number: u64) -> Settings {
    let about = Introduction { revision: REVISION, gateway: GatewayId(number), ..Introduction::UNKNOWN };
    Settings { about, ..SETTINGS }
}

#[test]
fn a_gateway_that_does_not_answer_is_left_for_another_one_and_asked_after_it_from_then_on() {
    on_a_core(async {
        let east = East::new();
        east.apply(importing(&["west"]));
        let mut deaf = east.peer(gateway(1)).await;
        let _first = east.client().await;
        let Offer(_, _held) = deaf.offers.recv().await.unwrap();
        let mut good = east.peer(gateway(2)).await;
        let Offer(_, mut one) = good.offers.recv().await.unwrap();
        one.accept();
        until(|| east.core.peers.is_live(&"west".parse().unwrap())).await;
        // The good one has the stream, and so the larger load.
        let _second = east.client().await;
        let Offer(_, mut two) = good.offers.recv().await.unwrap();
        two.accept();
        assert!(deaf.offers.try_recv().is_err(), "the deaf one was asked again");
    });
}

/// Whether a stream is finding out, or is thought to be, whether one of these is back.
fn is_probing(east: &East, clusters: &[&str]) -> bool {
    let is_one = |of: &SideStatus| clusters.contains(&of.cluster.as_str()) && of.health == HealthStatus::Probing;
    with_sides(&east.core, &service(), |sides| sides.snapshot(Instant::now()).iter().any(is_one))
}

/// The first stream finds out about one cluster, and has no second try: nothing comes of the other one, which was chosen for that.
#[test]
fn a_cluster_whose_turn_was_a_retry_too_many_is_not_waited_for() {
    on_a_core(async {
        let (east, north) = (East::new(), authority("north"));
        east.trust(&[&east.west, &north]);
        let mut table = importing(&["west", "north"]);
        table.links.insert("north".parse().unwrap(), Link::default());
        for import in table.imports.values_mut() {
            let retries = Retries { percent: 0, per_second: 0 };
            Arc::make_mut(import).policy = Arc::new(ServicePolicy { retries, ..ServicePolicy::default() });
        }
        east.apply(table);
        let (mut west, mut north) = (east.peer(SETTINGS).await, east.peer_of(&north).await);
        let (long_ago, policy) = (Instant::now() - Duration::from_mins(1), ServicePolicy::default());
        for cluster in ["west", "north"] {
            with_sides(&east.core, &service(), |sides| sides.refused(&cluster.parse().unwrap(), &policy, long_ago));
        }
        let mut client = east.client().await;
        let Offer(_, mut stream) = tokio::select! {
            offer = west.offers.recv() => offer.unwrap(),
            offer = north.offers.recv() => offer.unwrap(),
        };
        assert!(is_probing(&east, &["west", "north"]));
        stream.refuse(&Refusal { reason: RefusalReason::NoEndpoint, message: String::new(), retry: true });
        assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(!is_probing(&east, &["west", "north"]));
    });
}

/// What one client's address meets, and a bound that was reached, say nothing of endpoints: the stream goes elsewhere, and the cluster stays in.
#[test]
fn a_cluster_that_says_nothing_of_its_endpoints_stays_in() {
    on_a_core(async {
        let (east, north) = (East::new(), authority("north"));
        east.trust(&[&east.west, &north]);
        let mut table = importing(&["west", "north"]);
        table.links.insert("north".parse().unwrap(), Link::default());
        east.apply(table);
        let (mut west, mut north) = (east.peer(gateway(1)).await, east.peer_of(&north).await);
        let left_out = || with_sides(&east.core, &service(), |sides| sides.snapshot(Instant::now()).len());
        for (reason, counted) in [(RefusalReason::Source, 0), (RefusalReason::Limit, 0), (RefusalReason::NoEndpoint, 1)]
        {
            let _client = east.client().await;
            let Offer(_, mut first) = tokio::select! {
                offer = west.offers.recv() => offer.unwrap(),
                offer = north.offers.recv() => offer.unwrap(),
            };
            first.refuse(&Refusal { reason, message: String::new(), retry: true });
            let Offer(_, mut second) = tokio::select! {
                offer = west.offers.recv() => offer.unwrap(),
                offer = north.offers.recv() => offer.unwrap(),
            };
            second.accept();
            assert_eq!(left_out(), counted, "{reason}");
        }
    });
}

#[test]
fn a_gateway_whose_endpoints_do_not_take_a_clients_address_is_not_left_for_another_one() {
    on_a_core(async {
        let east = East::new();
        east.apply(importing(&["west"]));
        let mut one = east.peer(gateway(1)).await;
        let mut client = east.client().await;
        let Offer(_, mut stream) = one.offers.recv().await.unwrap();
        let mut other = east.peer(gateway(2)).await;
        stream.refuse(&Refusal { reason: RefusalReason::Source, message: String::new(), retry: true });
        assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(other.offers.try_recv().is_err(), "it would ask the same endpoints");
    });
}

/// Idle connections are mostly this.
#[test]
fn a_stream_that_is_open_keeps_no_room_for_what_opening_it_took() {
    fn size<A, B, F>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
    let found = size(serve);
    assert!(found <= 584, "{found} bytes");
}

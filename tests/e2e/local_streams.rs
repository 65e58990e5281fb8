//! Streams that stay in their cluster: no tunnel, and spliced while they carry bulk.

use isthmus_tests::{
    Endpoint, Pattern, Topology, Transport, client, endpoint,
    pair::{self, Pair},
    topology::pod,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

/// West's endpoint.
const HOST: u8 = 2;
/// Each way.
const LENGTH: u64 = 64 << 20;

/// West serves its own clients. There is an east, whose endpoint is not asked, and not there.
fn start(topology: &Topology) -> Pair<'_> {
    let west = pair::west_config(topology, Transport::Tls).exports(pair::SERVICE, &[pod(HOST, 8080)]);
    Pair::start_with(
        topology,
        &west.with_affinity("local"),
        &pair::east_config(topology, Transport::Tls, &[pod(HOST + 1, 8080)]),
    )
}

fn spliced(pair: &Pair<'_>) -> f64 {
    pair.west.metrics().sum("isthmus_spliced_bytes_total", &[])
}

/// Sends and reads at the same time.
async fn both_ways(mut stream: TcpStream, own: u64) -> std::io::Result<client::Received> {
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        client::send(&mut writer, own, LENGTH).await?;
        writer.shutdown().await
    };
    let pause = Duration::from_millis(5);
    let receiving = async { Ok(client::receive_slowly(&mut reader, 4 << 20, pause).await) };
    tokio::try_join!(sending, receiving).map(|((), received)| received)
}

#[test]
fn bulk_arrives_whole_each_way_past_slow_readers_and_is_spliced() {
    let topology = Topology::west_and_east();
    let west = topology.cluster("west");
    let (told, mut hear) = mpsc::channel(1);
    let _endpoint = Endpoint::serve(west.pods(), west.tasks(), pod(HOST, 8080), move |stream| {
        let told = told.clone();
        async move {
            let received = both_ways(stream, 2).await?;
            let _ = told.send(received).await;
            Ok(())
        }
    });
    let pair = start(&topology);
    topology.block_on(async { both_ways(pair.connect().await.unwrap(), 1).await }).unwrap().assert_whole(2, LENGTH);
    topology.block_on(hear.recv()).unwrap().assert_whole(1, LENGTH);
    assert!(spliced(&pair) > LENGTH as f64, "{} bytes were spliced", spliced(&pair));
    pair.west.wait_metric("isthmus_splice_pipes", &[], |pipes| pipes == 0.0);
}

#[test]
fn one_side_ends_behind_bulk_and_the_other_goes_on() {
    let topology = Topology::west_and_east();
    let west = topology.cluster("west");
    let _endpoint = Endpoint::serve(west.pods(), west.tasks(), pod(HOST, 8080), |stream| {
        endpoint::answer_after_end(stream, 2, 8 << 20)
    });
    let pair = start(&topology);
    topology.block_on(async {
        for length in [1, 70_000, 8 << 20] {
            let mut stream = pair.connect().await.unwrap();
            client::send(&mut stream, 1, length).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut digest = [0; 32];
            stream.read_exact(&mut digest).await.unwrap();
            assert_eq!(&digest, Pattern::digest(1, length).as_bytes(), "{length} bytes up");
            client::receive(&mut stream).await.assert_whole(2, 8 << 20);
        }
    });
    assert!(spliced(&pair) > 0.0);
}

#[test]
fn a_reset_amid_bulk_is_a_reset_at_the_other_side() {
    let topology = Topology::west_and_east();
    let west = topology.cluster("west");
    let _endpoint = Endpoint::serve(west.pods(), west.tasks(), pod(HOST, 8080), |stream| {
        endpoint::reset_while_sending(stream, 2, 8 << 20)
    });
    let pair = start(&topology);
    topology.block_on(async {
        for _ in 0..5 {
            client::receive(&mut pair.connect().await.unwrap()).await.assert_reset(2);
        }
    });
    pair.west.wait_metric("isthmus_splice_pipes", &[], |pipes| pipes == 0.0);
}

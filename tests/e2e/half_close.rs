//! One side has said all it has to say, the other goes on.

use crate::{and_over_the_local_hop, over_each_transport};
use isthmus_tests::{
    Endpoint, Pattern, Topology, Transport, client, endpoint,
    pair::{self, Pair},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

over_each_transport!(by_the_client, by_the_server, by_both_at_once, without_a_byte);
and_over_the_local_hop!(by_the_client, by_the_server, by_both_at_once, without_a_byte);

/// Tails longer than any window, and none.
const LENGTHS: [u64; 4] = [0, 1, 70_000, 6 << 20];

fn by_the_client(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    const TAIL: usize = 4 << 20;
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |stream| {
        endpoint::answer_after_end(stream, 2, TAIL)
    });
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        for length in LENGTHS {
            let mut stream = pair.connect().await.unwrap();
            client::send(&mut stream, 1, length).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut digest = [0; 32];
            stream.read_exact(&mut digest).await.unwrap();
            assert_eq!(&digest, Pattern::digest(1, length).as_bytes(), "{length} bytes up");
            client::receive(&mut stream).await.assert_whole(2, TAIL as u64);
        }
    });
}

fn by_the_server(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    const HEAD: usize = 1 << 20;
    let (told, mut hear) = mpsc::channel(1);
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), move |stream| {
        endpoint::end_first(stream, 2, HEAD, told.clone())
    });
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        for length in LENGTHS {
            let mut stream = pair.connect().await.unwrap();
            client::receive(&mut stream).await.assert_whole(2, HEAD as u64);
            client::send(&mut stream, 1, length).await.unwrap();
            drop(stream);
            hear.recv().await.unwrap().assert_whole(1, length);
        }
    });
}

fn by_both_at_once(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let (told, mut hear) = mpsc::channel(1);
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), move |stream| {
        endpoint::end_first(stream, 2, 0, told.clone())
    });
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        for _ in 0..50 {
            let mut stream = pair.connect().await.unwrap();
            stream.shutdown().await.unwrap();
            client::receive(&mut stream).await.assert_whole(2, 0);
            hear.recv().await.unwrap().assert_whole(1, 0);
        }
    });
}

/// A client that ends at once still reaches the endpoint, and its answer the client.
fn without_a_byte(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _endpoint =
        Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |stream| endpoint::answer_after_end(stream, 2, 5));
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        let mut stream = pair.connect().await.unwrap();
        stream.shutdown().await.unwrap();
        let received = client::receive(&mut stream).await;
        received.clean().unwrap();
        assert_eq!(received.bytes, 32 + 5);
    });
}

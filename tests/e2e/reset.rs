//! A transfer that was broken off is an error at the other end, never a clean end.

use crate::{and_over_the_local_hop, over_each_transport};
use isthmus_tests::{
    Endpoint, Pattern, Topology, Transport, client, endpoint,
    pair::{self, Pair},
};
use std::io::ErrorKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

over_each_transport!(
    by_the_client,
    by_the_client_while_the_server_reads_nothing,
    by_the_server_between_messages,
    by_the_server_in_the_middle,
    by_the_server_after_the_clients_end,
    by_the_client_after_the_servers_end,
);
and_over_the_local_hop!(
    by_the_client,
    by_the_client_while_the_server_reads_nothing,
    by_the_server_between_messages,
    by_the_server_in_the_middle,
    by_the_server_after_the_clients_end,
    by_the_client_after_the_servers_end,
);

fn by_the_client(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let (told, mut hear) = mpsc::channel(1);
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), move |stream| {
        endpoint::sink(stream, told.clone())
    });
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        for length in [1, 100_000, 3 << 20] {
            let mut stream = pair.connect().await.unwrap();
            client::send(&mut stream, 1, length).await.unwrap();
            endpoint::reset(stream);
            hear.recv().await.unwrap().assert_reset(1);
        }
    });
}

/// The reset is behind bytes that nobody takes: it must get through all the same.
fn by_the_client_while_the_server_reads_nothing(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let (told, mut hear) = mpsc::channel(1);
    let go = CancellationToken::new();
    let reads = go.clone();
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), move |stream| {
        endpoint::sink_after(stream, reads.clone(), told.clone())
    });
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        let mut stream = pair.connect().await.unwrap();
        let filling = client::send(&mut stream, 1, 1 << 30);
        let filled = tokio::time::timeout(std::time::Duration::from_secs(2), filling).await;
        assert!(filled.is_err(), "a gibibyte went to an endpoint that reads nothing");
        endpoint::reset(stream);
        pair.east.wait_metric("isthmus_streams_active", &[], |active| active == 0.0);
        go.cancel();
        hear.recv().await.unwrap().assert_reset(1);
    });
}

/// The client has everything that was sent; only the reset says that more was to come.
fn by_the_server_between_messages(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    const HEAD: usize = 300_000;
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |stream| {
        endpoint::reset_after(stream, 2, HEAD as u64)
    });
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        let mut stream = pair.connect().await.unwrap();
        let mut head = vec![0; HEAD];
        stream.read_exact(&mut head).await.unwrap();
        assert!(head == Pattern::new(2).take(HEAD));
        stream.write_all(b"!").await.unwrap();
        client::receive(&mut stream).await.assert_reset(2);
    });
}

fn by_the_server_in_the_middle(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let served = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |stream| {
        endpoint::reset_while_sending(stream, 2, 5 << 20)
    });
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        for _ in 0..20 {
            match pair.connect().await {
                Ok(mut stream) => client::receive(&mut stream).await.assert_reset(2),
                // The reset came before this client has seen that it was connected.
                Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset),
            };
        }
    });
    // None of the resets was a refusal.
    assert_eq!(served.accepted(), 20);
}

fn by_the_server_after_the_clients_end(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::reset_after_end);
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        let mut stream = pair.connect().await.unwrap();
        stream.write_all(b"half a conversation").await.unwrap();
        stream.shutdown().await.unwrap();
        client::receive(&mut stream).await.assert_reset(2);
    });
}

fn by_the_client_after_the_servers_end(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let (told, mut hear) = mpsc::channel(1);
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), move |stream| {
        endpoint::end_first(stream, 2, 1000, told.clone())
    });
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    topology.block_on(async {
        let mut stream = pair.connect().await.unwrap();
        client::receive(&mut stream).await.assert_whole(2, 1000);
        client::send(&mut stream, 1, 100_000).await.unwrap();
        endpoint::reset(stream);
        hear.recv().await.unwrap().assert_reset(1);
    });
}

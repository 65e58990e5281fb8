//! Much data, slow readers, and the memory that it takes meanwhile.

use crate::{and_over_the_local_hop, heavy, over_each_transport};
use isthmus_tests::{
    Endpoint, Pattern, Topology, Transport, client, endpoint,
    pair::{self, Pair},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

over_each_transport!(one_gib_each_way_past_slow_readers, stalled_readers_stall_only_themselves);
and_over_the_local_hop!(one_gib_each_way_past_slow_readers, stalled_readers_stall_only_themselves);

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What both gateways together may hold resident, above what they hold at rest: a stream's window grows to 16 MiB each way, and the
/// buffer for it by doubling, so that the old and the new one are there for a moment.
const BUDGET: u64 = 192 * MIB;

/// Reads a burst, then pauses: for most of the time its window is full.
const BURST: (u64, Duration) = (16 * MIB, Duration::from_millis(20));

fn one_gib_each_way_past_slow_readers(transport: Transport) {
    let _turn = heavy();
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let (told, mut hear) = mpsc::channel(1);
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), move |stream| {
        let told = told.clone();
        async move {
            let received = both_ways(stream, 2).await?;
            let _ = told.send(received).await;
            Ok(())
        }
    });
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let at_rest = pair.resident();
    let (received, at_most) = topology.block_on(async {
        let stream = pair.connect().await.unwrap();
        let mut transfer = std::pin::pin!(both_ways(stream, 1));
        let mut at_most = at_rest;
        loop {
            tokio::select! {
                received = &mut transfer => break (received.unwrap(), at_most),
                () = tokio::time::sleep(Duration::from_millis(50)) => at_most = at_most.max(pair.resident()),
            }
        }
    });
    received.assert_whole(2, GIB);
    topology.block_on(hear.recv()).unwrap().assert_whole(1, GIB);
    let grown = at_most - at_rest;
    assert!(grown < BUDGET, "both gateways grew by {} MiB", grown / MIB);
}

/// Sends a GiB of a pattern and reads what the other side sends, at the same time.
async fn both_ways(mut stream: TcpStream, seed: u64) -> std::io::Result<client::Received> {
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        client::send(&mut writer, seed, GIB).await?;
        writer.shutdown().await
    };
    let receiving = async { Ok(client::receive_slowly(&mut reader, BURST.0, BURST.1).await) };
    tokio::try_join!(sending, receiving).map(|((), received)| received)
}

fn stalled_readers_stall_only_themselves(transport: Transport) {
    const STALLED: usize = 40;
    const EACH: u64 = 8 * MIB;
    let _turn = heavy();
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    // The first byte says what is wanted: 's' a source, everything else an echo. It is read, or closing would be a reset.
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |mut stream| async {
        let first = stream.read_u8().await?;
        if first == b's' {
            return endpoint::source(stream, 2, EACH).await;
        }
        stream.write_u8(first).await?;
        endpoint::echo(stream).await
    });
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let at_rest = pair.resident();
    let mut stalled = topology.block_on(async {
        let mut stalled = Vec::new();
        for _ in 0..STALLED {
            let mut stream = pair.connect().await.unwrap();
            stream.write_all(b"s").await.unwrap();
            stalled.push(stream);
        }
        stalled
    });
    for round in 0..20 {
        topology.block_on(async {
            let mut busy = JoinSet::new();
            for client in 0..32 {
                let mut stream = pair.connect().await.unwrap();
                let bytes = [b"echo".as_slice(), &Pattern::new(round * 100 + client).take(60_000)].concat();
                busy.spawn(async move { client::exchange(&mut stream, &bytes).await });
            }
            busy.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
        });
        let grown = pair.resident().saturating_sub(at_rest);
        assert!(grown < BUDGET, "both gateways grew by {} MiB", grown / MIB);
    }
    topology.block_on(async {
        for stream in &mut stalled {
            client::receive(stream).await.assert_whole(2, EACH);
        }
    });
}

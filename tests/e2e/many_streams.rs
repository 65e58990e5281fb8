//! Five thousand streams at once.

use crate::{and_over_the_local_hop, heavy, over_each_transport};
use isthmus_tests::{
    Endpoint, Pattern, Topology, Transport, client, endpoint,
    pair::{self, Pair},
    process::allow_descriptors,
};
use std::sync::Arc;
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet};

over_each_transport!(five_thousand_at_once);
and_over_the_local_hop!(five_thousand_at_once);

const STREAMS: usize = 5000;

/// Connections being opened at a time: what listen queues take.
const OPENING: usize = 200;

fn five_thousand_at_once(transport: Transport) {
    let _turn = heavy();
    allow_descriptors(4 * STREAMS as u64);
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let mut open = topology.block_on(async {
        let opening = Arc::new(Semaphore::new(OPENING));
        let mut streams = JoinSet::new();
        for seed in 0..STREAMS as u64 {
            let (pods, opening) = (Arc::clone(pair.west.cluster().pods()), Arc::clone(&opening));
            streams.spawn(async move {
                let _permit = opening.acquire().await.unwrap();
                let stream = client::connect(&pods, pair::import()).await?;
                verified(stream, seed).await
            });
        }
        streams.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().unwrap()
    });
    assert_eq!(endpoint.accepted(), STREAMS);
    pair.west.wait_metric("isthmus_streams_active", &[], |active| active == STREAMS as f64);
    // All of them once more, at the same time.
    open = topology.block_on(async {
        let mut streams = JoinSet::new();
        for (seed, stream) in open.into_iter().enumerate() {
            streams.spawn(verified(stream, (STREAMS + seed) as u64));
        }
        streams.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().unwrap()
    });
    drop(open);
    for gateway in [&pair.west, &pair.east] {
        gateway.wait_metric("isthmus_streams_active", &[], |active| active == 0.0);
    }
}

/// A message of its own there and back.
async fn verified(mut stream: TcpStream, seed: u64) -> std::io::Result<TcpStream> {
    client::exchange(&mut stream, &Pattern::new(seed).take(2000)).await?;
    Ok(stream)
}

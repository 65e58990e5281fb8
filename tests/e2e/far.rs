//! Two clusters far from each other, by an emulated WAN: what loss does to bytes, and what distance costs.

use crate::over_each_transport;
use isthmus_tests::{
    Netns, Nginx, Pattern, Topology, Transport, client,
    load::Reuse,
    pair::{self, Pair},
};
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

over_each_transport!(http_arrives_whole_over_a_lossy_wan, a_new_connection_costs_one_round_trip);

/// A round trip over the WAN.
const ROUND_TRIP: Duration = Duration::from_millis(80);
/// Connections of which the one in the middle counts.
const CONNECTIONS: usize = 11;

fn http_arrives_whole_over_a_lossy_wan(transport: Transport) {
    let topology = Topology::west_and_east_over("80ms,1%");
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served by east");
    let whole = Pattern::new(3).take(1 << 20);
    std::fs::write(nginx.files().join("large"), &whole).unwrap();
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    for reuse in [Reuse::ConnectionPerRequest, Reuse::KeepAlive] {
        let load = pair.load(8, reuse, "served by east");
        load.wait_for(100);
        load.stop().assert_no_failure();
    }
    let (url, file) = (format!("http://{}/files/large", pair::import()), topology.dir().join("fetched"));
    west.pods().exec("curl", &["-sS", "--fail", "-o", file.to_str().unwrap(), &url]);
    assert!(std::fs::read(file).unwrap() == whole, "the file differs");
    let lost = |from, to| topology.emulator().counters(from, to).unwrap().lost;
    assert!(lost("west", "east") + lost("east", "west") > 0, "without loss this proves nothing");
}

/// TCP needs a round trip for its handshake and one for the first answer. Over a tunnel that is there, only the second is left: the
/// stream's opening carries the first bytes, and the client's handshake is with its own cluster's gateway.
fn a_new_connection_costs_one_round_trip(transport: Transport) {
    let topology = Topology::west_and_east_over("80ms");
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let open = SocketAddr::new(east.tunnel_address().ip(), 8080);
    let _open = Nginx::start(east.edge(), east.dir(), open, "open to the WAN");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served by east");
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    pair.load(1, Reuse::ConnectionPerRequest, "served by east").wait_for(5);
    topology.block_on(async {
        let direct = first_bytes(west.edge(), open).await;
        let tunnelled = first_bytes(west.pods(), pair::import()).await;
        // The round trip as direct TCP had it in this run, with whatever the machine added.
        let round_trip = direct / 2;
        assert!(round_trip >= ROUND_TRIP && tunnelled >= ROUND_TRIP);
        assert!(tunnelled < 2 * round_trip, "{tunnelled:?}, and direct TCP has {direct:?}");
    });
}

/// From the connect to the first byte of the answer: the median of a few new connections, one after the other.
async fn first_bytes(netns: &Netns, address: SocketAddr) -> Duration {
    let mut took = Vec::new();
    for _ in 0..CONNECTIONS {
        took.push(first_byte(netns, address).await.unwrap());
    }
    took.sort_unstable();
    took[CONNECTIONS / 2]
}

async fn first_byte(netns: &Netns, address: SocketAddr) -> io::Result<Duration> {
    let begun = Instant::now();
    let mut stream = client::connect(netns, address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: e2e\r\nConnection: close\r\n\r\n").await?;
    stream.read_u8().await?;
    Ok(begun.elapsed())
}

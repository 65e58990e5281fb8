//! Bytes that make no sense, too many of them, and too few: on every port, before and after the handshake.

use isthmus_tests::{
    Endpoint, Netns, Papers, Pattern, Topology, Transport, admin, client, endpoint,
    pair::{self, Pair},
    stranger,
};
use std::{net::SocketAddr, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

/// A second for a handshake, so that the slow ones can be waited for.
const IMPATIENT: &str = "limits: {handshakeTimeout: 1s}";

fn impatient(topology: &Topology) -> Pair<'_> {
    let (west, east) =
        (pair::west_config(topology, Transport::Tls), pair::east_config(topology, Transport::Tls, &[pair::endpoint()]));
    Pair::start_with(topology, &west.with(IMPATIENT), &east.with(IMPATIENT))
}

/// What a stranger may say first.
fn openings() -> Vec<Vec<u8>> {
    let record = |kind: u8, length: u16, body: usize| {
        let [high, low] = length.to_be_bytes();
        [vec![kind, 3, 1, high, low], Pattern::new(3).take(body)].concat()
    };
    vec![
        Pattern::new(1).take(64 * 1024),
        vec![0; 1 << 20],
        vec![0xff; 1 << 20],
        b"GET / HTTP/1.1\r\nHost: east\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        // A handshake record that is longer than TLS allows; one that never ends; application data before any handshake.
        record(22, 0xffff, 0xffff),
        record(22, 16_000, 200),
        record(23, 1000, 1000),
        // A ClientHello's beginning that claims 16 MiB.
        [record(22, 400, 0), vec![1, 0xff, 0xff, 0xff], vec![3; 396]].concat(),
        Vec::new(),
    ]
}

#[test]
fn on_the_tunnel_port() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let mut pair = impatient(&topology);
    topology.block_on(every_opening_is_closed(west.edge(), east.tunnel_address(), &openings()));
    topology.block_on(a_drip_is_closed(west.edge(), east.tunnel_address(), &openings()[6]));
    assert!(pair.east.runs() && pair.west.runs());
    pair.wait_echo();
}

#[test]
fn on_the_admin_port() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let mut pair = impatient(&topology);
    let mut openings = openings();
    openings.push([b"GET /status HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 4 << 20]].concat());
    openings.push(b"POST /status HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nbody".to_vec());
    // A request that is right is answered and may be followed by another.
    openings.retain(|opening| !opening.starts_with(b"GET / HTTP"));
    topology.block_on(every_opening_is_closed(east.edge(), admin::ADDRESS, &openings));
    topology.block_on(a_drip_is_closed(east.edge(), admin::ADDRESS, b"GET /status HTTP/1.1\r\nHost: x\r\nX-Slow: "));
    assert!(pair.east.runs());
    assert_eq!(pair.east.readyz().unwrap().0, 200);
    pair.wait_echo();
}

/// A listener carries whatever comes: what makes no sense to us makes sense to the endpoint.
#[test]
fn on_a_listener() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = impatient(&topology);
    topology.block_on(async {
        for bytes in openings() {
            let mut stream = pair.connect().await.unwrap();
            client::exchange(&mut stream, &bytes).await.unwrap();
        }
        let mut stream = pair.connect().await.unwrap();
        for byte in 0..100 {
            client::exchange(&mut stream, &[byte]).await.unwrap();
        }
    });
}

/// A peer with the right papers that then says nonsense, in either protocol.
#[test]
fn from_an_authenticated_peer() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let mut pair = impatient(&topology);
    let papers = Papers::of(&west.identity_dir());
    let input = topology.dir().join("nonsense");
    for protocol in ["isthmus/1", "h2"] {
        for nonsense in
            [Pattern::new(1).take(1 << 20), vec![0xff; 1 << 20], vec![0; 1 << 20], b"HELO\r\n".repeat(10_000)]
        {
            std::fs::write(&input, nonsense).unwrap();
            stranger::dial(west.edge(), east.tunnel_address(), Some(&papers), &["-quiet", "-alpn", protocol], &input);
            assert!(pair.east.runs(), "{protocol}");
        }
    }
    pair.wait_echo();
}

/// Strangers that say nothing take every place for a handshake; the places are free again in bounded time.
#[test]
fn strangers_do_not_lock_a_peer_out() {
    let topology = Topology::west_and_east();
    let (west, east) = (topology.cluster("west"), topology.cluster("east"));
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let mut pair = impatient(&topology);
    let _silent: Vec<TcpStream> = topology.block_on(async {
        let mut silent = Vec::new();
        for _ in 0..600 {
            silent.push(client::connect(west.edge(), east.tunnel_address()).await.unwrap());
        }
        silent
    });
    pair.west.restart();
    pair.wait_echo();
}

/// All at once: each connection has to be closed by the other side.
async fn every_opening_is_closed(netns: &Netns, address: SocketAddr, openings: &[Vec<u8>]) {
    let mut strangers = JoinSet::new();
    for opening in openings {
        let (opening, mut stream) = (opening.clone(), client::connect(netns, address).await.unwrap());
        strangers.spawn(async move {
            let (mut reader, mut writer) = stream.split();
            // It may be closed while this is being written.
            let ((), received) =
                tokio::join!(async { drop(writer.write_all(&opening).await) }, client::receive(&mut reader));
            (opening, received)
        });
    }
    for (opening, received) in strangers.join_all().await {
        let first = &opening[..opening.len().min(16)];
        assert_ne!(received.end, client::End::Hung, "not closed: {} bytes that begin {first:?}", opening.len());
    }
}

/// A byte now and then, for ever: nobody may keep a connection by that.
async fn a_drip_is_closed(netns: &Netns, address: SocketAddr, bytes: &[u8]) {
    let mut stream = client::connect(netns, address).await.unwrap();
    let endless = bytes.iter().copied().chain(std::iter::repeat(b'x'));
    let (mut reader, mut writer) = stream.split();
    let dripping = async {
        for byte in endless {
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = async {
        let bounded = tokio::time::timeout(client::STALL_BOUND, client::receive(&mut reader)).await;
        bounded.is_ok_and(|received| received.end != client::End::Hung)
    };
    let mut closed = std::pin::pin!(closed);
    let closed = tokio::select! {
        closed = &mut closed => closed,
        () = dripping => closed.await,
    };
    assert!(closed, "not closed: {address}");
}

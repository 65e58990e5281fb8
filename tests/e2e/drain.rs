//! SIGTERM: what is under way is finished, nothing new is taken, and then it ends.

use crate::{and_over_the_local_hop, over_each_transport};
use isthmus_tests::{
    End, Endpoint, Gateway, Nginx, Topology, Transport, client, endpoint, eventually,
    load::Reuse,
    pair::{self, Pair},
};
use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

over_each_transport!(
    the_egress_finishes_what_is_under_way,
    the_ingress_finishes_what_is_under_way,
    no_request_fails_while_the_egress_drains,
    half_closed_clients_get_the_last_bytes_of_an_ingress_that_drains,
    the_last_bytes_take_their_time_on_a_slow_path,
);
and_over_the_local_hop!(
    the_egress_finishes_what_is_under_way,
    the_ingress_finishes_what_is_under_way,
    no_request_fails_while_the_egress_drains,
    half_closed_clients_get_the_last_bytes_of_an_ingress_that_drains,
    the_last_bytes_take_their_time_on_a_slow_path,
);

const LENGTH: u64 = 4 << 20;
const CLIENTS: usize = 16;

fn the_egress_finishes_what_is_under_way(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_source, mut pair, streams) = under_way(&topology, transport);
    pair.west.terminate();
    wait_not_ready(&pair.west);
    eventually("the listener is closed", || match pair.west.cluster().pods().connect(pair::import()) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(pair.west.runs(), "streams are under way");
    topology.block_on(finish(streams));
    assert!(pair.west.wait_end().success());
    assert!(pair.east.runs());
}

fn the_ingress_finishes_what_is_under_way(transport: Transport) {
    let topology = Topology::west_and_east();
    let (_source, mut pair, streams) = under_way(&topology, transport);
    pair.east.terminate();
    wait_not_ready(&pair.east);
    assert!(pair.east.runs(), "streams are under way");
    topology.block_on(finish(streams));
    assert!(pair.east.wait_end().success());
    // West is told, and says so to new clients at once instead of letting them wait.
    let received = topology.block_on(async { client::receive(&mut pair.connect().await.unwrap()).await });
    assert_eq!(received.end, End::Error(ErrorKind::ConnectionReset));
    pair.east.restart();
    pair.west.wait_imported(pair::SERVICE, &["east"]);
    let received = eventually("new streams work again", || {
        let received = topology.block_on(async { client::receive(&mut pair.connect().await.unwrap()).await });
        received.clean().map(|()| received).map_err(|e| e.to_string())
    });
    received.assert_whole(2, LENGTH);
}

fn half_closed_clients_get_the_last_bytes_of_an_ingress_that_drains(transport: Transport) {
    last_bytes(&Topology::west_and_east(), transport, LENGTH);
}

/// What all streams end with is within their first credit, so they are over at the ingress long before it has left.
fn the_last_bytes_take_their_time_on_a_slow_path(transport: Transport) {
    last_bytes(&Topology::west_and_east_over("40ms,1mbit"), transport, 40_000);
}

/// Clients whose own end is there already read the last `length` bytes of an ingress that drains: nothing more comes from them that
/// would tell that they have everything.
fn last_bytes(topology: &Topology, transport: Transport, length: u64) {
    let east = topology.cluster("east");
    let asked = Arc::new(Semaphore::new(0));
    let asked_ = asked.clone();
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), move |mut stream| {
        let asked = asked_.clone();
        async move {
            stream.write_all(b"hello").await?;
            client::receive(&mut stream).await.clean()?;
            asked.acquire().await.map_err(io::Error::other)?.forget();
            endpoint::source(stream, 2, length).await
        }
    });
    let mut pair = Pair::start(topology, transport, &[pair::endpoint()]);
    let mut streams = topology.block_on(begun(&pair));
    topology.block_on(async {
        for stream in &mut streams {
            stream.read_exact(&mut [0; 5]).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    pair.east.terminate();
    wait_not_ready(&pair.east);
    let finished = topology.block_on(async {
        let mut reading = JoinSet::new();
        for mut stream in streams {
            reading.spawn(async move { client::receive(&mut stream).await });
        }
        asked.add_permits(CLIENTS);
        reading.join_all().await
    });
    for received in finished {
        received.assert_whole(2, length);
    }
    assert!(pair.east.wait_end().success());
}

/// Whatever was accepted is answered; a client that is refused goes elsewhere, as it would with several gateways.
fn no_request_fails_while_the_egress_drains(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let mut pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let load = pair.load(CLIENTS, Reuse::ConnectionPerRequest, "served");
    load.wait_for(500);
    pair.west.terminate();
    assert!(pair.west.wait_end().success());
    load.stop().assert_no_failure();
}

#[test]
fn the_second_signal_ends_at_once() {
    let topology = Topology::west_and_east();
    let (_hang, mut pair, mut stream) = hanging(&topology, "drain: 1h");
    pair.west.terminate();
    wait_not_ready(&pair.west);
    assert!(pair.west.runs(), "a stream is under way, and there is an hour for it");
    pair.west.terminate();
    pair.west.wait_end();
    assert_ne!(topology.block_on(client::receive(&mut stream)).end, End::Hung);
}

#[test]
fn the_deadline_ends_streams_that_do_not() {
    let topology = Topology::west_and_east();
    let (_hang, mut pair, mut stream) = hanging(&topology, "drain: 1s");
    pair.west.terminate();
    pair.west.wait_end();
    let end = topology.block_on(client::receive(&mut stream)).end;
    assert_eq!(end, End::Error(ErrorKind::ConnectionReset), "it was broken off, and has to look so");
}

/// Keep-alive connections are idle streams: they may live until the deadline, and requests on them succeed until then.
#[test]
fn keep_alive_clients_are_served_to_the_deadline() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let mut pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let mut stream = topology.block_on(pair.connect()).unwrap();
    topology.block_on(client::exchange(&mut stream, b"before")).unwrap();
    pair.west.terminate();
    wait_not_ready(&pair.west);
    for _ in 0..20 {
        topology.block_on(client::exchange(&mut stream, b"while it drains")).unwrap();
    }
    drop(stream);
    assert!(pair.west.wait_end().success(), "the last stream has ended, and the deadline need not come");
}

/// A pair with an endpoint that sends much, and clients that have begun to read it.
fn under_way(topology: &Topology, transport: Transport) -> (Endpoint, Pair<'_>, Vec<TcpStream>) {
    let east = topology.cluster("east");
    let source =
        Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), |stream| endpoint::source(stream, 2, LENGTH));
    let pair = Pair::start(topology, transport, &[pair::endpoint()]);
    let streams = topology.block_on(begun(&pair));
    (source, pair, streams)
}

/// A pair with a stream that does not end by itself; `drain`: west's line on how long it may take then.
fn hanging<'t>(topology: &'t Topology, drain: &str) -> (Endpoint, Pair<'t>, TcpStream) {
    let east = topology.cluster("east");
    let hang = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::hang);
    let (west_config, east_config) = (
        pair::west_config(topology, Transport::Tls).with(drain),
        pair::east_config(topology, Transport::Tls, &[pair::endpoint()]),
    );
    let pair = Pair::start_with(topology, &west_config, &east_config);
    let stream = topology.block_on(pair.connect()).unwrap();
    pair.west.wait_metric("isthmus_streams_active", &[], |active| active == 1.0);
    (hang, pair, stream)
}

/// As many clients as are enough, each with the first byte of its answer.
async fn begun(pair: &Pair<'_>) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..CLIENTS {
        let stream = pair.connect().await.unwrap();
        stream.peek(&mut [0]).await.unwrap();
        streams.push(stream);
    }
    streams
}

/// Each reads on slowly, and gets everything.
async fn finish(streams: Vec<TcpStream>) {
    let mut reading = JoinSet::new();
    for mut stream in streams {
        reading.spawn(async move { client::receive_slowly(&mut stream, 1 << 20, Duration::from_millis(50)).await });
    }
    for received in reading.join_all().await {
        received.assert_whole(2, LENGTH);
    }
}

fn wait_not_ready(gateway: &Gateway<'_>) {
    eventually("it is not ready any more", || match gateway.readyz() {
        Ok((503, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

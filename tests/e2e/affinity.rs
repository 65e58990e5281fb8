//! Clients that stay with their endpoints: `sessionAffinity: clientIP`.

use crate::over_each_transport;
use isthmus_tests::{
    Endpoint, Topology, Transport, client, eventually,
    pair::{self, Pair},
    topology::pod,
};
use std::{collections::BTreeSet, net::IpAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

over_each_transport!(a_client_stays_with_its_endpoint_whatever_restarts);

/// The endpoints: each says which one it is.
const ENDPOINTS: std::ops::Range<u8> = 2..8;
/// The clients' addresses end so.
const CLIENTS: std::ops::Range<u8> = 2..10;

fn serve(topology: &Topology, host: u8) -> Endpoint {
    let east = topology.cluster("east");
    Endpoint::serve(east.pods(), east.tasks(), pod(host, 8080), move |mut stream| async move {
        stream.write_u8(host).await?;
        stream.shutdown().await
    })
}

/// Which endpoint a client gets.
fn ask(topology: &Topology, client: u8) -> u8 {
    let from = IpAddr::from([10, 0, 0, client]);
    topology.block_on(async {
        let mut stream = client::connect_from(topology.cluster("west").pods(), from, pair::import()).await.unwrap();
        stream.read_u8().await.unwrap()
    })
}

/// Which endpoint each client gets, each time of several.
fn ask_all(topology: &Topology) -> Vec<u8> {
    let all: Vec<_> = CLIENTS.map(|client| ask(topology, client)).collect();
    for _ in 0..5 {
        assert_eq!(CLIENTS.map(|client| ask(topology, client)).collect::<Vec<_>>(), all);
    }
    all
}

fn a_client_stays_with_its_endpoint_whatever_restarts(transport: Transport) {
    let topology = Topology::west_and_east();
    let mut endpoints: Vec<_> = ENDPOINTS.map(|host| (host, serve(&topology, host))).collect();
    let addresses: Vec<_> = ENDPOINTS.map(|host| pod(host, 8080)).collect();
    let mut west = pair::west_config(&topology, transport);
    west.sticky = true;
    let mut pair = Pair::start_with(&topology, &west, &pair::east_config(&topology, transport, &addresses));
    let first = ask_all(&topology);
    assert!(first.iter().collect::<BTreeSet<_>>().len() > 1, "not all at one: {first:?}");

    // Nothing of it is remembered, so nothing of it is lost.
    pair.east.restart();
    pair.west.restart();
    pair.west.wait_imported(pair::SERVICE, &["east"]);
    assert_eq!(ask_all(&topology), first);

    // One endpoint is gone: its clients go to others, and only they do.
    let gone = first[0];
    endpoints.retain(|(host, _)| *host != gone);
    eventually("the endpoint is gone", || match topology.cluster("east").pods().connect(pod(gone, 8080)) {
        Ok(_) => Err("it is there".into()),
        Err(_) => Ok(()),
    });
    let then = ask_all(&topology);
    for (was, is) in first.iter().zip(&then) {
        assert_eq!(was == is, *was != gone, "{first:?}, then {then:?}");
    }
    endpoints.push((gone, serve(&topology, gone)));
    eventually("its clients are back", || {
        let now: Vec<_> = CLIENTS.map(|client| ask(&topology, client)).collect();
        if now == first { Ok(()) } else { Err(format!("{now:?}, first {first:?}")) }
    });
}

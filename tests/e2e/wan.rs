//! The path between the clusters fails: packets vanish, and no socket is told.

use crate::over_each_transport;
use isthmus_tests::{
    End, Endpoint, Nginx, Pattern, Topology, Transport, check, client, endpoint,
    load::Reuse,
    pair::{self, Pair},
};

over_each_transport!(cut_and_restored, cut_under_load);

/// What a link may be called that carries nothing.
const NOT_UP: [&str; 4] = ["unresponsive", "down", "dialling", "waiting"];

fn cut_and_restored(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _echo = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo);
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    pair.wait_echo();
    let mut idle = topology.block_on(pair.connect()).unwrap();
    topology.block_on(client::exchange(&mut idle, b"before the cut")).unwrap();
    for _ in 0..2 {
        topology.cut_wan();
        pair.west.wait_link("east", &NOT_UP);
        pair.east.wait_link("west", &NOT_UP);
        for (gateway, about) in [(&pair.west, "link east"), (&pair.east, "link west")] {
            check::wait_named(gateway, about, &[]);
        }
        topology.restore_wan();
        pair.wait_echo();
        pair.west.wait_link("east", &["up"]);
        pair.east.wait_link("west", &["up"]);
    }
    // A stream from before goes on, or is reset; it does not hang, and it does not end as if it were whole.
    let after = topology.block_on(client::exchange(&mut idle, &Pattern::new(1).take(100_000)));
    if after.is_err() {
        let received = topology.block_on(client::receive(&mut idle));
        assert!(matches!(received.end, End::Error(_) | End::Fin) && received.bytes == 0, "{after:?}, {received:?}");
        let kind = after.map_err(|e| e.kind());
        assert!(matches!(kind, Err(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)), "{kind:?}");
    }
}

fn cut_under_load(transport: Transport) {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), "served");
    let pair = Pair::start(&topology, transport, &[pair::endpoint()]);
    let load = pair.load(8, Reuse::ConnectionPerRequest, "served");
    load.wait_for(100);
    topology.cut_wan();
    pair.west.wait_link("east", &NOT_UP);
    topology.restore_wan();
    load.wait_for(500);
    load.stop();
    let load = pair.load(8, Reuse::KeepAlive, "served");
    load.wait_for(500);
    load.stop().assert_no_failure();
}

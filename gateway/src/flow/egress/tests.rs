//! Flows of clients, as the listener hands them in.

use super::*;
use crate::{
    balance::{health::HealthStatus, sides::Sides},
    core::tests::{East, linked, service},
    socket::datagram::Listener,
    tunnel::driver::tests::pair::{Offer, SETTINGS, on_a_core, spawn},
};
use isthmus_control_api::{Protocol, ServicePolicy, ServicePort};

/// An import that west has.
fn import() -> Import {
    Import {
        service: ServicePort { protocol: Protocol::Udp, ..service() },
        affinity: Default::default(),
        clusters: [("west".parse().unwrap(), 1)].into(),
        weights: None,
        sticky: false,
        policy: Default::default(),
    }
}

/// A client that has said one datagram.
fn client(core: &Core) -> ClientEnd {
    let flow = Flow::new(&core.queued, Instant::now());
    flow.push(Bytes::from_static(b"?"), Instant::now());
    let listener = Rc::new(Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap());
    ClientEnd { flow, listener, address: "127.0.0.1:9".parse().unwrap(), to: None }
}

#[test]
fn a_flow_that_ends_while_it_finds_out_about_a_cluster_leaves_that_to_the_next() {
    on_a_core(async {
        let (east, import) = (East::new(), import());
        east.apply(linked());
        let mut west = east.peer(SETTINGS).await;
        let cluster = "west".parse().unwrap();
        let mut sides = Sides::default();
        sides.refused(&cluster, &ServicePolicy::default(), Instant::now() - Duration::from_mins(1));
        east.core.sides.borrow_mut().insert(import.service.clone(), sides);
        let is_probing = || {
            let all = east.core.sides.borrow();
            all[&import.service].snapshot(Instant::now())[0].health == HealthStatus::Probing
        };
        let mut client = client(&east.core);
        let flow = client.flow.clone();
        let (core, import_) = (east.core.clone(), import.clone());
        let listen = Listen::udp("192.0.2.1:80".parse().unwrap());
        let served = spawn(async move { serve(&core, (&listen, &import_), &mut client).await });
        // West takes the stream, and never says what became of it.
        let Offer(_, _held) = west.offers.recv().await.unwrap();
        assert!(is_probing());
        flow.close(Closed::Idle);
        served.await.unwrap();
        assert!(!is_probing());
    });
}

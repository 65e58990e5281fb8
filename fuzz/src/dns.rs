//! DNS queries, as anybody in the cluster can send them.

use isthmus_control_dns::{Addresses, Port, Service, Transport, Zone, respond};
use std::sync::{Arc, LazyLock};

static ZONE: LazyLock<Option<Zone>> = LazyLock::new(|| {
    let port = Port { name: Some("http".into()), protocol: Default::default(), number: 80 };
    let address = [10, 96, 0, 7].into();
    let service = Service { ports: vec![port], addresses: Addresses::ClusterSetIp(vec![address]) };
    Some(Zone::unknown("clusterset.local").ok()?.with(Arc::new([("shop/api".parse().ok()?, service)].into())))
});

/// Whatever is asked, the answer has the question's id and the mark of an answer, and fits.
pub fn query(input: &[u8]) {
    let Some(zone) = &*ZONE else { return };
    for (transport, largest) in [(Transport::Udp, 1232), (Transport::Tcp, 65535)] {
        if let Some(answer) = respond(zone, input, transport) {
            assert!(answer.len() <= largest);
            assert_eq!(answer[..2], input[..2]);
            assert_eq!(answer[2] & 0x80, 0x80);
            assert_eq!(input[2] & 0x80, 0, "an answer is not answered");
        }
    }
}

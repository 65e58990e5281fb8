use super::{
    super::tests::{key, service},
    *,
};
use proptest::prelude::*;

fn tcp(number: u16) -> Port {
    Port { number, protocol: Protocol::Tcp }
}

/// A derived Service that leads to a port of the gateway.
fn derived(name: &str, target: i32) -> Service {
    let mut service = service(name, &[("", 80, "TCP")]);
    service.metadata.labels = Some([(super::super::MANAGED_BY.to_owned(), super::super::MANAGER.to_owned())].into());
    service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].target_port = Some(IntOrString::Int(target));
    service
}

fn ports(of: &[(&str, i32)]) -> Ports {
    let world =
        World { services: of.iter().map(|(name, target)| derived(name, *target)).collect(), ..World::default() };
    Ports::read(&world, &Plan::default(), 20..=24)
}

#[test]
fn what_a_service_shows_is_its_own_unless_it_cannot_be() {
    let mut ports = ports(&[("ns/a", 22), ("ns/b", 22), ("ns/c", 9), ("ns/d", 20)]);
    let mut give = |name| ports.give(&key(name), tcp(80));
    assert_eq!(["ns/a", "ns/d", "ns/b", "ns/c"].map(&mut give), [Some(22), Some(20), Some(21), Some(23)]);
    assert_eq!(["ns/e", "ns/f"].map(&mut give), [Some(24), None]);
    assert_eq!(give("ns/a"), Some(22), "the same again");
}

#[test]
fn tcp_and_udp_have_ports_of_their_own() {
    let mut ports = ports(&[]);
    let udp = Port { protocol: Protocol::Udp, ..tcp(80) };
    assert_eq!((ports.give(&key("ns/a"), tcp(80)), ports.give(&key("ns/a"), udp)), (Some(20), Some(21)));
}

proptest! {
    #[test]
    fn no_two_have_the_same(shown in proptest::collection::vec((0..9u8, 15..30i32), 0..9), asked in proptest::collection::vec((0..9u8, 80..82u16), 0..20)) {
        let shown: Vec<_> = shown.into_iter().map(|(n, target)| (format!("ns/s{n}"), target)).collect();
        let mut ports = ports(&shown.iter().map(|(name, target)| (&**name, *target)).collect::<Vec<_>>());
        let mut given = BTreeMap::new();
        for (n, number) in asked {
            let key = (key(&format!("ns/s{n}")), tcp(number));
            let port = ports.give(&key.0, key.1);
            prop_assert!(port.is_none_or(|port| (20..=24).contains(&port)));
            prop_assert_eq!(given.insert(key, port).unwrap_or(port), port, "it stays");
        }
        let all: Vec<_> = given.values().flatten().collect();
        prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}

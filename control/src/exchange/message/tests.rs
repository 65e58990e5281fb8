use super::*;
use proptest::{collection, prelude::*};

/// A few services, so that changes meet each other.
pub(crate) fn any_summaries() -> impl Strategy<Value = Summaries> {
    let key = (0..8u8, 1..4u16, any::<bool>()).prop_map(|(name, port, udp)| ServicePort {
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        ..service(&format!("shop/s{name}"), port)
    });
    let summary = (proptest::option::of("[a-z]{1,5}"), 0..3u32, 0..3u64);
    let summary = summary.prop_map(|(port_name, ready, since)| Summary { port_name, ready, since });
    collection::btree_map(key, summary, 0..12)
}

pub(crate) fn service(name: &str, port: u16) -> ServicePort {
    ServicePort::tcp(name.parse().unwrap(), port)
}

fn any_message() -> impl Strategy<Value = Message> {
    let version = || any::<u64>();
    prop_oneof![
        (any::<u32>(), "[a-z]{1,9}", version()).prop_map(|(protocol, cluster, epoch)| {
            Message::Hello(Hello { protocol, cluster: cluster.parse().unwrap(), epoch })
        }),
        (version(), any_summaries()).prop_map(|(version, services)| Message::Snapshot { version, services }),
        (version(), version(), any_summaries(), any_summaries()).prop_map(|(from, to, upserts, removed)| {
            Message::Delta(Delta { from, to, upserts, removed: removed.into_keys().collect() })
        }),
        version().prop_map(|version| Message::Heartbeat { version }),
        version().prop_map(|version| Message::Ack { version }),
        (version(), "[a-z ]{0,99}").prop_map(|(version, reason)| Message::Nack { version, reason }),
    ]
}

proptest! {
    #[test]
    fn a_message_comes_back_from_its_bytes(message in any_message()) {
        prop_assert_eq!(decode(&message.encode()), Ok(message));
    }

    #[test]
    fn no_bytes_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn no_damage_panics(message in any_message(), at in any::<prop::sample::Index>(), by in any::<u8>()) {
        let mut bytes = message.encode();
        if !bytes.is_empty() {
            *at.get_mut(&mut bytes) = by;
        }
        let _ = decode(&bytes);
    }
}

/// What another implementation of docs/exchange.proto writes: made by protoc's Python classes.
#[test]
fn the_bytes_are_those_of_the_proto_file() {
    let cases = [
        ("0a0a08011204656173741807", Message::Hello(Hello { protocol: 1, cluster: "east".parse().unwrap(), epoch: 7 })),
        (
            "121e0803121a0a0e0a0873686f702f617069105018011204687474701802200a",
            Message::Snapshot {
                version: 3,
                services: [(service("shop/api", 80), Summary { port_name: Some("http".into()), ready: 2, since: 10 })]
                    .into(),
            },
        ),
        (
            "1a1408031004220e0a0773686f702f646210b82a1801",
            Message::Delta(Delta { from: 3, to: 4, removed: vec![service("shop/db", 5432)], ..Delta::default() }),
        ),
        ("22020804", Message::Heartbeat { version: 4 }),
        ("2a020804", Message::Ack { version: 4 }),
        ("3206080412026e6f", Message::Nack { version: 4, reason: "no".into() }),
    ];
    for (hex, message) in cases {
        let encoded: String = message.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(encoded, hex, "{message:?}");
    }
}

#[test]
fn a_port_of_a_protocol_not_known_here_is_left_out() {
    let summary = |port, protocol| wire::ServiceSummary {
        key: Some(wire::ServiceKey { service: "shop/dns".into(), port, protocol }),
        ready: 1,
        ..wire::ServiceSummary::default()
    };
    let services =
        vec![summary(53, wire::Protocol::Tcp as i32), summary(53, wire::Protocol::Udp as i32), summary(54, 99)];
    let body = wire::Body::Snapshot(wire::Snapshot { version: 1, services });
    let message = decode(&wire::Frame { body: Some(body) }.encode_to_vec()).unwrap();
    let Message::Snapshot { services, .. } = message else { panic!("{message:?}") };
    let udp = ServicePort { protocol: Protocol::Udp, ..service("shop/dns", 53) };
    assert_eq!(services.into_keys().collect::<Vec<_>>(), [service("shop/dns", 53), udp]);
}

#[test]
fn the_largest_snapshot_fits_a_frame() {
    let label = "a".repeat(63);
    let summary = Summary { port_name: Some(label.clone()), ready: u32::MAX, since: u64::MAX };
    let longest = |n: usize| service(&format!("{label}/{}{n:05}", &label[..58]), 65535);
    let services: Summaries = (0..MAX_SERVICE_PORTS).map(|n| (longest(n), summary.clone())).collect();
    let message = Message::Snapshot { version: u64::MAX, services };
    let bytes = message.encode();
    assert!(bytes.len() <= super::super::MAX_FRAME, "{}", bytes.len());
    assert_eq!(decode(&bytes), Ok(message));
}

#[test]
fn a_small_frame_does_not_become_a_large_structure() {
    // A snapshot of two million empty summaries: 4 MiB here, half a GiB as structures.
    let mut bytes = vec![0x12];
    prost::encoding::encode_varint(4_000_000, &mut bytes);
    bytes.extend([0x12, 0x00].repeat(2_000_000));
    assert_eq!(decode(&bytes), Err(DecodeError::TooMany));
}

#[test]
fn values_outside_their_bounds_are_refused() {
    let snapshot = |service: &str, port, port_name: &str, times| {
        let key = wire::ServiceKey { service: service.into(), port, protocol: 1 };
        let summary = wire::ServiceSummary { key: Some(key), port_name: port_name.into(), ready: 1, since_ms: 0 };
        let body = wire::Body::Snapshot(wire::Snapshot { version: 1, services: vec![summary; times] });
        decode(&wire::Frame { body: Some(body) }.encode_to_vec())
    };
    assert!(snapshot("shop/api", 80, "http", 1).is_ok());
    for (service, port, name, times) in [
        ("shop", 80, "", 1),
        ("shop/api", 0, "", 1),
        ("shop/api", 65536, "", 1),
        ("shop/api", 80, &*"n".repeat(64), 1),
        ("shop/api", 80, "", 2),
    ] {
        assert!(snapshot(service, port, name, times).is_err(), "{service} {port} {name} {times}");
    }
    assert!(decode(b"").is_err(), "no message");
}

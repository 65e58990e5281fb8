use super::*;
use crate::exchange::{
    samples::{any_services, any_summaries, summary, whole_summary},
    summary::{Port, PortSummary, Summary},
};
use isthmus_control_api::Protocol;
use proptest::{collection, prelude::*};

fn any_message() -> impl Strategy<Value = Message> {
    let version = || any::<u64>();
    prop_oneof![
        (any::<u32>(), "[a-z]{1,9}", version()).prop_map(|(protocol, cluster, epoch)| {
            Message::Hello(Hello { protocol, cluster: cluster.parse().unwrap(), epoch })
        }),
        (version(), any_summaries()).prop_map(|(version, services)| Message::Snapshot { version, services }),
        (version(), version(), any_summaries(), any_services()).prop_map(|(from, to, new, removed)| {
            let Summaries { services: upserts, lacking } = new;
            Message::Delta(Delta { from, to, upserts, removed: removed.into_keys().collect(), lacking })
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
    let services = |name: &str, summary| Services::from([(name.parse().unwrap(), Arc::new(summary))]);
    let snapshot = Summaries { services: services("shop/dns", whole_summary()), lacking: ["away".into()].into() };
    let delta = Delta {
        from: 3,
        to: 4,
        upserts: services("shop/api", summary(80, 1)),
        removed: vec!["shop/db".parse().unwrap()],
        lacking: ["away".into()].into(),
    };
    let cases = [
        ("0a0a08021204656173741807", Message::Hello(Hello { protocol: 2, cluster: "east".parse().unwrap(), epoch: 7 })),
        (
            "129c0108031291010a0873686f702f646e73100a1801221c083510021a03646e73220f6578616d706c652e636f6d2f646e73280228b05430013a0b507265666572436c6f7365420202014a050a016110014a050a01621001520c0a047469657212046261636b5a210a106578616d706c652e636f6d2f6e6f7465120d6f662022616e797468696e672262080a0464622d30100162040a0278311a0461776179",
            Message::Snapshot { version: 3, services: snapshot },
        ),
        ("1a27080310041a120a0873686f702f6170692206085010012801220773686f702f64622a0461776179", Message::Delta(delta)),
        ("22020804", Message::Heartbeat { version: 4 }),
        ("2a020804", Message::Ack { version: 4 }),
        ("3206080412026e6f", Message::Nack { version: 4, reason: "no".into() }),
    ];
    for (hex, message) in cases {
        let encoded: String = message.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(encoded, hex, "{message:?}");
    }
}

/// A summary on the wire, and what comes of a snapshot of so many of them.
fn decoded(change: impl FnOnce(&mut wire::ServiceSummary), times: usize) -> Result<Message, DecodeError> {
    let port = wire::PortSummary { number: 80, protocol: 1, ready: 1, ..wire::PortSummary::default() };
    let mut summary =
        wire::ServiceSummary { service: "shop/api".into(), ports: vec![port], ..wire::ServiceSummary::default() };
    change(&mut summary);
    let body = wire::Body::Snapshot(wire::Snapshot { version: 1, services: vec![summary; times], lacking: vec![] });
    decode(&wire::Frame { body: Some(body) }.encode_to_vec())
}

#[test]
fn a_port_of_a_protocol_not_known_here_is_left_out() {
    let port = |number, protocol| wire::PortSummary { number, protocol, ready: 1, ..wire::PortSummary::default() };
    let listed = vec![port(53, 1), port(53, 2), port(54, 99), port(55, 3)];
    let message = decoded(|summary| summary.ports = listed, 1).unwrap();
    let Message::Snapshot { services, .. } = message else { panic!("{message:?}") };
    let Summary { ports, sctp, .. } = &*services.services[&"shop/api".parse().unwrap()];
    let ports: Vec<_> = ports.keys().map(|port| (port.number, port.protocol)).collect();
    assert_eq!(ports, [(53, Protocol::Tcp), (53, Protocol::Udp)]);
    // One that is known and not carried: nothing is ready there for us.
    assert_eq!(*sctp, [(55, PortSummary::default())].into());
    assert!(decoded(|summary| summary.ports = vec![port(55, 3), port(55, 3)], 1).is_err());
}

#[test]
fn the_largest_snapshot_fits_a_frame() {
    let label = "a".repeat(63);
    let port = PortSummary { name: Some((*label).into()), app_protocol: None, ready: u32::MAX };
    let port = (Port { number: 65535, protocol: Protocol::Udp }, port);
    let largest = Arc::new(Summary { since: u64::MAX, ports: [port].into(), ..Summary::default() });
    let name = |n: usize| format!("{label}/{}{n:05}", &label[..58]).parse().unwrap();
    let services = (0..MAX_SERVICE_PORTS).map(|n| (name(n), largest.clone())).collect();
    let services = Summaries { services, ..Summaries::default() };
    assert!(services.fits());
    let message = Message::Snapshot { version: u64::MAX, services };
    let bytes = message.encode();
    assert!(bytes.len() <= super::super::MAX_FRAME, "{}", bytes.len());
    assert_eq!(decode(&bytes), Ok(message));
}

#[test]
fn a_small_frame_does_not_become_a_large_structure() {
    // Two million empty messages, 4 MiB here and a hundred times that as structures, wherever messages can be.
    let empty = |tag: u8| [tag << 3 | 2, 0].repeat(2_000_000);
    let within = |number: u8, bytes: Vec<u8>| {
        let mut outer = vec![number << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        [outer, bytes].concat()
    };
    let frames =
        [within(2, empty(2)), within(3, empty(3)), within(2, within(2, empty(4))), within(3, within(3, empty(12)))];
    for (n, bytes) in frames.iter().enumerate() {
        assert_eq!(decode(bytes), Err(DecodeError::TooMany), "{n}");
    }
}

#[test]
fn values_outside_their_bounds_are_refused() {
    assert!(decoded(|_| {}, 1).is_ok());
    assert!(decoded(|_| {}, 2).is_err(), "a service twice");
    type Change = fn(&mut wire::ServiceSummary);
    let cases: [(&str, Change); 9] = [
        ("name", |s| s.service = "shop".into()),
        ("port 0", |s| s.ports[0].number = 0),
        ("port 65536", |s| s.ports[0].number = 65536),
        ("a port's name", |s| s.ports[0].name = "n".repeat(64)),
        ("a port twice", |s| s.ports.push(s.ports[0].clone())),
        ("a family", |s| s.families = vec![7]),
        ("affinity", |s| s.affinity_seconds = 86_401),
        ("a label", |s| drop(s.labels.insert("-".into(), String::new()))),
        ("a member", |s| s.members.push(wire::Member { key: "A".into(), is_hostname: true })),
    ];
    for (what, change) in cases {
        assert!(decoded(change, 1).is_err(), "{what}");
    }
    assert!(decode(b"").is_err(), "no message");
}

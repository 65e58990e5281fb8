use super::*;
use crate::{stream::record::tests::record, traces::context::Context, tunnel::Source};
use std::collections::{BTreeMap, BTreeSet};

const DOCS: &str = include_str!("../../../../docs/traces.md");

/// A stream of which everything is known.
fn ended() -> Ended {
    let record = record();
    let pod = Some("web-0".parse().unwrap());
    let source = record.source.clone().map(|source| Source { pod, ..source });
    let record = Record {
        source,
        dry_run: Some("shop:dry".into()),
        first_byte: Some(Duration::from_millis(1)),
        closed: Closed::Timeout,
        ..record
    };
    Ended { record, context: Context { trace: 0x0102, span: 0x03, parent: Some(0x04) } }
}

fn about() -> About {
    About { cluster: "east".into(), clusterset: "demo".into(), gateway: "00ea57".into() }
}

fn by_key(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &KeyValue| match value.value.as_ref().and_then(|of| of.value.as_ref()).unwrap() {
        Value::Text(text) => text.clone(),
        Value::Whole(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
    };
    attributes.iter().map(|attribute| (attribute.key.as_str(), text(attribute))).collect()
}

#[test]
fn a_stream_is_a_span_with_all_that_is_known_of_it() {
    let ended = ended();
    let span = of(&ended);
    let id = |low: u8, bytes: usize| [vec![0; bytes - 1], vec![low]].concat();
    assert_eq!(span.trace_id, [vec![0; 14], vec![1, 2]].concat());
    assert_eq!((span.span_id, span.parent_span_id), (id(3, 8), id(4, 8)));
    assert_eq!((span.name.as_str(), span.kind), ("ingress shop/api", SpanKind::Server.into()));
    assert_eq!((span.start, span.end - span.start), (1_763_710_775_250_000_000, 1_500_000));
    assert_eq!((span.flags, span.status), (0x301, Some(Status { code: StatusCode::Error.into() })));
    let attributes = by_key(&span.attributes);
    for (key, value) in [
        ("network.transport", "tcp"),
        ("network.type", "ipv4"),
        ("server.address", "api.shop.svc.clusterset.local"),
        ("server.port", "80"),
        ("client.address", "10.1.0.9"),
        ("client.port", "4000"),
        ("network.peer.address", "10.0.0.2"),
        ("network.peer.port", "8080"),
        ("error.type", "timeout"),
        ("isthmus.peer", "west"),
        ("isthmus.policy", "shop:web"),
        ("isthmus.source_pod", "web-0"),
        ("isthmus.bytes_up", "10"),
        ("isthmus.bytes_down", "20"),
        ("isthmus.connect_ms", "0.25"),
    ] {
        assert_eq!(attributes.get(key).map(String::as_str), Some(value), "{key} of {attributes:?}");
    }
}

#[test]
fn the_clients_side_is_the_call_and_has_no_parent() {
    let mut ended = ended();
    ended.record.side = Side::Egress;
    ended.record.closed = Closed::Fin;
    ended.context.parent = None;
    let span = of(&ended);
    assert_eq!((span.kind, span.flags, span.parent_span_id), (SpanKind::Client.into(), SAMPLED, vec![]));
    assert_eq!(span.status, Some(Status { code: StatusCode::Unset.into() }));
    assert!(!by_key(&span.attributes).contains_key("error.type"));
}

#[test]
fn what_is_not_known_is_left_out() {
    let mut ended = ended();
    let record = &mut ended.record;
    (record.peer, record.source, record.client, record.endpoint) = (None, None, None, None);
    (record.policy, record.dry_run, record.connect, record.first_byte) = (None, None, None, None);
    let span = of(&ended);
    let known = [
        "error.type",
        "isthmus.bytes_down",
        "isthmus.bytes_up",
        "isthmus.closed",
        "isthmus.direction",
        "isthmus.retries",
        "isthmus.service",
        "network.transport",
        "server.address",
        "server.port",
    ];
    assert_eq!(by_key(&span.attributes).into_keys().collect::<Vec<_>>(), known);
}

#[test]
fn names_that_peers_make_up_name_no_span() {
    let mut ended = ended();
    ended.record.closed = Closed::Refused(RefusalReason::NoSuchExport);
    assert_eq!(of(&ended).name, "ingress");
}

#[test]
fn the_page_has_each_attribute_and_no_other() {
    let span = of(&ended());
    let resource = resource(&about());
    let sent: BTreeSet<_> = span.attributes.iter().chain(&resource.attributes).map(|of| of.key.as_str()).collect();
    let rows = DOCS.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(key, _)| key));
    let documented: BTreeSet<_> = rows.filter(|key| key.contains('.')).flat_map(|key| key.split("`, `")).collect();
    assert_eq!(sent, documented);
}

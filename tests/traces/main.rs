//! Spans of streams, from real gateways to the receiver of the OpenTelemetry Collector.

#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

use isthmus_tests::{
    Cluster, Collector, Endpoint, Topology, Transport, client,
    collector::Span,
    endpoint, eventually,
    load::Reuse,
    nginx::Nginx,
    pair::{self, Pair},
    topology::pod,
};
use std::{net::SocketAddr, path::PathBuf};

const EXPORTED: &str = "isthmus_spans_exported_total";
const DROPPED: &str = "isthmus_spans_dropped_total";
const FAILURES: &str = "isthmus_span_export_failures_total";
/// A span's kinds and an error, by OTLP's numbers.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const ERROR: u64 = 2;

/// Where each cluster has its collector.
fn address() -> SocketAddr {
    pod(5, 4317)
}

fn traces(ratio: &str) -> String {
    format!("traces: {{endpoint: \"http://{}\", ratio: {ratio}}}", address())
}

fn collector(cluster: &Cluster) -> Collector {
    Collector::start(cluster.pods(), cluster.dir(), address())
}

/// West and east with a collector each. West samples all streams and east none by itself: what it has, west has asked for.
struct Traced<'t> {
    pair: Pair<'t>,
    west: Collector,
    east: Collector,
}

impl<'t> Traced<'t> {
    fn start(topology: &'t Topology, transport: Transport, of_east: &str) -> Self {
        Self::start_sampling(topology, transport, ["1", "0"], of_east)
    }

    fn start_sampling(topology: &'t Topology, transport: Transport, ratios: [&str; 2], of_east: &str) -> Self {
        let [west, east] = ["west", "east"].map(|name| collector(topology.cluster(name)));
        let west_config = pair::west_config(topology, transport).with(&traces(ratios[0]));
        let east_config = pair::east_config(topology, transport, &[pair::endpoint()]);
        let east_config = east_config.with(&traces(ratios[1])).with(of_east);
        Self { pair: Pair::start_with(topology, &west_config, &east_config), west, east }
    }

    /// A client's stream that works, and ends.
    fn stream(&self) {
        self.pair.topology.block_on(async {
            let mut stream = self.pair.connect().await.unwrap();
            client::exchange(&mut stream, b"follow me").await.unwrap();
        });
    }
}

fn echo(topology: &Topology) -> Endpoint {
    let east = topology.cluster("east");
    Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), endpoint::echo)
}

fn closed(span: &Span) -> &str {
    span.attributes["isthmus.closed"].as_str().unwrap()
}

/// Asserts that the second is the first one's part in the other cluster.
fn assert_one_trace(west: &Span, east: &Span) {
    let (whole, part) = (&west.whole, &east.whole);
    assert_eq!(whole["traceId"], part["traceId"], "{whole} {part}");
    assert_eq!(part["parentSpanId"], whole["spanId"], "{whole} {part}");
    assert_eq!(whole["parentSpanId"].as_str().unwrap_or_default(), "", "{whole}");
    assert_eq!((&whole["kind"], &part["kind"]), (&CLIENT.into(), &SERVER.into()), "{whole} {part}");
    assert_eq!(
        (&west.resource["isthmus.cluster"], &east.resource["isthmus.cluster"]),
        (&"west".into(), &"east".into())
    );
    for span in [west, east] {
        assert_eq!(span.resource["service.name"], "isthmus-gateway", "{span:?}");
        let [begin, end] = ["startTimeUnixNano", "endTimeUnixNano"].map(|of| span.whole[of].as_str().unwrap().parse());
        let (begin, end): (u64, u64) = (begin.unwrap(), end.unwrap());
        assert!(begin > 1_700_000_000_000_000_000 && begin < end, "{span:?}");
    }
}

fn assert_attributes(span: &Span, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(span.attributes.get(*key).and_then(|value| value.as_str()), Some(*value), "{key} of {span:#?}");
    }
}

mod over_each_transport {
    use super::*;

    #[test]
    fn tls() {
        both_gateways_of_a_stream_tell_one_trace(Transport::Tls);
    }

    #[test]
    fn h2() {
        both_gateways_of_a_stream_tell_one_trace(Transport::H2);
    }

    #[test]
    fn quic() {
        both_gateways_of_a_stream_tell_one_trace(Transport::Quic);
    }
}

fn both_gateways_of_a_stream_tell_one_trace(transport: Transport) {
    let topology = Topology::west_and_east();
    let _echo = echo(&topology);
    let traced = Traced::start(&topology, transport, "accessLog: access.log");
    traced.stream();
    let west = traced.west.wait_span("of the client's side", |span| closed(span) == "fin");
    let east = traced.east.wait_span("of the service's side", |span| closed(span) == "fin");
    assert_one_trace(&west, &east);
    for span in [&west, &east] {
        assert_eq!(span.whole["status"]["code"].as_u64().unwrap_or(0), 0, "{span:?}");
        assert_attributes(
            span,
            &[
                ("network.transport", "tcp"),
                ("server.address", "api.shop.svc.clusterset.local"),
                ("server.port", "80"),
                ("isthmus.service", "shop/api"),
                ("isthmus.bytes_up", "9"),
                ("isthmus.bytes_down", "9"),
                ("isthmus.source", "spiffe://west.e2e/ns/isthmus-system/sa/gateway"),
            ],
        );
        assert_eq!(span.attributes.get("client.port"), west.attributes.get("client.port"), "{span:?}");
    }
    assert_attributes(&west, &[("isthmus.direction", "egress"), ("isthmus.peer", "east")]);
    assert_attributes(
        &east,
        &[
            ("isthmus.direction", "ingress"),
            ("isthmus.peer", "west"),
            ("network.peer.address", &pair::endpoint().ip().to_string()),
            ("network.peer.port", "8080"),
        ],
    );
    assert!(!west.attributes.contains_key("network.peer.address"), "{west:?}");
    let id = |of: &str| east.whole[of].as_str().unwrap().to_owned();
    let traceparent = format!("\"traceparent\":\"00-{}-{}-01\"", id("traceId"), id("spanId"));
    eventually("the access record names the span", || {
        let records = std::fs::read_to_string(topology.cluster("east").dir().join("access.log"));
        let records = records.map_err(|e| e.to_string())?;
        records.contains(&traceparent).then_some(()).ok_or(records)
    });
}

#[test]
fn a_stream_that_a_policy_denies_is_told_with_its_rule() {
    let topology = Topology::west_and_east();
    let _echo = echo(&topology);
    let traced = Traced::start(&topology, Transport::Tls, "accessPolicies: [{name: closed, services: [\"*\"]}]");
    topology.block_on(async {
        // It may be refused so quickly that it does not see itself connected.
        if let Ok(mut stream) = traced.pair.connect().await {
            client::exchange(&mut stream, b"may I?").await.unwrap_err();
        }
    });
    let west = traced.west.wait_span("of the client's side", |span| closed(span) == "refused_denied");
    let east = traced.east.wait_span("of the service's side", |span| closed(span) == "refused_denied");
    assert_one_trace(&west, &east);
    for span in [&west, &east] {
        assert_eq!(span.whole["status"]["code"], ERROR, "{span:?}");
        assert_attributes(span, &[("error.type", "refused_denied"), ("isthmus.bytes_down", "0")]);
    }
    assert_attributes(&east, &[("isthmus.policy", "closed:default")]);
    // West is not told which rule it was.
    assert!(!west.attributes.contains_key("isthmus.policy"), "{west:?}");
}

#[test]
fn an_endpoint_that_resets_is_no_error_of_the_gateways_and_is_told() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let reset = |stream| endpoint::reset_after(stream, 7, 100);
    let _endpoint = Endpoint::serve(east.pods(), east.tasks(), pair::endpoint(), reset);
    let traced = Traced::start(&topology, Transport::Tls, "");
    topology.block_on(async {
        let mut stream = traced.pair.connect().await.unwrap();
        client::send(&mut stream, 1, 1).await.unwrap();
        client::receive(&mut stream).await.assert_reset(7);
    });
    let west = traced.west.wait_span("of the client's side", |span| closed(span) == "reset_peer");
    let east = traced.east.wait_span("of the service's side", |span| closed(span) == "reset_local");
    assert_one_trace(&west, &east);
    assert!([&west, &east].iter().all(|span| !span.attributes.contains_key("error.type")));
}

#[test]
fn what_is_not_sampled_is_told_to_nobody_and_what_is_before_the_end() {
    for (ratio, count) in [("0", 0), ("1", 1)] {
        let topology = Topology::west_and_east();
        let _echo = echo(&topology);
        // East would sample all that it is told nothing of.
        let mut traced = Traced::start_sampling(&topology, Transport::Tls, [ratio, "1"], "");
        traced.stream();
        for gateway in [&mut traced.pair.west, &mut traced.pair.east] {
            gateway
                .wait_metric("isthmus_streams_closed_total", &["service=\"shop/api:80\"", "\"fin\""], |sum| sum == 1.0);
            gateway.terminate();
            assert!(gateway.wait_end().success(), "{}", gateway.log());
        }
        for collector in [&traced.west, &traced.east] {
            let spans = collector.spans();
            assert_eq!(spans.len(), count, "{ratio}: {spans:#?}");
        }
    }
}

#[test]
fn a_collector_that_dies_gets_what_has_waited_when_it_is_back() {
    let topology = Topology::west_and_east();
    let _echo = echo(&topology);
    let mut traced = Traced::start(&topology, Transport::Tls, "");
    traced.stream();
    let first = traced.west.wait_span("of the first stream", |_| true);
    // What it has and has not confirmed it would be told twice.
    traced.pair.west.wait_metric(EXPORTED, &[], |sum| sum == 1.0);
    traced.west.kill();
    traced.stream();
    traced.pair.west.wait_metric(FAILURES, &[], |sum| sum >= 1.0);
    traced.pair.west.wait_log(&["the collector of traces takes no spans"]);
    // Streams know nothing of it.
    traced.stream();
    traced.west.restart();
    traced.pair.west.wait_metric(EXPORTED, &[], |sum| sum == 3.0);
    let spans = traced.west.spans();
    let of_others = spans.iter().filter(|span| span.whole["traceId"] != first.whole["traceId"]).count();
    assert_eq!((spans.len(), of_others), (3, 2), "{spans:#?}");
    assert_eq!(traced.pair.west.metrics().sum(DROPPED, &[]), 0.0);
    traced.pair.west.wait_log(&["the collector of traces takes spans again"]);
}

#[test]
fn a_collector_that_hangs_costs_spans_and_no_stream() {
    const BODY: &str = "as ever";
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), east.dir(), pair::endpoint(), BODY);
    let traced = Traced::start(&topology, Transport::Tls, "");
    traced.west.pause();
    let load = traced.pair.load(8, Reuse::ConnectionPerRequest, BODY);
    traced.pair.west.wait_metric(DROPPED, &["reason=\"queue_full\""], |sum| sum > 0.0);
    load.wait_for(100);
    let outcome = load.stop();
    outcome.assert_no_failure();
    traced.west.resume();
    // Everything is accounted for: taken, or dropped.
    traced.pair.west.wait_metric(EXPORTED, &[], |_| {
        let metrics = traced.pair.west.metrics();
        let opened = metrics.sum("isthmus_streams_opened_total", &["service=\"shop/api:80\""]);
        metrics.sum(EXPORTED, &[]) + metrics.sum(DROPPED, &["queue_full"]) == opened
    });
}

#[test]
fn spans_go_over_tls_to_whom_the_ca_vouches_for_and_to_nobody_else() {
    let topology = Topology::west_and_east();
    let _echo = echo(&topology);
    let papers = |name: &str| -> [PathBuf; 2] {
        let certified = rcgen::generate_simple_self_signed(vec![address().ip().to_string()]).unwrap();
        let files = ["pem", "key"].map(|kind| topology.dir().join(format!("{name}.{kind}")));
        std::fs::write(&files[0], certified.cert.pem()).unwrap();
        std::fs::write(&files[1], certified.signing_key.serialize_pem()).unwrap();
        files
    };
    let (papers, others) = (papers("collector"), papers("others"));
    let start = |name: &str| {
        let cluster = topology.cluster(name);
        Collector::start_over_tls(cluster.pods(), cluster.dir(), address(), papers.clone())
    };
    let (west, east) = (start("west"), start("east"));
    let traces = |ca: &PathBuf| {
        format!("traces: {{endpoint: \"https://{}\", ratio: 1, caFile: \"{}\"}}", address(), ca.display())
    };
    let west_config = pair::west_config(&topology, Transport::Tls).with(&traces(&papers[0]));
    let east_config = pair::east_config(&topology, Transport::Tls, &[pair::endpoint()]).with(&traces(&others[0]));
    let pair = Pair::start_with(&topology, &west_config, &east_config);
    let traced = Traced { pair, west, east };
    traced.stream();
    traced.west.wait_span("over TLS", |span| closed(span) == "fin");
    traced.pair.east.wait_metric(FAILURES, &[], |sum| sum >= 1.0);
    let said = traced.pair.east.wait_log(&["the collector of traces takes no spans"]);
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(traced.east.spans().len(), 0);
    assert_eq!(traced.pair.east.metrics().sum(EXPORTED, &[]), 0.0);
}

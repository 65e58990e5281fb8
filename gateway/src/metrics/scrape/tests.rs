use super::*;
use crate::{
    admin::Readiness,
    close::Closed,
    metrics::{
        reasons::{Bound, DialFailure},
        streams::{Side, StreamKey},
    },
    status::{ExtraStatus, merge},
    tunnel::Direction,
};
use isthmus_certs::HandshakeRefusal;
use isthmus_control_api::ServicePort;
use std::collections::BTreeSet;

fn scraped(metrics: &Arc<Metrics>) -> String {
    text(metrics, merge(&ExtraStatus::default(), &Readiness::default(), &[]), &[]).unwrap()
}

#[test]
fn rows_are_summed_and_the_control_threads_is_among_them() {
    let metrics = Metrics::new(2);
    for row in [metrics.core(0), metrics.core(1), metrics.control()] {
        row.handshake(Direction::Accepted);
        row.handshake_refused(HandshakeRefusal::Expired);
        row.dial_failed(DialFailure::Timeout);
        row.refused(Bound::Connections);
        row.memory_granted.set(5);
    }
    let text = scraped(&metrics);
    for line in [
        r#"isthmus_handshakes_total{direction="accepted"} 3"#,
        r#"isthmus_handshakes_total{direction="dialled"} 0"#,
        r#"isthmus_handshakes_refused_total{reason="expired"} 3"#,
        r#"isthmus_tunnel_dial_failures_total{reason="timeout"} 3"#,
        r#"isthmus_refusals_total{bound="connections"} 3"#,
        "isthmus_memory_granted_bytes 15",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[test]
fn latencies_of_a_service_are_summed_over_its_peers() {
    let metrics = Metrics::new(1);
    for peer in ["east", "north"] {
        let service = ServicePort::tcp("shop/api".parse().unwrap(), 80);
        let key = StreamKey { service, peer: Some(peer.parse().unwrap()), side: Side::Egress };
        let streams = metrics.streams(0, &key);
        streams.opened();
        streams.connected(Duration::from_millis(2));
        streams.closed(Closed::Fin, Duration::from_millis(3));
    }
    let text = scraped(&metrics);
    for line in [
        r#"isthmus_stream_connect_seconds_bucket{le="0.001",service="shop/api:80",direction="egress"} 0"#,
        r#"isthmus_stream_connect_seconds_bucket{le="0.0025",service="shop/api:80",direction="egress"} 2"#,
        r#"isthmus_stream_connect_seconds_bucket{le="+Inf",service="shop/api:80",direction="egress"} 2"#,
        r#"isthmus_stream_connect_seconds_count{service="shop/api:80",direction="egress"} 2"#,
        r#"isthmus_stream_connect_seconds_sum{service="shop/api:80",direction="egress"} 0.004"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[test]
fn the_text_is_openmetrics() {
    let metrics = Metrics::new(1);
    let text = scraped(&metrics);
    assert!(text.ends_with("# EOF\n"));
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names.len(), DEFINITIONS.len());
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let series: Vec<&str> = samples.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series).collect();
    assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "a series is there twice");
    assert!(series.iter().all(|series| names.iter().any(|name| series.starts_with(name))));
}

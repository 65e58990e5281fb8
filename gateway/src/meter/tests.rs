use super::*;
use crate::{
    metrics::scrape,
    record::AccessLog,
    status::{ExtraStatus, merge},
    tunnel::RefusalReason,
};

fn service() -> ServicePort {
    ServicePort { service: "shop/api".parse().unwrap(), port: 80 }
}

/// Meters of a core whose table exports the service.
fn meters(metrics: &Arc<Metrics>, recorder: Option<Recorder>) -> CoreMeters {
    let meters = CoreMeters::new(metrics, 0, recorder);
    meters.table_applied(&Table { exports: [(service(), Default::default())].into(), ..Table::default() });
    meters
}

fn scraped(metrics: &Arc<Metrics>) -> String {
    let status = merge(&ExtraStatus::default(), &Default::default(), &[]);
    scrape::text(metrics, status, &[]).unwrap()
}

#[test]
fn a_stream_is_counted_once_at_the_upstream_that_accepted_it() {
    let metrics = Metrics::new(1);
    let mut stream = meters(&metrics, None).stream(Side::Egress, service(), None);
    stream.peer(&"north".parse().unwrap());
    stream.retry();
    stream.peer(&"east".parse().unwrap());
    stream.connected();
    (stream.moved.sent, stream.moved.received) = (10, 20);
    stream.moved.flush();
    stream.moved.sent = 15;
    let text = scraped(&metrics);
    let labels = r#"service="shop/api:80",peer="east",direction="egress""#;
    assert!(text.contains(&format!("isthmus_streams_active{{{labels}}} 1")), "{text}");
    assert!(text.contains(&format!(r#"isthmus_stream_bytes_total{{{labels},flow="down"}} 20"#)), "{text}");
    stream.close(Closed::Fin);
    let text = scraped(&metrics);
    let other = r#"service="shop/api:80",peer="north",direction="egress""#;
    for line in [
        format!("isthmus_streams_opened_total{{{labels}}} 1"),
        format!("isthmus_streams_opened_total{{{other}}} 0"),
        format!("isthmus_stream_retries_total{{{other}}} 1"),
        format!(r#"isthmus_streams_closed_total{{{labels},reason="fin"}} 1"#),
        format!(r#"isthmus_stream_bytes_total{{{labels},flow="up"}} 15"#),
        format!("isthmus_streams_active{{{labels}}} 0"),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[test]
fn a_stream_without_an_upstream_is_counted_as_that() {
    let metrics = Metrics::new(1);
    let stream = meters(&metrics, None).stream(Side::Egress, service(), None);
    stream.close(Closed::Refused(RefusalReason::NoEndpoint));
    let line = r#"isthmus_streams_closed_total{service="shop/api:80",peer="_none",direction="egress",reason="refused_no_endpoint"} 1"#;
    assert!(scraped(&metrics).contains(line));
}

#[test]
fn up_is_towards_the_endpoint_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let metrics = Metrics::new(1);
    let (recorder, writer) = Recorder::start(&AccessLog::File(path.clone()), metrics.control().clone()).unwrap();
    let meters = meters(&metrics, Some(recorder));
    let mut egress = meters.stream(Side::Egress, service(), Some("10.1.0.9:4000".parse().unwrap()));
    egress.endpoint("10.0.0.2:8080".parse().unwrap());
    egress.connected();
    (egress.moved.sent, egress.moved.received) = (1, 2);
    egress.close(Closed::Fin);
    let mut ingress = meters.stream(Side::Ingress, service(), None);
    ingress.peer(&"west".parse().unwrap());
    ingress.endpoint("10.0.0.2:8080".parse().unwrap());
    (ingress.moved.sent, ingress.moved.received) = (3, 4);
    ingress.close(Closed::ResetPeer);
    drop(meters);
    writer.finish();
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["bytes_up"], &lines[0]["bytes_down"]), (&1.into(), &2.into()));
    assert_eq!((&lines[0]["peer"], &lines[0]["endpoint"]), (&serde_json::Value::Null, &"10.0.0.2:8080".into()));
    assert_eq!((&lines[1]["bytes_up"], &lines[1]["bytes_down"]), (&4.into(), &3.into()));
    assert_eq!((&lines[1]["peer"], &lines[1]["closed"]), (&"west".into(), &"reset_peer".into()));
    let text = scraped(&metrics);
    assert!(text.contains(r#"isthmus_streams_opened_total{service="shop/api:80",peer="_local",direction="egress"} 1"#));
    assert!(
        text.contains(
            r#"isthmus_stream_bytes_total{service="shop/api:80",peer="west",direction="ingress",flow="up"} 4"#
        )
    );
}

#[test]
fn a_service_that_leaves_the_table_is_not_kept() {
    let metrics = Metrics::new(1);
    let meters = meters(&metrics, None);
    meters.stream(Side::Egress, service(), None).close(Closed::Fin);
    assert_eq!(meters.0.families.borrow().len(), 1);
    meters.table_applied(&Table::default());
    assert_eq!(meters.0.families.borrow().len(), 0);
}

#[test]
fn a_peer_cannot_make_labels_by_asking() {
    let metrics = Metrics::new(1);
    let meters = meters(&metrics, None);
    for port in 1..=100 {
        let service = ServicePort { service: "no/such".parse().unwrap(), port };
        let mut stream = meters.stream(Side::Ingress, service, None);
        stream.peer(&"west".parse().unwrap());
        stream.close(Closed::Refused(RefusalReason::NoSuchExport));
    }
    let text = scraped(&metrics);
    assert!(!text.contains("no/such"));
    assert!(text.contains(r#"isthmus_streams_opened_total{service="_other",peer="_other",direction="ingress"} 100"#));
}

use super::*;
use crate::{admin::Readiness, metrics::streams::StreamKey, status::merge};
use isthmus_control_api::{Export, Link, Table};
use serde_json::Value;
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);

fn status(links: usize, services: usize) -> Status {
    let links = (0..links).map(|n| (format!("c{n}").parse().unwrap(), Link::default())).collect();
    let exports = (0..services).map(|n| (port(n), Arc::new(Export::default()))).collect();
    let table = Arc::new(Table { links, exports, ..Table::default() });
    merge(&ExtraStatus { table, ..ExtraStatus::default() }, &Readiness::default(), &[])
}

fn port(n: usize) -> ServicePort {
    ServicePort::tcp(format!("shop/s{n}").parse().unwrap(), 80)
}

fn detail(show: &Show, focus: &Focus) -> Value {
    let event = show.detail(focus, &[], &ExtraStatus::default(), &Metrics::new(1), Instant::now());
    let text = std::str::from_utf8(&event).unwrap();
    serde_json::from_str(text.strip_prefix("event: detail\ndata: ").unwrap()).unwrap()
}

#[test]
fn what_does_not_change_is_not_told_again_however_much_there_is() {
    let (mut show, now, status) = (Show::default(), Instant::now(), status(200, 5_000));
    show.take(&status, &[], (now, SystemTime::UNIX_EPOCH), SECOND);
    let again = show.take(&status, &[], (now + SECOND, SystemTime::UNIX_EPOCH), SECOND);
    assert!(again.len() < 100 && show.all().unwrap().len() > 500_000, "{}", again.len());
}

#[test]
fn histories_begin_with_the_first_rates() {
    let (mut show, now, status) = (Show::default(), Instant::now(), status(1, 1));
    let metrics = Metrics::new(1);
    let key = StreamKey { service: port(0), peer: "c0".parse().ok(), side: Side::Egress };
    let streams = metrics.streams(0, &key);
    for second in 0..7 {
        (0..10).for_each(|_| streams.opened());
        streams.moved_up(1_000);
        let at = (now + SECOND * second, SystemTime::UNIX_EPOCH);
        show.take(&status, &metrics.stream_totals(), at, SECOND);
    }
    let service = detail(&show, &Focus::Service("shop/s0".parse().unwrap()));
    assert_eq!(service["histories"]["shop/s0:80"]["opened_s"], serde_json::json!([10.0, 10.0]));
    let link = detail(&show, &Focus::Link("c0".parse().unwrap()));
    assert_eq!(link["history"]["out_s"], serde_json::json!([1000.0, 1000.0]));
    // A service that is gone takes its history with it.
    show.take(&status, &[], (now + SECOND * 8, SystemTime::UNIX_EPOCH), SECOND);
    assert_eq!(detail(&show, &Focus::Service("shop/s0".parse().unwrap()))["histories"], serde_json::json!({}));
}

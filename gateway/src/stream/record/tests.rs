use super::*;
use crate::metrics::Metrics;

/// The writer ends much earlier, unless it hangs.
const AMPLE: Duration = Duration::from_secs(600);

pub(crate) fn record() -> Record {
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_710_775_250),
        service: ServicePort::tcp("shop/api".parse().unwrap(), 80),
        side: Side::Ingress,
        peer: Some("west".parse().unwrap()),
        source: Some(Source {
            id: "spiffe://west.demo/ns/isthmus-system/sa/gateway".parse().unwrap(),
            pod: Some("web-0".parse().unwrap()),
            address: None,
        }),
        policy: Some("shop:web".into()),
        dry_run: None,
        client: Some("10.1.0.9:4000".parse().unwrap()),
        endpoint: Some("10.0.0.2:8080".parse().unwrap()),
        bytes_up: 10,
        bytes_down: 20,
        duration: Duration::from_micros(1_500),
        connect: Some(Duration::from_micros(250)),
        first_byte: None,
        closed: Closed::ResetPeer,
        retries: 1,
        choices: Vec::new(),
        traceparent: None,
    }
}

#[test]
fn a_record_is_one_line_of_json() {
    let mut text = Vec::new();
    line::append(&record(), &mut text).unwrap();
    let expected = concat!(
        r#"{"time":"2025-11-21T07:39:35.25Z","service":"shop/api","port":80,"protocol":"TCP","direction":"ingress","peer":"west","#,
        r#""source":"spiffe://west.demo/ns/isthmus-system/sa/gateway","client":"10.1.0.9:4000","#,
        r#""endpoint":"10.0.0.2:8080","bytes_up":10,"bytes_down":20,"duration_ms":1.5,"connect_ms":0.25,"#,
        r#""first_byte_ms":null,"closed":"reset_peer","retries":1,"traceparent":null,"#,
        r#""source_pod":"web-0","policy":"shop:web","policy_dry_run":null,"choices":[]}"#,
        "\n",
    );
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

#[test]
fn everything_is_written_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let metrics = Metrics::new(1);
    let (recorder, writer) = Recorder::start(&AccessLog::File(path.clone()), metrics.control().clone()).unwrap();
    for _ in 0..100 {
        recorder.record(record(), metrics.core(0));
    }
    writer.finish(AMPLE);
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 100);
    assert_eq!(metrics.core(0).access_records_dropped.get(), 0);
}

#[test]
fn a_slow_writer_costs_records_and_nothing_else() {
    let (to, _nobody_reads) = sync_channel(2);
    let (recorder, metrics) = (Recorder(to), Metrics::new(1));
    for _ in 0..5 {
        recorder.record(record(), metrics.core(0));
    }
    assert_eq!(metrics.core(0).access_records_dropped.get(), 3);
}

#[test]
fn what_cannot_be_written_is_counted() {
    let metrics = Metrics::new(1);
    let full = AccessLog::File("/dev/full".into());
    let (recorder, writer) = Recorder::start(&full, metrics.control().clone()).unwrap();
    recorder.record(record(), metrics.core(0));
    writer.finish(AMPLE);
    assert_eq!(metrics.control().access_records_dropped.get(), 1);
}

#[test]
fn a_path_that_cannot_be_opened_is_an_error_at_the_start() {
    let metrics = Metrics::new(1);
    let nowhere = AccessLog::File("/nonexistent/access.log".into());
    assert!(Recorder::start(&nowhere, metrics.control().clone()).is_err());
}

#[test]
fn a_writer_that_hangs_is_not_waited_for() {
    let (letters, _nobody_reads) = sync_channel(1);
    let (release, hang) = sync_channel::<()>(0);
    let thread = thread::spawn(move || hang.recv().unwrap_or_default());
    RecordWriter { thread, letters }.finish(Duration::from_millis(10));
    drop(release);
}

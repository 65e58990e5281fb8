use super::*;
use crate::{
    close::Closed,
    core::tests::{East, service},
    meter::StreamMeter,
    metrics::streams::Side,
    stream::record::tests::record,
    tunnel::{
        OpenRequest,
        driver::tests::pair::{on_a_core, request},
    },
};
use context::Parent;

const WHOLE: u32 = 1_000_000;

/// A core that samples so many of a million, with room for so many spans.
fn east(per_million: u32, room: usize) -> (East, mpsc::Receiver<Box<Ended>>) {
    let (to, spans) = mpsc::channel(room);
    (East::with_tracer(Tracer::new(Sampler::new(per_million), to)), spans)
}

fn said(parent: &str) -> Option<&str> {
    Some(parent)
}

fn opened_with(parent: &str) -> OpenRequest {
    OpenRequest { traceparent: Some(parent.into()), ..request("west") }
}

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[test]
fn a_clients_stream_begins_the_trace_that_open_carries() {
    on_a_core(async {
        let (east, mut spans) = east(WHOLE, 1);
        let mut meter = StreamMeter::new(&east.core, Side::Egress, service());
        let told = Parent::parse(&meter.traceparent().unwrap()).unwrap();
        assert!(told.sampled);
        meter.close(Closed::Fin);
        let Ended { context, record } = *spans.try_recv().unwrap();
        assert_eq!((context.trace, context.span, context.parent), (told.trace, told.span, None));
        assert_eq!((record.side, record.closed), (Side::Egress, Closed::Fin));
        assert_eq!(record.traceparent, Some(context.traceparent()));
    });
}

#[test]
fn a_peer_is_told_what_is_not_sampled() {
    on_a_core(async {
        let (east, mut spans) = east(0, 1);
        let mut meter = StreamMeter::new(&east.core, Side::Egress, service());
        let told = meter.traceparent().unwrap();
        assert!(!Parent::parse(&told).unwrap().sampled);
        assert_eq!(meter.traceparent(), Some(told), "another peer is told the same");
        meter.close(Closed::Fin);
        assert!(spans.try_recv().is_err());
    });
}

#[test]
fn the_record_of_what_is_not_sampled_has_what_was_told_and_no_more() {
    on_a_core(async {
        let (east, _spans) = east(0, 1);
        let (to, mut records) = mpsc::channel(4);
        east.core.common.tap.want(vec![service().service], &to);
        let mut told = StreamMeter::new(&east.core, Side::Egress, service());
        let traceparent = told.traceparent();
        told.close(Closed::Fin);
        let stayed = StreamMeter::new(&east.core, Side::Egress, service());
        stayed.close(Closed::Fin);
        let mut followed = StreamMeter::new(&east.core, Side::Ingress, service());
        followed.follow(said(UNSAMPLED));
        followed.request(&opened_with(UNSAMPLED));
        followed.close(Closed::Fin);
        assert!(traceparent.is_some());
        for expected in [traceparent, None, Some(UNSAMPLED.into())] {
            assert_eq!(records.try_recv().unwrap().traceparent, expected);
        }
    });
}

#[test]
fn without_traces_nothing_is_told() {
    on_a_core(async {
        let east = East::new();
        assert_eq!(StreamMeter::new(&east.core, Side::Egress, service()).traceparent(), None);
    });
}

#[test]
fn a_peers_stream_goes_on_with_its_trace_as_the_peer_has_decided() {
    on_a_core(async {
        for (per_million, of_peer, is_sampled) in [(0, SAMPLED, true), (WHOLE, UNSAMPLED, false)] {
            let (east, mut spans) = east(per_million, 1);
            let mut meter = StreamMeter::new(&east.core, Side::Ingress, service());
            meter.follow(said(of_peer));
            meter.request(&opened_with(of_peer));
            meter.close(Closed::Fin);
            let ended = spans.try_recv().ok();
            // The record names the span, not its parent.
            assert!(
                ended.iter().all(|ended| ended.record.traceparent == Some(ended.context.traceparent())),
                "{ended:?}"
            );
            let context = ended.map(|ended| ended.context);
            let parent = Parent::parse(of_peer).unwrap();
            let expected = is_sampled.then_some((parent.trace, Some(parent.span)));
            assert_eq!(context.map(|context| (context.trace, context.parent)), expected);
        }
    });
}

#[test]
fn a_peer_that_tells_nothing_readable_leaves_it_to_this_gateway() {
    on_a_core(async {
        for of_peer in [None, said("00-00000000000000000000000000000000-b7ad6b7169203331-01"), said("b3: 1")] {
            for (per_million, count) in [(WHOLE, 1), (0, 0)] {
                let (east, mut spans) = east(per_million, 1);
                let mut meter = StreamMeter::new(&east.core, Side::Ingress, service());
                meter.follow(of_peer);
                meter.close(Closed::Fin);
                let found: Vec<_> = std::iter::from_fn(|| spans.try_recv().ok()).collect();
                assert_eq!(found.len(), count, "{of_peer:?}");
                assert!(found.iter().all(|ended| ended.context.parent.is_none()
                    && ended.record.traceparent == Some(ended.context.traceparent())));
            }
        }
    });
}

#[test]
fn a_full_queue_costs_spans_and_nothing_else() {
    on_a_core(async {
        let (east, mut spans) = east(WHOLE, 2);
        for _ in 0..5 {
            StreamMeter::new(&east.core, Side::Egress, service()).close(Closed::Fin);
        }
        assert_eq!(east.core.counters.spans_dropped(SpanDropped::QueueFull), 3);
        assert_eq!(std::iter::from_fn(|| spans.try_recv().ok()).count(), 2);
    });
}

#[test]
fn a_ca_that_cannot_be_had_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, empty) = (dir.path().join("missing.pem"), dir.path().join("empty.pem"));
    std::fs::write(&empty, "nothing").unwrap();
    for (file, why) in [(missing, "missing.pem\": No such file"), (empty, "empty.pem\": no certificate in it")] {
        let traces = Traces { endpoint: "https://collector:4317".into(), ca_file: Some(file), per_million: WHOLE };
        let about = About { cluster: "east".into(), clusterset: "demo".into(), gateway: "1".into() };
        let counters = crate::metrics::Metrics::new(1).control().clone();
        let error = Tracer::start(&traces, &about, counters).unwrap_err().to_string();
        assert!(error.contains("caFile") && error.contains(why), "{error}");
    }
}

#[test]
fn a_collector_that_is_not_there_does_not_hold_up_the_end() {
    let traces = Traces { endpoint: "http://127.0.0.1:1".into(), ca_file: None, per_million: WHOLE };
    let about = About { cluster: "east".into(), clusterset: "demo".into(), gateway: "1".into() };
    let metrics = crate::metrics::Metrics::new(1);
    let (tracer, thread) = Tracer::start(&traces, &about, metrics.control().clone()).unwrap();
    let Begun::Sampled(context) = tracer.begin(&Ids::default()) else { panic!("all are sampled") };
    tracer.take(Ended { record: record(), context }, metrics.core(0));
    // It ends much earlier, unless it hangs.
    thread.finish(Duration::from_secs(600));
    assert_eq!(metrics.control().spans_dropped(SpanDropped::Undelivered), 1);
}

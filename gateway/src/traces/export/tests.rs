use super::*;
use crate::{
    metrics::Metrics,
    stream::record::{Record, tests::record},
    traces::{About, context::Context},
};
use bytes::Bytes;
use std::{collections::VecDeque, sync::Mutex};

/// A collector that answers as it is told, and then takes everything.
#[derive(Debug, Default, Clone)]
struct Told {
    answers: Arc<Mutex<VecDeque<Result<u64, Status>>>>,
    /// How many spans each attempt had.
    asked: Arc<Mutex<Vec<usize>>>,
    /// If it is not 0: more spans than this are too large for it.
    most: usize,
}

impl Export for Told {
    async fn export(&mut self, request: ExportRequest) -> Result<u64, Status> {
        let spans = request.resource_spans.iter().flat_map(|of| &of.scope_spans).map(|of| of.spans.len()).sum();
        self.asked.lock().unwrap().push(spans);
        assert!(spans == 1 || request.encoded_len() < 1 << 20, "{spans} spans of {} bytes", request.encoded_len());
        if self.most > 0 && spans > self.most {
            return Err(Status::resource_exhausted("received message larger than max"));
        }
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(0))
    }
}

struct Fixture {
    told: Told,
    metrics: Arc<Metrics>,
    to: mpsc::Sender<Box<Ended>>,
    stop: CancellationToken,
}

impl Fixture {
    fn new(answers: impl IntoIterator<Item = Result<u64, Status>>) -> (Self, Exporter<Told>) {
        Self::taking(0, answers)
    }

    /// Of a collector that takes no more spans than that at once.
    fn taking(most: usize, answers: impl IntoIterator<Item = Result<u64, Status>>) -> (Self, Exporter<Told>) {
        let told = Told { answers: Arc::new(Mutex::new(answers.into_iter().collect())), most, ..Told::default() };
        let (to, queue) = mpsc::channel(2 * BATCH);
        let (metrics, stop) = (Metrics::new(1), CancellationToken::new());
        let about = About { cluster: "east".into(), clusterset: "demo".into(), gateway: "1".into() };
        let counters = metrics.control().clone();
        let exporter = Exporter::new(queue, told.clone(), span::resource(&about), counters, stop.clone());
        (Self { told, metrics, to, stop }, exporter)
    }

    fn send(&self, spans: usize) {
        for span in 0..spans {
            let context = Context { trace: 1, span: span as u64 + 1, parent: None };
            self.to.try_send(Box::new(Ended { record: record(), context })).unwrap();
        }
    }

    /// Spans whose attributes take so many bytes.
    fn send_large(&self, spans: u64, bytes: usize) {
        for span in 1..=spans {
            let record = Record { policy: Some("p".repeat(bytes).into()), ..record() };
            let ended = Ended { record, context: Context { trace: 1, span, parent: None } };
            self.to.try_send(Box::new(ended)).unwrap();
        }
    }

    /// Exports what was sent, and says how long that took.
    async fn run(&self, exporter: Exporter<Told>) -> Duration {
        let (begun, sent) = (Instant::now(), (2 * BATCH - self.to.capacity()) as u64);
        let later = async {
            let over = |(exported, _, dropped): (u64, u64, [u64; 3])| exported + dropped.iter().sum::<u64>();
            while over(self.counted()) < sent {
                time::sleep(Duration::from_millis(100)).await;
            }
            self.stop.cancel();
            begun.elapsed()
        };
        tokio::join!(exporter.run(), later).1
    }

    /// Exported, attempts that failed, and what was dropped by [`SpanDropped`].
    fn counted(&self) -> (u64, u64, [u64; 3]) {
        let counters = self.metrics.control();
        let dropped = [SpanDropped::QueueFull, SpanDropped::Rejected, SpanDropped::Undelivered];
        let dropped = dropped.map(|why| counters.spans_dropped(why));
        (counters.spans_exported.get(), counters.span_exports_failed.get(), dropped)
    }

    fn asked(&self) -> Vec<usize> {
        self.told.asked.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_together_goes_in_batches() {
    let (fixture, exporter) = Fixture::new([]);
    fixture.send(BATCH + 3);
    let Fixture { to, .. } = &fixture;
    assert_eq!(to.capacity(), BATCH - 3);
    fixture.stop.cancel();
    exporter.run().await;
    assert_eq!(fixture.asked(), [BATCH, 3]);
    assert_eq!(fixture.counted(), (BATCH as u64 + 3, 0, [0, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_has_begun_waits_a_moment_for_more() {
    let (fixture, exporter) = Fixture::new([]);
    fixture.send(1);
    let later = async {
        time::sleep(GATHER / 2).await;
        fixture.send(1);
        time::sleep(GATHER).await;
        fixture.send(1);
        time::sleep(GATHER * 2).await;
        assert_eq!(fixture.asked(), [2, 1]);
        fixture.stop.cancel();
    };
    tokio::join!(exporter.run(), later);
}

#[tokio::test(start_paused = true)]
async fn what_a_collector_may_take_later_is_tried_until_it_does() {
    let away = || Err(Status::unavailable("away"));
    let details = Bytes::from_static(b"\n(type.googleapis.com/google.rpc.RetryInfo");
    let full = Status::with_details(Code::ResourceExhausted, "full", details);
    let (fixture, exporter) = Fixture::new([away(), Err(full), away(), away()]);
    fixture.send(2);
    let took = fixture.run(exporter).await;
    assert_eq!(fixture.asked(), [2; 5]);
    assert_eq!(fixture.counted(), (2, 4, [0, 0, 0]));
    // Gathered for 1 s; then pauses of 1, 2, 4 and 5 s.
    assert!(took >= Duration::from_secs(13) && took < Duration::from_secs(14), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_never_taken_makes_room_for_others() {
    let away = Status::unavailable("not these");
    let (fixture, exporter) = Fixture::new(std::iter::repeat_with(|| Err(away.clone())).take(62));
    fixture.send(BATCH + 3);
    let took = fixture.run(exporter).await;
    // After pauses of 1, 2, 4 and then 5 s the next one would be after the end.
    assert_eq!(fixture.counted(), (3, 62, [0, 0, BATCH as u64]));
    assert!(took <= PATIENCE + GATHER && took > PATIENCE - PAUSES[1], "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_goes_in_parts() {
    let (fixture, exporter) = Fixture::taking(3, []);
    fixture.send(10);
    fixture.run(exporter).await;
    assert_eq!(fixture.asked(), [10, 5, 2, 2, 2, 2, 2]);
    assert_eq!(fixture.counted(), (10, 2, [0, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn one_span_that_is_too_large_is_dropped() {
    let too_large = || Err(Status::resource_exhausted("received message larger than max"));
    let (fixture, exporter) = Fixture::new([too_large(), too_large()]);
    fixture.send(3);
    fixture.run(exporter).await;
    assert_eq!(fixture.asked(), [3, 1, 1, 1]);
    assert_eq!(fixture.counted(), (2, 2, [0, 1, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_a_bound_of_bytes() {
    let (fixture, exporter) = Fixture::new([]);
    fixture.send_large(7, BYTES / 3);
    fixture.send_large(2, BYTES * 3);
    fixture.run(exporter).await;
    // A third and what else is in a span: two fit.
    assert_eq!(fixture.asked(), [2, 2, 2, 1, 1, 1]);
    assert_eq!(fixture.counted(), (9, 0, [0, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn what_a_collector_will_never_take_is_dropped_and_counted() {
    let (fixture, exporter) = Fixture::new([Err(Status::invalid_argument("what is this?"))]);
    fixture.send(4);
    fixture.stop.cancel();
    exporter.run().await;
    assert_eq!(fixture.counted(), (0, 1, [0, 4, 0]));
}

#[tokio::test(start_paused = true)]
async fn spans_that_a_collector_does_not_want_are_counted() {
    let (fixture, exporter) = Fixture::new([Ok(1), Ok(100)]);
    fixture.send(BATCH + 2);
    fixture.stop.cancel();
    exporter.run().await;
    // Of two it cannot refuse a hundred.
    assert_eq!(fixture.counted(), (BATCH as u64 - 1, 0, [0, 3, 0]));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_there_is_one_attempt_and_no_waiting() {
    let (fixture, exporter) = Fixture::new((0..10).map(|_| Err(Status::unavailable("away"))));
    fixture.send(BATCH + 1);
    fixture.stop.cancel();
    let begun = Instant::now();
    exporter.run().await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(fixture.counted(), (0, 2, [0, 0, BATCH as u64 + 1]));
    assert!(fixture.to.is_closed());
}

#[tokio::test(start_paused = true)]
async fn the_end_interrupts_a_pause() {
    let (fixture, exporter) = Fixture::new([Err(Status::unavailable("away"))]);
    fixture.send(1);
    let later = async {
        while fixture.asked().is_empty() {
            time::sleep(Duration::from_millis(1)).await;
        }
        let begun = Instant::now();
        fixture.stop.cancel();
        begun
    };
    let (ended, begun) = tokio::join!(
        async {
            exporter.run().await;
            Instant::now()
        },
        later
    );
    assert_eq!(ended, begun);
    assert_eq!(fixture.counted(), (1, 1, [0, 0, 0]));
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_last_who_could_hand_over() {
    let (fixture, exporter) = Fixture::new([]);
    fixture.send(1);
    let Fixture { told, to, .. } = fixture;
    drop(to);
    exporter.run().await;
    assert_eq!(*told.asked.lock().unwrap(), [1]);
}

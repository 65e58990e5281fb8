//! The exporter: takes what has come, hands it to the collector in batches, and tries again what it may take later.
//!
//! One batch is under way at a time. While the collector is away the batch and the queue wait; what has no room in the queue is dropped.

mod collector;

pub(super) use self::collector::Collector;
use super::{
    Ended,
    otlp::{ExportRequest, Resource},
    span,
};
use crate::metrics::{CoreMetrics, reasons::SpanDropped};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// Spans that are handed over at once.
const BATCH: usize = 512;
/// How long a batch that has begun waits for more.
const GATHER: Duration = Duration::from_secs(1);
/// Between two attempts: after the first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Who takes spans.
pub(super) trait Export {
    /// Hands them over; how many of them it does not want.
    ///
    /// # Errors
    /// It has taken none.
    async fn export(&mut self, request: ExportRequest) -> Result<u64, Status>;
}

/// The work of the thread.
#[derive(Debug)]
pub(super) struct Exporter<C> {
    queue: mpsc::Receiver<Box<Ended>>,
    collector: C,
    resource: Resource,
    counters: Arc<CoreMetrics>,
    stop: CancellationToken,
    /// Whether the last attempt has failed: that is said once.
    failing: bool,
}

impl<C: Export> Exporter<C> {
    pub(super) fn new(
        queue: mpsc::Receiver<Box<Ended>>,
        collector: C,
        resource: Resource,
        counters: Arc<CoreMetrics>,
        stop: CancellationToken,
    ) -> Self {
        Self { queue, collector, resource, counters, stop, failing: false }
    }

    /// Exports until nobody can hand over anything more, or what was there at the stop has had its one attempt.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            self.deliver(&batch).await;
        }
    }

    /// What has come and what comes within a moment, up to a batch; `None` at the end.
    async fn gather(&mut self) -> Option<Vec<Box<Ended>>> {
        let mut batch = Vec::new();
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            first = self.queue.recv_many(&mut batch, BATCH) => if first == 0 { return None },
        }
        let more = async {
            loop {
                let room = BATCH - batch.len();
                if room == 0 || self.queue.recv_many(&mut batch, room).await == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = time::timeout(GATHER, more) => {}
        }
        if stop.is_cancelled() {
            self.queue.close();
            let rest = std::iter::from_fn(|| self.queue.try_recv().ok());
            batch.extend(rest.take(BATCH - batch.len()));
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Hands a batch over, as often as it takes. Once the gateway ends there is one attempt more.
    async fn deliver(&mut self, batch: &[Box<Ended>]) {
        let count = batch.len() as u64;
        let mut pause = PAUSES[0];
        loop {
            let is_last = self.stop.is_cancelled();
            let request = span::request(&self.resource, batch.iter().map(|ended| &**ended));
            let status = match self.collector.export(request).await {
                Ok(unwanted) => return self.taken(count, unwanted.min(count)),
                Err(status) => status,
            };
            self.failed(&status);
            match (may_pass(status.code()), is_last) {
                (false, _) => return self.counters.span_dropped(SpanDropped::Rejected, count),
                (true, true) => return self.counters.span_dropped(SpanDropped::Undelivered, count),
                (true, false) => {}
            }
            tokio::select! {
                () = time::sleep(pause) => pause = (pause * 2).min(PAUSES[1]),
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn taken(&mut self, count: u64, unwanted: u64) {
        self.counters.spans_exported.add(count - unwanted);
        self.counters.span_dropped(SpanDropped::Rejected, unwanted);
        if std::mem::take(&mut self.failing) {
            tracing::info!("the collector of traces takes spans again");
        }
    }

    fn failed(&mut self, status: &Status) {
        self.counters.span_exports_failed.add(1);
        if !std::mem::replace(&mut self.failing, true) {
            let (code, message) = (status.code(), status.message());
            tracing::warn!(
                ?code,
                message,
                "the collector of traces takes no spans: they wait, and beyond a bound they are dropped and counted"
            );
        }
    }
}

/// Whether the same may be taken later, as OTLP has it. A collector that is out of room is one of them: it says so for a moment.
fn may_pass(code: Code) -> bool {
    use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, ResourceExhausted, Unavailable};
    matches!(code, Cancelled | DeadlineExceeded | Aborted | OutOfRange | Unavailable | DataLoss | ResourceExhausted)
}

#[cfg(test)]
mod tests;

//! The exporter: takes what has come, hands it to the collector in batches, and tries again what it may take later.
//!
//! One batch is under way at a time. While the collector is away the batch and the queue wait; what has no room in the queue is dropped,
//! and so is a batch that was tried for [`PATIENCE`].

mod collector;

pub(super) use self::collector::Collector;
use super::{
    Ended,
    otlp::{ExportRequest, Resource, Span},
    span,
};
use crate::metrics::{CoreMetrics, reasons::SpanDropped};
use prost::Message;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// Spans that are handed over at once.
const BATCH: usize = 512;
/// Bytes of them: a batch of usual spans. Receivers take at least 4 MiB, unless they are told otherwise.
const BYTES: usize = 512 * 1024;
/// How long a batch that has begun waits for more.
const GATHER: Duration = Duration::from_secs(1);
/// Between two attempts: after the first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// For so long a batch is tried.
const PATIENCE: Duration = Duration::from_mins(5);

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

    /// Hands a batch over, at once or in parts. Once the gateway ends there is one attempt more.
    async fn deliver(&mut self, batch: &[Box<Ended>]) {
        let spans: Vec<Span> = batch.iter().map(|ended| span::of(ended)).collect();
        let (begun, mut pause) = (Instant::now(), PAUSES[0]);
        let (mut rest, mut most) = (&spans[..], BATCH);
        while !rest.is_empty() {
            let is_last = self.stop.is_cancelled();
            let (part, others) = rest.split_at(at_once(rest, most));
            let count = part.len() as u64;
            let status = match self.collector.export(span::request(&self.resource, part)).await {
                Ok(unwanted) => {
                    self.taken(count, unwanted.min(count));
                    rest = others;
                    continue;
                }
                Err(status) => status,
            };
            self.failed(&status);
            match Remedy::of(&status) {
                Remedy::Smaller if part.len() > 1 => most = part.len() / 2,
                Remedy::Later => {}
                Remedy::Smaller | Remedy::None => {
                    self.counters.span_dropped(SpanDropped::Rejected, count);
                    rest = others;
                    continue;
                }
            }
            if is_last || begun.elapsed() + pause > PATIENCE {
                return self.counters.span_dropped(SpanDropped::Undelivered, rest.len() as u64);
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

/// How many of these go at once: so many, and so many bytes, but one at least.
fn at_once(spans: &[Span], most: usize) -> usize {
    let mut bytes = 0;
    let fits = |span: &&Span| {
        bytes += span.encoded_len();
        bytes <= BYTES
    };
    spans.iter().take(most).take_while(fits).count().max(1)
}

/// What helps where the collector has not taken spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// The same may be taken later.
    Later,
    /// Fewer may be.
    Smaller,
    None,
}

impl Remedy {
    /// As OTLP has it. What is out of room for a moment says when to come again; without that, the request was too large.
    fn of(status: &Status) -> Self {
        use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, ResourceExhausted, Unavailable};
        let says_when = || status.details().windows(RETRY_INFO.len()).any(|at| at == RETRY_INFO);
        match status.code() {
            Cancelled | DeadlineExceeded | Aborted | OutOfRange | Unavailable | DataLoss => Self::Later,
            ResourceExhausted if says_when() => Self::Later,
            ResourceExhausted => Self::Smaller,
            _ => Self::None,
        }
    }
}

/// The type of the detail that says when to come again.
const RETRY_INFO: &[u8] = b"google.rpc.RetryInfo";

#[cfg(test)]
mod tests;

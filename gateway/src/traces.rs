//! Traces for OpenTelemetry: a span of each sampled stream, handed to a collector by OTLP over gRPC.
//!
//! ```text
//! core:  context ● ─▶ OPEN ─▶ … ─▶ the stream's record ─┐
//!                                                       ▼ nobody waits
//! thread "traces":       collector ◀─ batch ◀─ span ● ◀─ queue
//! ```
//!
//! The egress gateway begins a trace with a client's stream and decides whether it is sampled. OPEN carries that as a W3C `traceparent`, and
//! the ingress gateway goes on with it. What it costs where it is off, or a stream is not sampled: docs/decisions/0062.

pub(crate) mod context;
mod export;
mod otlp;
mod span;

use self::{
    context::{Context, Ids, Root, Sampler},
    export::Exporter,
};
use crate::{
    metrics::{CoreMetrics, reasons::SpanDropped},
    stream::record::Record,
};
use std::{
    io,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Spans that may wait for the collector. Each takes some hundred bytes.
const QUEUE: usize = 4_096;

/// Where spans go, and of which streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// The collector's OTLP receiver for gRPC: `http://host:port`, or `https://host:port` for TLS.
    pub endpoint: String,
    /// What its certificate is trusted by, as PEM; `None`: the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Of a million traces that begin here, so many are sampled.
    pub per_million: u32,
}

/// Whose spans these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) cluster: String,
    pub(crate) clusterset: String,
    /// This process, among its cluster's gateways.
    pub(crate) gateway: String,
}

/// Says which streams are sampled, and takes them when they have ended.
#[derive(Debug)]
pub(crate) struct Tracer {
    sampler: Sampler,
    to: mpsc::Sender<Box<Ended>>,
}

/// A trace that begins here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It is sampled: its first span.
    Sampled(Context),
    /// It is not. Peers may have to be told.
    Unsampled(Root),
}

/// A sampled stream, after its end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ended {
    pub(crate) record: Record,
    pub(crate) context: Context,
}

/// The exporter's thread. It ends by [`Self::finish`], or with the last [`Tracer`].
#[derive(Debug)]
pub(crate) struct ExporterThread {
    thread: thread::JoinHandle<()>,
    stop: CancellationToken,
}

impl Tracer {
    /// Starts the exporter, which counts in `counters`. The collector need not be there.
    ///
    /// # Errors
    /// The file with the CA cannot be read or is none, or the thread cannot be started.
    pub(crate) fn start(
        traces: &Traces,
        about: &About,
        counters: Arc<CoreMetrics>,
    ) -> io::Result<(Self, ExporterThread)> {
        let collector = export::Collector::new(traces)?;
        let (to, queue) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let exporter = Exporter::new(queue, collector, span::resource(about), counters, stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            runtime.block_on(exporter.run());
            // A lookup of the collector's name may hang in its thread.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("traces".into()).spawn(work)?;
        Ok((Self::new(Sampler::new(traces.per_million), to), ExporterThread { thread, stop }))
    }

    pub(crate) fn new(sampler: Sampler, to: mpsc::Sender<Box<Ended>>) -> Self {
        Self { sampler, to }
    }

    /// A trace begins.
    pub(crate) fn begin(&self, ids: &Ids) -> Begun {
        let root = ids.root();
        if self.sampler.takes(root, ids) { Begun::Sampled(ids.first(root)) } else { Begun::Unsampled(root) }
    }

    /// A peer's trace goes on, as the peer has decided; where it says nothing that can be read, one begins. A span, if that is sampled.
    pub(crate) fn follow(&self, traceparent: Option<&str>, ids: &Ids) -> Option<Context> {
        match traceparent.and_then(context::Parent::parse) {
            Some(parent) => parent.sampled.then(|| Context::child(&parent, ids)),
            None => match self.begin(ids) {
                Begun::Sampled(context) => Some(context),
                Begun::Unsampled(_) => None,
            },
        }
    }

    /// Hands a stream to the exporter, or drops and counts it.
    pub(crate) fn take(&self, ended: Ended, counters: &CoreMetrics) {
        if self.to.try_send(Box::new(ended)).is_err() {
            counters.span_dropped(SpanDropped::QueueFull, 1);
        }
    }
}

impl ExporterThread {
    /// Waits until what was handed over before has been sent, or could not be at once, but no longer than `patience`. It blocks.
    pub(crate) fn finish(self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.stop.cancel();
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests;

//! Access records: one line of JSON a stream, written by a thread of their own.
//!
//! A core hands a record over without waiting: if the writer is too slow, or cannot write, records are dropped and counted
//! (`isthmus_access_records_dropped_total`), and streams go on.

pub(crate) mod choice;
pub(crate) mod line;
mod writer;

use crate::{
    close::Closed,
    metrics::{CoreMetrics, streams::Side},
    tunnel::Source,
};
use choice::Choice;
use isthmus_control_api::{ClusterName, ServicePort};
use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// Records that may wait for the writer.
const QUEUE: usize = 4_096;

/// Where access records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// To standard output.
    Stdout,
    /// To the end of a file, which is made if need be, and made again when somebody has moved it away.
    File(PathBuf),
}

/// One stream, after its end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// When it began.
    pub(crate) time: SystemTime,
    /// What it was for.
    pub(crate) service: ServicePort,
    /// Which side this gateway was.
    pub(crate) side: Side,
    /// The cluster at the other end, if it left this one.
    pub(crate) peer: Option<ClusterName>,
    /// On whose behalf it was opened, if that is known.
    pub(crate) source: Option<Source>,
    /// The client's address as the egress gateway saw it.
    pub(crate) client: Option<SocketAddr>,
    /// Which rule of an access policy has decided on it.
    pub(crate) policy: Option<Arc<str>>,
    /// Which one would have decided otherwise, were its policy no dry run.
    pub(crate) dry_run: Option<Arc<str>>,
    /// The endpoint, if this gateway connected to it.
    pub(crate) endpoint: Option<SocketAddr>,
    /// Bytes from the client to the endpoint.
    pub(crate) bytes_up: u64,
    /// Bytes from the endpoint to the client.
    pub(crate) bytes_down: u64,
    /// From its beginning to its end.
    pub(crate) duration: Duration,
    /// How long the upstream took to accept it.
    pub(crate) connect: Option<Duration>,
    /// From its beginning to the first byte from the endpoint.
    pub(crate) first_byte: Option<Duration>,
    /// How it ended.
    pub(crate) closed: Closed,
    /// Attempts that failed before the last one.
    pub(crate) retries: u32,
    /// Where it was sent, one attempt after the other, and whom else there was to choose from.
    pub(crate) choices: Vec<Choice>,
    /// W3C trace context of its span; where it has none, what it was opened with.
    pub(crate) traceparent: Option<String>,
}

/// Takes records.
#[derive(Debug)]
pub(crate) struct Recorder(SyncSender<Letter>);

/// The writer's thread. It ends by [`Self::finish`], or with the last [`Recorder`].
#[derive(Debug)]
pub(crate) struct RecordWriter {
    thread: thread::JoinHandle<()>,
    letters: SyncSender<Letter>,
}

/// What the writer is told.
#[derive(Debug)]
enum Letter {
    Record(Box<Record>),
    /// Nothing follows.
    End,
}

impl Recorder {
    /// Starts the writer. What it cannot write it counts in `counters`.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub(crate) fn start(log: &AccessLog, counters: Arc<CoreMetrics>) -> io::Result<(Self, RecordWriter)> {
        let sink = writer::Sink::open(log)?;
        let (to, letters) = sync_channel(QUEUE);
        let work = move || writer::write_all(&letters, sink, &counters);
        let thread = thread::Builder::new().name("access-log".into()).spawn(work)?;
        Ok((Self(to.clone()), RecordWriter { thread, letters: to }))
    }

    /// Hands a record to the writer, or drops and counts it.
    pub(crate) fn record(&self, record: Record, counters: &CoreMetrics) {
        if self.0.try_send(Letter::Record(Box::new(record))).is_err() {
            counters.access_records_dropped.add(1);
        }
    }
}

impl RecordWriter {
    /// Waits until everything that was handed over before is written, but no longer than `patience`: whoever reads our standard
    /// output may have stopped. It blocks.
    pub(crate) fn finish(self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut told = false;
        while !self.thread.is_finished() && Instant::now() < deadline {
            told = told || self.letters.try_send(Letter::End).is_ok();
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

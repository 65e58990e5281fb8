//! Access records: one line of JSON a stream, written by a thread of their own.
//!
//! A core hands a record over without waiting: if the writer is too slow, or cannot write, records are dropped and counted
//! (`isthmus_access_records_dropped_total`), and streams go on.

mod line;
mod writer;

use crate::{
    close::Closed,
    metrics::{CoreMetrics, streams::Side},
};
use isthmus_certs::SpiffeId;
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
    time::{Duration, SystemTime},
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
pub struct Record {
    /// When it began.
    pub time: SystemTime,
    /// What it was for.
    pub service: ServicePort,
    /// Which side this gateway was.
    pub side: Side,
    /// The cluster at the other end, if it left this one.
    pub peer: Option<ClusterName>,
    /// On whose behalf it was opened, if that is known.
    pub source: Option<SpiffeId>,
    /// The client's address as the egress gateway saw it.
    pub client: Option<SocketAddr>,
    /// The endpoint, if this gateway connected to it.
    pub endpoint: Option<SocketAddr>,
    /// Bytes from the client to the endpoint.
    pub bytes_up: u64,
    /// Bytes from the endpoint to the client.
    pub bytes_down: u64,
    /// From its beginning to its end.
    pub duration: Duration,
    /// How long the upstream took to accept it.
    pub connect: Option<Duration>,
    /// From its beginning to the first byte from the endpoint.
    pub first_byte: Option<Duration>,
    /// How it ended.
    pub closed: Closed,
    /// Attempts that failed before the last one.
    pub retries: u32,
    /// W3C trace context, where the client sent one.
    pub traceparent: Option<String>,
}

/// Takes records. It can be cloned; when the last one is dropped the writer ends.
#[derive(Debug, Clone)]
pub struct Recorder(SyncSender<Record>);

/// The writer's thread.
#[derive(Debug)]
pub struct RecordWriter(thread::JoinHandle<()>);

impl Recorder {
    /// Starts the writer. What it cannot write it counts in `counters`.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub fn start(log: &AccessLog, counters: Arc<CoreMetrics>) -> io::Result<(Self, RecordWriter)> {
        let sink = writer::Sink::open(log)?;
        let (to, records) = sync_channel(QUEUE);
        let work = move || writer::write_all(&records, sink, &counters);
        let thread = thread::Builder::new().name("access-log".into()).spawn(work)?;
        Ok((Self(to), RecordWriter(thread)))
    }

    /// Hands a record to the writer, or drops and counts it.
    pub fn record(&self, record: Record, counters: &CoreMetrics) {
        if self.0.try_send(record).is_err() {
            counters.access_records_dropped.add(1);
        }
    }
}

impl RecordWriter {
    /// Waits until everything is written: after all [`Recorder`]s are gone.
    pub fn finish(self) {
        // A panic of the writer was reported where it happened.
        let _ = self.0.join();
    }
}

#[cfg(test)]
mod tests;

//! HTTP load from a namespace, with every response checked.

use crate::{client::STALL_BOUND, netns::Netns};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    runtime::Handle,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How many different failures are kept.
const KEPT_FAILURES: usize = 8;

/// How clients use connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// A new connection for each request.
    ConnectionPerRequest,
    /// One connection for all, and a new one where it ended between two requests.
    KeepAlive,
}

/// Clients that ask for `/` again and again until stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    tasks: Handle,
}

#[derive(Debug, Default)]
struct Shared {
    stop: CancellationToken,
    succeeded: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
    /// When the connection of the last failed request that had one was begun.
    last_failed: Mutex<Option<Instant>>,
}

/// What a load came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Requests with the whole, right response.
    pub succeeded: u64,
    /// Connections refused: nothing was accepted, so nothing was lost.
    pub refused: u64,
    /// Everything else.
    pub failed: u64,
    /// Some of the failures, for people.
    pub failures: Vec<String>,
    /// When the youngest of the connections was begun whose request failed.
    pub last_failed: Option<Instant>,
}

impl Outcome {
    /// Asserts that requests were made and none failed.
    ///
    /// # Panics
    /// If it is not so.
    pub fn assert_no_failure(&self) {
        assert!(self.succeeded > 0 && self.failed == 0, "{self:?}");
    }

    /// Asserts that nothing failed on connections that were begun after `moment`, and no more than `under_way` before.
    ///
    /// # Panics
    /// If it is not so.
    pub fn assert_no_failure_since(&self, moment: Instant, under_way: u64) {
        let late = self.last_failed.map(|begun| begun.saturating_duration_since(moment));
        assert!(late.is_none_or(|late| late.is_zero()), "begun {late:?} after the moment: {self:?}");
        assert!(self.succeeded > 0 && self.failed <= under_way && self.refused == 0, "{self:?}");
    }
}

impl Load {
    /// Starts `clients` of them in `netns` against `address`; each response's body has to be `body`.
    pub fn start(
        netns: &Arc<Netns>,
        tasks: &Handle,
        address: SocketAddr,
        clients: usize,
        reuse: Reuse,
        body: &str,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let mut set = JoinSet::new();
        for _ in 0..clients {
            let client =
                Client { netns: Arc::clone(netns), address, reuse, body: body.to_owned(), shared: Arc::clone(&shared) };
            set.spawn_on(client.run(), tasks);
        }
        Self { shared, clients: set, tasks: tasks.clone() }
    }

    /// Requests that have succeeded so far.
    pub fn succeeded(&self) -> u64 {
        self.shared.succeeded.load(Ordering::Relaxed)
    }

    /// Requests that have failed so far.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Waits until `n` further requests have succeeded.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn wait_for(&self, n: u64) {
        let goal = self.succeeded() + n;
        crate::eventually(&format!("{n} further requests succeed"), || {
            let (now, failed) = (self.succeeded(), self.failed());
            if now >= goal {
                Ok(())
            } else {
                Err(format!("{now} of {goal}, {failed} failed: {:?}", self.shared.failures()))
            }
        });
    }

    /// Lets each client finish its request, and stops.
    ///
    /// # Panics
    /// If a client did.
    pub fn stop(mut self) -> Outcome {
        self.shared.stop.cancel();
        let clients = std::mem::take(&mut self.clients);
        self.tasks.block_on(clients.join_all());
        let Shared { succeeded, refused, failed, .. } = &*self.shared;
        let [succeeded, refused, failed] = [succeeded, refused, failed].map(|counter| counter.load(Ordering::Relaxed));
        let last_failed = self.shared.last_failed.lock().map(|last| *last).unwrap_or_default();
        Outcome { succeeded, refused, failed, failures: self.shared.failures(), last_failed }
    }
}

impl Shared {
    fn failures(&self) -> Vec<String> {
        self.failures.lock().map(|kept| kept.clone()).unwrap_or_default()
    }

    fn count(&self, result: &io::Result<()>, begun: Instant) {
        match result {
            Ok(()) => self.succeeded.fetch_add(1, Ordering::Relaxed),
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => self.refused.fetch_add(1, Ordering::Relaxed),
            Err(e) => {
                if let Ok(mut kept) = self.failures.lock()
                    && kept.len() < KEPT_FAILURES
                {
                    kept.push(e.to_string());
                }
                if let Ok(mut last) = self.last_failed.lock() {
                    *last = last.max(Some(begun));
                }
                self.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

struct Client {
    netns: Arc<Netns>,
    address: SocketAddr,
    reuse: Reuse,
    body: String,
    shared: Arc<Shared>,
}

impl Client {
    async fn run(self) {
        let (mut kept, mut begun) = (None, Instant::now());
        while !self.shared.stop.is_cancelled() {
            if kept.is_none() {
                begun = Instant::now();
            }
            let result = timeout(STALL_BOUND, self.request(&mut kept)).await;
            let result = result.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
            if result.is_err() {
                kept = None;
                // A refused connection comes back at once: without a pause this client would do nothing else.
                tokio::time::sleep(crate::wait::PAUSE).await;
            }
            self.shared.count(&result, begun);
        }
    }

    async fn request(&self, kept: &mut Option<BufReader<TcpStream>>) -> io::Result<()> {
        if self.reuse == Reuse::KeepAlive && kept.as_ref().is_some_and(|stream| has_ended(stream.get_ref())) {
            *kept = None;
        }
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => BufReader::new(crate::client::connect(&self.netns, self.address).await?),
        };
        let connection = if self.reuse == Reuse::KeepAlive { "keep-alive" } else { "close" };
        let request = format!("GET / HTTP/1.1\r\nHost: e2e\r\nConnection: {connection}\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes()).await?;
        let body = read_response(&mut stream).await?;
        if body != self.body {
            return Err(io::Error::other(format!("another body: {body:?}")));
        }
        if self.reuse == Reuse::KeepAlive {
            *kept = Some(stream);
        }
        Ok(())
    }
}

/// Whether an idle connection has ended: the client may see that before it sends the next request.
fn has_ended(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

async fn read_response(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let (mut length, mut status) = (None, String::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::Error::other("a clean end in the middle of a response's head"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if status.is_empty() {
            line.clone_into(&mut status);
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let length = length.ok_or_else(|| io::Error::other("a response without length"))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    if status.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(status));
    }
    String::from_utf8(body).map_err(io::Error::other)
}

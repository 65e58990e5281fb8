//! The admin address: `/livez`, `/readyz`, `/metrics`, `/status`, `/trace`, `/probe`, `/measure` and the console, over plain HTTP/1.1.
//!
//! It runs on the control thread and asks the cores; nothing that happens here makes a stream wait. A connection serves one
//! request within a fixed time, there are so many connections and no more, and a head has a size and a time limit. An answer that
//! goes on, as the console's events do, has that time anew with each part that is taken.

mod connection;
mod measure;
mod probe;

pub(crate) use connection::Connection;

use crate::{
    console::{self, Console},
    metrics::{Metrics, reasons::Bound, scrape},
    status::{self, CoreQuery, CoreReport, ExtraStatus, Status, probe::CoreProbe, trace::Whom},
};
use axum::{
    Json, Router,
    extract::{FromRef, Path, RawQuery, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use isthmus_control_api::{Cidr, ServiceName};
use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot, watch},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

/// Where the answers come from.
#[derive(Clone)]
pub struct AdminSources {
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// How many cores there are.
    pub cores: usize,
    /// Hands a query to a core without waiting; dropping it (the core's mailbox is full) leaves the core out of the answer.
    pub ask: Arc<dyn Fn(usize, CoreQuery) + Send + Sync>,
    /// Has a core open streams, in the same way.
    pub probe: Arc<dyn Fn(usize, CoreProbe) + Send + Sync>,
    /// Whether the gateway is ready.
    pub ready: watch::Receiver<Readiness>,
    /// What is known outside the cores.
    pub extra: Arc<dyn Fn() -> ExtraStatus + Send + Sync>,
    /// How the console is served.
    pub console: console::Settings,
    /// The addresses that the gateway may use as clients' own.
    pub transparent_sources: Arc<[Cidr]>,
}

/// What makes a gateway ready for traffic: both of the first two, and not the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// The first table has been applied by every core.
    pub table_applied: bool,
    /// The tunnel port and every import's listener are bound.
    pub listeners_bound: bool,
    /// The gateway is shutting down.
    pub draining: bool,
}

/// What bounds the admin address.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    /// For the whole head of a request.
    head: Duration,
    /// For the whole connection, from accept to the last byte of the answer.
    connection: Duration,
    /// For the cores' answers.
    cores: Duration,
    /// For the requests that are under way at the end.
    goodbye: Duration,
}

/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 16 * 1024;
/// The most header fields of a request.
const MOST_FIELDS: usize = 64;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head: Duration::from_secs(5),
            connection: Duration::from_secs(30),
            cores: Duration::from_secs(1),
            goodbye: Duration::from_secs(1),
        }
    }
}

impl Readiness {
    /// Why the gateway is not ready; `None` if it is.
    pub const fn problem(&self) -> Option<&'static str> {
        match self {
            Self { draining: true, .. } => Some("draining"),
            Self { table_applied: false, .. } => Some("the first endpoint table has not been applied"),
            Self { listeners_bound: false, .. } => Some("not all listeners are bound"),
            _ => None,
        }
    }
}

impl fmt::Debug for AdminSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminSources").field("cores", &self.cores).finish_non_exhaustive()
    }
}

/// Serves the admin address until `shutdown`, then lets the requests that are under way finish for a second.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve(
    listener: std::net::TcpListener,
    sources: AdminSources,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_within(listener, sources, shutdown, Limits::default()).await
}

async fn serve_within(
    listener: std::net::TcpListener,
    sources: AdminSources,
    shutdown: CancellationToken,
    limits: Limits,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let metrics = sources.metrics.clone();
    let (router, producing) = router(Asked::new(sources, limits.cores));
    // It ends with this, and what pages wait for ends with it.
    let mut background = JoinSet::new();
    background.spawn(producing);
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match (accepted, room.clone().try_acquire_owned()) {
            (Ok((socket, _)), Ok(permit)) => {
                let connection = connection::serve(socket, router.clone(), limits);
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            (Ok((socket, _)), Err(_)) => {
                metrics.control().refused(Bound::AdminConnections);
                refuse(&socket);
            }
            (Err(error), _) => {
                metrics.control().accept_errors.add(1);
                tracing::warn!(%error, "cannot accept a connection to the admin address");
                // Out of descriptors, mostly: those of others have to be closed first.
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    background.shutdown().await;
    let finished = async { while connections.join_next().await.is_some() {} };
    // Whoever is slower is cut off when the set is dropped.
    let _ = time::timeout(limits.goodbye, finished).await;
    Ok(())
}

/// Says that there are too many connections, if the socket takes it at once.
fn refuse(socket: &TcpStream) {
    let _ = socket.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n",
    );
}

/// What there is instead.
const NO_SUCH_PATH: &str = "found: /livez /readyz /metrics /status /trace/namespace/name /console/; by POST: /probe/links \
                            /probe/service/namespace/name /measure/cluster\n";

/// Who is asked: the cores, and what is known outside them.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) sources: Arc<AdminSources>,
    probes: Arc<probe::Bounds>,
    patience: Duration,
}

/// What requests are answered from.
#[derive(Clone)]
pub(crate) struct Served {
    asked: Asked,
    console: Console,
}

impl FromRef<Served> for Asked {
    fn from_ref(served: &Served) -> Self {
        served.asked.clone()
    }
}

impl FromRef<Served> for Console {
    fn from_ref(served: &Served) -> Self {
        served.console.clone()
    }
}

/// What serves requests, and what has to run beside it.
fn router(asked: Asked) -> (Router, impl Future<Output = ()> + Send) {
    let (console, producing) = console::start(asked.clone());
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/trace/{namespace}/{name}", get(trace))
        .route("/probe/links", post(probe::links))
        .route("/probe/service/{namespace}/{name}", post(probe::service))
        .route("/measure/{cluster}", post(measure::link))
        .merge(console::routes())
        .fallback(async || (StatusCode::NOT_FOUND, NO_SUCH_PATH))
        .with_state(Served { asked, console });
    (router, producing)
}

/// What `/status` says now.
pub async fn look(sources: &AdminSources) -> Status {
    let asked = Asked::new(sources.clone(), Limits::default().cores);
    asked.status().await.0
}

async fn livez(State(asked): State<Asked>) -> (StatusCode, String) {
    let stuck = asked.sources.metrics.stuck_cores(Instant::now());
    if stuck.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines = stuck.iter().map(|(core, silence)| format!("core {core} is stuck for {} s\n", silence.as_secs()));
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

async fn readyz(State(asked): State<Asked>) -> (StatusCode, String) {
    match asked.sources.ready.borrow().problem() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {problem}\n")),
    }
}

async fn status(State(asked): State<Asked>) -> Json<Status> {
    Json(asked.status().await.0)
}

async fn trace(
    State(asked): State<Asked>,
    Path((namespace, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let Ok(service) = format!("{namespace}/{name}").parse::<ServiceName>() else {
        return no_service("/trace", &namespace, &name);
    };
    // Nothing in it needs to be escaped.
    let from = query.iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("from="));
    let whom = match from.map(str::parse::<Whom>).transpose() {
        Ok(whom) => whom,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("from: {error}\n")).into_response(),
    };
    let reports = asked.reports(Some(&service)).await;
    Json(status::trace::merge((&service, whom.as_ref()), &(asked.sources.extra)(), &reports)).into_response()
}

/// No service can have such a name.
fn no_service(path: &str, namespace: &str, name: &str) -> Response {
    let message = format!("found: {namespace:?}/{name:?}, expected: {path}/namespace/name, each a DNS label\n");
    (StatusCode::BAD_REQUEST, message).into_response()
}

async fn metrics(State(asked): State<Asked>) -> Response {
    let (status, reports) = asked.status().await;
    match scrape::text(&asked.sources.metrics, status, &reports) {
        Ok(text) => ([(CONTENT_TYPE, scrape::CONTENT_TYPE)], text).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl Asked {
    fn new(sources: AdminSources, patience: Duration) -> Self {
        Self { sources: Arc::new(sources), probes: Arc::default(), patience }
    }

    /// The status, and the cores' reports that it was made of.
    async fn status(&self) -> (Status, Vec<Option<CoreReport>>) {
        let reports = self.reports(None).await;
        let readiness = *self.sources.ready.borrow();
        (status::merge(&(self.sources.extra)(), &readiness, &reports), reports)
    }

    /// Asks all cores at once, and waits until the one deadline for all.
    pub(crate) async fn reports(&self, of: Option<&ServiceName>) -> Vec<Option<CoreReport>> {
        let deadline = time::Instant::now() + self.patience;
        let ask = |core| {
            let (to, answer) = oneshot::channel();
            (self.sources.ask)(core, CoreQuery(to, of.cloned()));
            answer
        };
        let answers: Vec<_> = (0..self.sources.cores).map(ask).collect();
        let mut reports = Vec::with_capacity(answers.len());
        for answer in answers {
            reports.push(time::timeout_at(deadline, answer).await.ok().and_then(Result::ok));
        }
        reports
    }
}

#[cfg(test)]
mod tests;

//! The console: one page at `/console/` of the admin address that shows links and services as they are, read-only.
//!
//! ```text
//! cores ──status, once a second──▶ producer ──▶ rows ● ──▶ feed ● ── what changed ──▶ every page that is open
//!         counters ──────────────▶          ──▶ rates ●, history ●
//! ```
//!
//! One producer serves all pages, and only while there are any: it sleeps, and holds nothing, until somebody looks, and lets
//! everything go a minute after the last one has left. It takes at most a fiftieth of the control thread's time: where there is
//! so much to show that a second is too short, it comes less often. Tunnels
//! that come or go are shown at once. Who may look is up to [`gate`] ●.

mod assets;
mod detail;
mod events;
mod feed;
mod gate;
mod history;
mod produce;
mod rates;
mod rows;
mod show;
mod tap;

pub use gate::{Token, TokenError};
pub(crate) use tap::Tap;

use crate::{
    admin::{Asked, Connection, Served},
    board::Tunnels,
    metrics::reasons::Bound,
};
use axum::{
    Router,
    body::Body,
    extract::{FromRef, FromRequestParts, Path},
    http::{
        HeaderMap, HeaderName, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE},
        request::Parts,
    },
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use gate::Refused;
use isthmus_control_api::{ClusterName, ServiceName};
use std::{path::PathBuf, sync::Arc};
use tokio::sync::{Semaphore, mpsc, watch};

/// How the console is served.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The file with the token that whoever looks has to know; `None`: only those on loopback may look.
    pub token_file: Option<PathBuf>,
    /// Where records of streams come from, if there are any in this process.
    pub records: Records,
    /// Which tunnels there are, in this process: what changes there is shown at once.
    pub tunnels: Option<watch::Receiver<Tunnels>>,
}

/// The access records of a gateway, for those who look at one of its services.
#[derive(Debug, Clone, Default)]
pub struct Records(pub(crate) Option<Arc<Tap>>);

/// Pages that may be open at once, each page of a service or a link counting twice.
const MOST_LOOKERS: usize = 32;
/// Events that may wait for one page. One that takes them too slowly is told everything anew.
const QUEUE: usize = 4;

/// Somebody who looks.
#[derive(Debug)]
pub(crate) struct Looker {
    /// At what; `None`: at the lists of everything.
    focus: Option<Focus>,
    /// Takes the events, ready to be sent.
    to: mpsc::Sender<Bytes>,
}

/// What a page shows that is of one thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Focus {
    /// A service.
    Service(ServiceName),
    /// A link.
    Link(ClusterName),
}

/// The producer's door.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    producer: mpsc::Sender<Looker>,
    room: Arc<Semaphore>,
}

/// A console, and its producer, which has to run for as long as pages are served.
pub(crate) fn start(asked: Asked) -> (Console, impl Future<Output = ()> + Send) {
    let (to, lookers) = mpsc::channel(MOST_LOOKERS);
    let console = Console { producer: to, room: Arc::new(Semaphore::new(MOST_LOOKERS)) };
    (console, produce::run(asked, lookers))
}

/// What is served below `/console`.
pub(crate) fn routes() -> Router<Served> {
    Router::new()
        .route("/console", get(async || Redirect::permanent("/console/")))
        .route("/console/", get(async |_: Admitted| assets::find("index.html").into_response()))
        .route(
            "/console/{file}",
            get(async |_: Admitted, Path(file): Path<String>| assets::find(&file).into_response()),
        )
        .route("/console/events", get(everything))
        .route("/console/events/service/{namespace}/{name}", get(service))
        .route("/console/events/link/{cluster}", get(link))
}

async fn everything(_: Own, place: Place) -> Response {
    place.watch(None)
}

async fn service(_: Own, place: Place, Path((namespace, name)): Path<(String, String)>) -> Response {
    match format!("{namespace}/{name}").parse() {
        Ok(service) => place.watch(Some(Focus::Service(service))),
        Err(_) => bad_request(&format!("found: {namespace:?}/{name:?}, expected: namespace/name, each a DNS label")),
    }
}

async fn link(_: Own, place: Place, Path(cluster): Path<String>) -> Response {
    match cluster.parse() {
        Ok(cluster) => place.watch(Some(Focus::Link(cluster))),
        Err(_) => bad_request(&format!("found: {cluster:?}, expected: a cluster, which is a DNS label")),
    }
}

fn bad_request(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response()
}

/// Where somebody who may look would look from.
struct Place {
    asked: Asked,
    console: Console,
    connection: Arc<Connection>,
}

impl FromRequestParts<Served> for Place {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, served: &Served) -> Result<Self, StatusCode> {
        // Whoever serves a connection says what it is, with each request.
        let connection = parts.extensions.get::<Arc<Connection>>().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?.clone();
        Ok(Self { asked: Asked::from_ref(served), console: Console::from_ref(served), connection })
    }
}

impl Place {
    /// Events until whoever looks has enough, or the gateway ends.
    fn watch(self, focus: Option<Focus>) -> Response {
        let Self { asked, console, connection } = self;
        let (to, events) = mpsc::channel(QUEUE);
        let place = console.room.clone().try_acquire_owned();
        let (Ok(place), Ok(())) = (place, console.producer.try_send(Looker { focus, to })) else {
            asked.sources.metrics.control().refused(Bound::ConsolePages);
            return (StatusCode::SERVICE_UNAVAILABLE, "too many pages of the console are open\n").into_response();
        };
        let body = Body::new(events::Events::new(events, connection, place));
        ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], body).into_response()
    }
}

/// Whoever asks may look.
#[derive(Debug)]
struct Admitted;

impl FromRequestParts<Served> for Admitted {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, served: &Served) -> Result<Self, Response> {
        let asked = Asked::from_ref(served);
        let token = match &asked.sources.console.token_file {
            None => None,
            Some(path) => match Token::read(path).await {
                Ok(token) => Some(token),
                Err(error) => {
                    tracing::warn!(%error, "nobody can use the console");
                    let message = "the console's token cannot be read: the gateway's log says why\n";
                    return Err((StatusCode::SERVICE_UNAVAILABLE, message).into_response());
                }
            },
        };
        let on_loopback = parts.extensions.get::<Arc<Connection>>().is_some_and(|connection| connection.on_loopback);
        let of = |name| text(&parts.headers, name);
        gate::admit(on_loopback, of(HOST), of(AUTHORIZATION), token.as_ref()).map(|()| Self).map_err(refusal)
    }
}

/// Whoever asks may look, and asks for the console's own page, or is no page. The page itself shows nothing, so links may lead there.
#[derive(Debug)]
struct Own;

impl FromRequestParts<Served> for Own {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, served: &Served) -> Result<Self, Response> {
        Admitted::from_request_parts(parts, served).await?;
        let of = |name| text(&parts.headers, name);
        gate::is_own(of(SEC_FETCH_SITE), of(ORIGIN), of(HOST)).map(|()| Self).map_err(refusal)
    }
}

/// What a browser says of the page that asks.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn refusal(refused: Refused) -> Response {
    let message = format!("{refused}\n");
    match refused {
        Refused::Unauthorised => {
            let how = [(WWW_AUTHENTICATE, "Basic realm=\"isthmus console, any user, the token for a password\"")];
            (StatusCode::UNAUTHORIZED, how, message).into_response()
        }
        Refused::NoToken | Refused::Host | Refused::Foreign => (StatusCode::FORBIDDEN, message).into_response(),
    }
}

#[cfg(test)]
mod tests;

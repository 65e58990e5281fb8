//! `/probe`: streams that are opened to see whether they get through, for whoever is on this machine.

mod source;

use super::{Asked, Connection};
use crate::{
    limit::bucket::{Bucket, Rate},
    metrics::reasons::Bound,
    status::{
        merge::millis,
        probe::{
            Answer, ClusterProbe, CoreProbe, EndpointProbe, ExportProbe, ImportProbe, LinksProbe, ServiceProbe,
            ServiceQuery,
        },
    },
};
use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header::ORIGIN},
    response::{IntoResponse, Response},
};
use isthmus_control_api::{ServiceName, ServicePort};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit, oneshot},
    task::JoinSet,
    time::timeout,
};

/// Probes at once.
const AT_ONCE: usize = 4;
/// Probes a second, as an average.
const PER_SECOND: u64 = 8;
/// How many may come at once after a pause, as the time in which so many come: 128.
const BURST: Duration = Duration::from_secs(16);
/// For a core's answer.
const CORE: Duration = Duration::from_secs(20);
/// Streams and connections of a probe of one service.
const MOST: usize = 32;
/// For a connection to an endpoint.
const CONNECT: Duration = Duration::from_secs(5);

/// What bounds probes.
#[derive(Debug)]
pub(super) struct Bounds {
    places: Semaphore,
    bucket: Bucket,
    born: Instant,
    /// One measurement of a link at a time.
    pub(super) measuring: Semaphore,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            places: Semaphore::new(AT_ONCE),
            bucket: Bucket::default(),
            born: Instant::now(),
            measuring: Semaphore::new(1),
        }
    }
}

/// `POST /probe/links`
pub(super) async fn links(
    State(asked): State<Asked>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
) -> Response {
    let _place = match asked.may_probe(&connection, &headers) {
        Ok(place) => place,
        Err(refused) => return refused.into_response(),
    };
    let ask = |core| {
        let (to, answer) = oneshot::channel();
        (asked.sources.probe)(core, CoreProbe::Links(to));
        answer
    };
    let answers: Vec<_> = (0..asked.sources.cores).map(ask).collect();
    let mut cores = Vec::with_capacity(answers.len());
    for answer in answers {
        cores.push(timeout(CORE, answer).await.ok().and_then(Result::ok));
    }
    Json(LinksProbe::merge(cores)).into_response()
}

/// `POST /probe/service/namespace/name?from=ADDRESS`
pub(super) async fn service(
    State(asked): State<Asked>,
    Extension(connection): Extension<Arc<Connection>>,
    Path((namespace, name)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Ok(service) = format!("{namespace}/{name}").parse::<ServiceName>() else {
        return super::no_service("/probe/service", &namespace, &name);
    };
    let from = uri.query().map(|query| query.strip_prefix("from=").unwrap_or(query).parse::<IpAddr>());
    let Ok(client) = from.transpose() else {
        let message = format!("found: ?{}, expected: ?from= and an IP address\n", uri.query().unwrap_or_default());
        return (StatusCode::BAD_REQUEST, message).into_response();
    };
    let client = client.map(|client| SocketAddr::new(client, 0));
    let _place = match asked.may_probe(&connection, &headers) {
        Ok(place) => place,
        Err(refused) => return refused.into_response(),
    };
    Json(probe_service(&asked, service, client).await).into_response()
}

impl Asked {
    /// A place for a probe; or why there is none. Whoever comes from elsewhere, or from a page in a browser, may not: probes have others
    /// do something.
    pub(super) fn may_probe(
        &self,
        connection: &Connection,
        headers: &HeaderMap,
    ) -> Result<SemaphorePermit<'_>, (StatusCode, &'static str)> {
        if !connection.is_here || headers.contains_key(ORIGIN) {
            return Err((
                StatusCode::FORBIDDEN,
                "probes are for commands on this machine: expected a connection from it\n",
            ));
        }
        let bounds = &self.probes;
        let now = u64::try_from(bounds.born.elapsed().as_nanos()).unwrap_or(u64::MAX / 4);
        let place = bounds.places.try_acquire().ok();
        let taken = place.filter(|_| bounds.bucket.take(1, Rate::new(PER_SECOND, BURST), now));
        taken.ok_or_else(|| {
            self.sources.metrics.control().refused(Bound::Probes);
            (StatusCode::TOO_MANY_REQUESTS, "too many probes: try again in a second\n")
        })
    }
}

async fn probe_service(asked: &Asked, service: ServiceName, client: Option<SocketAddr>) -> ServiceProbe {
    let extra = (asked.sources.extra)();
    let is_asked = |port: &ServicePort| port.service == service && port.protocol.is_tcp();
    let mut found =
        ServiceProbe { cluster: extra.cluster.clone(), service: service.to_string(), ..ServiceProbe::default() };
    let mut room = MOST;
    let (mut streams, mut connections, mut sources) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for (listen, import) in extra.table.imports.iter().filter(|(_, import)| is_asked(&import.service)) {
        let index = found.imports.len();
        let (name, listen) = (import.service.to_string(), listen.to_string());
        found.imports.push(ImportProbe { name, listen, clusters: Vec::new() });
        for cluster in import.clusters.keys().take(room) {
            let query = ServiceQuery { cluster: cluster.clone(), service: import.service.clone(), client };
            let asked = asked.clone();
            streams.spawn(async move { (index, query.cluster.clone(), stream(&asked, query).await) });
        }
        found.left_out += import.clusters.len().saturating_sub(room);
        room = room.saturating_sub(import.clusters.len());
    }
    for (port, export) in extra.table.exports.iter().filter(|(port, _)| is_asked(port)) {
        let index = found.exports.len();
        found.exports.push(ExportProbe { name: port.to_string(), endpoints: Vec::new(), sources: Vec::new() });
        for endpoint in export.endpoints.iter().take(room) {
            let address = endpoint.address;
            connections.spawn(async move { (index, connect(address).await) });
        }
        found.left_out += export.endpoints.len().saturating_sub(room);
        room = room.saturating_sub(export.endpoints.len());
        let all = source::of(export);
        found.left_out += all.len().saturating_sub(room);
        let now = all.len().min(room);
        room -= now;
        for tried in all.into_iter().take(now) {
            let allowed = asked.sources.transparent_sources.clone();
            sources.spawn(async move { (index, source::probe(tried, &allowed).await) });
        }
    }
    while let Some(ended) = streams.join_next().await {
        let Ok((index, cluster, answer)) = ended else { continue };
        found.imports[index].clusters.push(ClusterProbe::new(&cluster, &answer));
    }
    while let Some(ended) = connections.join_next().await {
        let Ok((index, endpoint)) = ended else { continue };
        found.exports[index].endpoints.push(endpoint);
    }
    while let Some(ended) = sources.join_next().await {
        let Ok((index, source)) = ended else { continue };
        found.exports[index].sources.push(source);
    }
    for export in &mut found.exports {
        export.sources.sort_by(|a, b| (&a.network, &a.endpoint).cmp(&(&b.network, &b.endpoint)));
    }
    found.imports.iter_mut().for_each(|import| import.clusters.sort_by(|a, b| a.cluster.cmp(&b.cluster)));
    found.exports.iter_mut().for_each(|export| export.endpoints.sort_by(|a, b| a.address.cmp(&b.address)));
    found
}

/// Asks one core after the other, until one has a tunnel.
async fn stream(asked: &Asked, query: ServiceQuery) -> Answer {
    for core in 0..asked.sources.cores {
        let (to, answer) = oneshot::channel();
        (asked.sources.probe)(core, CoreProbe::Service(query.clone(), to));
        if let Ok(Ok(Some(answer))) = timeout(CORE, answer).await {
            return Some(answer);
        }
    }
    None
}

async fn connect(address: SocketAddr) -> EndpointProbe {
    let began = Instant::now();
    let connected = timeout(CONNECT, TcpStream::connect(address)).await;
    let error = match connected {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", CONNECT.as_secs())),
    };
    let connected_ms = error.is_none().then(|| millis(began.elapsed()));
    EndpointProbe { address: address.to_string(), connected_ms, error }
}

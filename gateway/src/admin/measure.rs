//! `/measure`: what a link carries, for whoever is on this machine.

mod plan;

use super::{Asked, Connection};
use crate::{
    metrics::reasons::Bound,
    status::{
        measure::{Allowance, CoreMeasured, LinkMeasure, MeasureQuery, NotMeasured},
        probe::{CoreProbe, line},
    },
    tunnel::{Refusal, RefusalReason},
};
use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use isthmus_control_api::ClusterName;
use plan::Wanted;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::oneshot, task::JoinSet, time::sleep_until};

/// For round trips without load, and for opening the streams.
const IDLE: Duration = Duration::from_secs(1);
/// Longer than that where the round trip is: so many of it …
const TRIPS: u32 = 4;
/// … that take as long, and no longer.
const LONGEST_TRIP: Duration = Duration::from_millis(500);
/// For a core's answer, behind the end: the peer's answers may have taken longer than [`IDLE`].
const ANSWER: Duration = Duration::from_secs(6);

/// A request that was refused.
type Refused = (StatusCode, String);

/// `POST /measure/CLUSTER?direction=down&seconds=5&streams=4&mebibytes=1000`
pub(super) async fn link(
    State(asked): State<Asked>,
    Extension(connection): Extension<Arc<Connection>>,
    Path(cluster): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let _place = match asked.may_probe(&connection, &headers) {
        Ok(place) => place,
        Err(refused) => return refused.into_response(),
    };
    let measured = measure(&asked, &cluster, query.as_deref().unwrap_or_default()).await;
    measured
        .map_or_else(|(status, message)| (status, format!("{message}\n")).into_response(), IntoResponse::into_response)
}

async fn measure(asked: &Asked, cluster: &str, query: &str) -> Result<Json<LinkMeasure>, Refused> {
    let wanted = query.parse::<Wanted>().map_err(|message| (StatusCode::BAD_REQUEST, message))?;
    let Ok(_turn) = asked.probes.measuring.try_acquire() else {
        asked.sources.metrics.control().refused(Bound::Measurements);
        let message = "this gateway measures another link now: try again when that is over".to_owned();
        return Err((StatusCode::TOO_MANY_REQUESTS, message));
    };
    let extra = (asked.sources.extra)();
    let reports = asked.reports(None).await;
    let cluster = plan::linked(cluster, &extra.table)?;
    let plan = plan::plan(&cluster, &reports, wanted.streams)?;
    let begins = Instant::now() + IDLE + plan.round_trip.min(LONGEST_TRIP) * TRIPS;
    let query = MeasureQuery {
        cluster,
        id: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
        way: wanted.way,
        streams: 0,
        begins,
        ends: begins + wanted.time,
        allowance: Arc::new(Allowance::new(wanted.bytes)),
    };
    let cores = ask(asked, &query, &plan.streams).await?;
    let found = LinkMeasure::merge(&extra.cluster, &query, cores);
    if found.bytes == 0 {
        let why = found.faults.keys().next().map_or("nothing arrived in time", String::as_str);
        return Err((StatusCode::BAD_GATEWAY, format!("nothing was measured: {why}: {}", check(&query.cluster))));
    }
    Ok(Json(found))
}

/// Has the cores measure. When this is dropped, or one of them is refused, all of them stop.
async fn ask(
    asked: &Asked,
    query: &MeasureQuery,
    streams: &[(usize, usize)],
) -> Result<Vec<(usize, CoreMeasured)>, Refused> {
    let mut answers = JoinSet::new();
    for &(core, streams) in streams {
        let (to, answer) = oneshot::channel();
        (asked.sources.probe)(core, CoreProbe::Measure(MeasureQuery { streams, ..query.clone() }, to));
        answers.spawn(async move { (core, answer.await) });
    }
    let late = async { sleep_until((query.ends + ANSWER).into()).await };
    let all = async {
        let mut found = Vec::with_capacity(streams.len());
        while let Some(answer) = answers.join_next().await {
            match answer {
                Ok((core, Ok(Ok(measured)))) => found.push((core, measured)),
                Ok((_, Ok(Err(why)))) => return Err(not_measured(&query.cluster, &why)),
                // Its mailbox was full, or it has ended.
                _ => return Err((StatusCode::SERVICE_UNAVAILABLE, "a core has no time for it: try again".to_owned())),
            }
        }
        Ok(found)
    };
    tokio::select! {
        found = all => found,
        () = late => Err((StatusCode::SERVICE_UNAVAILABLE, "a core did not answer in time: see /livez".to_owned())),
    }
}

/// Why there are no streams, whose word that is, and what to do.
fn not_measured(cluster: &ClusterName, why: &NotMeasured) -> Refused {
    match why {
        NotMeasured::Here(refusal) => (StatusCode::SERVICE_UNAVAILABLE, not_opened(cluster, refusal)),
        NotMeasured::Peer(refusal) => (StatusCode::BAD_GATEWAY, refused(cluster, refusal)),
    }
}

/// Why this gateway did not open the streams.
fn not_opened(cluster: &ClusterName, refusal: &Refusal) -> String {
    let said = line(&refusal.message);
    let todo = match refusal.reason {
        RefusalReason::Limit => "try fewer streams, or again when it carries less".to_owned(),
        RefusalReason::Draining => "try again when that is over".to_owned(),
        _ => check(cluster),
    };
    format!("this gateway did not open the streams to {cluster}: {said}: {todo}")
}

/// Why the peer did not take the streams.
fn refused(cluster: &ClusterName, refusal: &Refusal) -> String {
    let said = line(&refusal.message);
    match refusal.reason {
        RefusalReason::NoSuchExport => format!(
            "{cluster}'s gateway knows no measurements: it is older than this one, or of another make ({said}); upgrade it"
        ),
        RefusalReason::Denied | RefusalReason::Limit => format!("{cluster} refuses to be measured: {said}"),
        RefusalReason::Draining => format!("{cluster}'s gateway drains: {said}"),
        _ => format!("{cluster} did not take the streams: {said}: {}", check(cluster)),
    }
}

fn check(cluster: &ClusterName) -> String {
    format!("`isthmus check --link {cluster}` says more")
}

//! ● A record as JSON.

use super::{Record, choice::Choice};
use isthmus_control_api::{ClusterName, PodName, Protocol};
use serde::Serialize;
use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The fields of a line, in order. It is an interface: fields are added, never changed; what is not known is null. What each means is
/// said in `reference`, from which docs/access-records.md is made.
#[derive(Serialize)]
struct Line<'r> {
    time: String,
    service: &'r str,
    port: u16,
    protocol: Protocol,
    direction: &'static str,
    peer: Option<&'r str>,
    source: Option<&'r str>,
    client: Option<SocketAddr>,
    endpoint: Option<SocketAddr>,
    bytes_up: u64,
    bytes_down: u64,
    duration_ms: f64,
    connect_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    closed: &'static str,
    retries: u32,
    traceparent: Option<&'r str>,
    source_pod: Option<&'r str>,
    policy: Option<&'r str>,
    policy_dry_run: Option<&'r str>,
    choices: &'r [Choice],
}

/// Adds `record` to `text`, as one line.
pub(crate) fn append(record: &Record, text: &mut Vec<u8>) -> serde_json::Result<()> {
    let line = Line {
        time: timestamp(record.time),
        service: record.service.service.as_str(),
        port: record.service.port,
        protocol: record.service.protocol,
        direction: record.side.as_str(),
        peer: record.peer.as_ref().map(ClusterName::as_str),
        source: record.source.as_ref().map(|source| source.id.as_str()),
        client: record.client,
        endpoint: record.endpoint,
        bytes_up: record.bytes_up,
        bytes_down: record.bytes_down,
        duration_ms: millis(record.duration),
        connect_ms: record.connect.map(millis),
        first_byte_ms: record.first_byte.map(millis),
        closed: record.closed.as_str(),
        retries: record.retries,
        traceparent: record.traceparent.as_deref(),
        source_pod: record.source.as_ref().and_then(|source| source.pod.as_ref()).map(PodName::as_str),
        policy: record.policy.as_deref(),
        policy_dry_run: record.dry_run.as_deref(),
        choices: &record.choices,
    };
    serde_json::to_writer(&mut *text, &line)?;
    text.push(b'\n');
    Ok(())
}

/// RFC 3339, UTC, milliseconds.
fn timestamp(at: SystemTime) -> String {
    // Fails only for years of five digits.
    OffsetDateTime::from(at).truncate_to_millisecond().format(&Rfc3339).unwrap_or_default()
}

/// Milliseconds, to the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod reference;

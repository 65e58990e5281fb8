//! The `health` mapping of a policy.

use crate::config::{
    fields::{Fields, Refused, parsed},
    values,
};
use isthmus_control_api::{HealthCheck, Probe};
use std::ops::RangeInclusive;

/// Which keys there are only for some kinds of checks.
const ONLY: [(&str, &[&str]); 4] =
    [("host", &["tls", "http", "grpc"]), ("path", &["http"]), ("expect", &["http"]), ("grpcService", &["grpc"])];

/// The check that `fields` describe; `None` where something is wrong, which is noted.
pub(super) fn read(fields: &Fields<'_>) -> Option<HealthCheck> {
    let kind = fields.value("check", kind);
    let (interval, timeout) = (fields.value("interval", values::duration), fields.value("timeout", values::duration));
    let (healthy, unhealthy) = (fields.value("healthy", times), fields.value("unhealthy", times));
    let (path, expect) = (fields.value("path", path), fields.value("expect", statuses));
    let host = fields.value("host", values::host);
    let service = fields.value("grpcService", service).unwrap_or_default();
    let kind = kind?;
    for (key, kinds) in ONLY {
        if fields.has(key) && !kinds.contains(&kind) {
            fields.conflict(key, format!("it beside `check: {kind}`"), &format!("it beside {} only", kinds.join(", ")));
        }
    }
    let probe = match kind {
        "tls" => Probe::Tls { host },
        "http" => Probe::Http { path: path?, host, expect: expect? },
        "grpc" => Probe::Grpc { service, host },
        _ => Probe::Tcp,
    };
    Some(HealthCheck { probe, interval: interval?, timeout: timeout?, healthy: healthy?, unhealthy: unhealthy? })
}

fn kind(text: &str) -> Result<&'static str, Refused> {
    ["tcp", "tls", "http", "grpc"].into_iter().find(|kind| *kind == text).ok_or(Refused(None))
}

fn times(text: &str) -> Result<u32, Refused> {
    parsed(text).and_then(|times| if (1..=100).contains(&times) { Ok(times) } else { Err(Refused(None)) })
}

/// Of a URL, with its query: what may stand in an HTTP request's first line.
fn path(text: &str) -> Result<String, Refused> {
    let fits = text.starts_with('/') && text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.into()) } else { Err(Refused(None)) }
}

/// One status, or the first and the last.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, Refused> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (parsed(first)?, parsed(last)?);
    if 200 <= first && first <= last && last <= 599 { Ok(first..=last) } else { Err(Refused(None)) }
}

fn service(text: &str) -> Result<String, Refused> {
    let fits = text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte));
    if fits { Ok(text.into()) } else { Err(Refused(None)) }
}

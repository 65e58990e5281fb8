//! ● A sampled stream as OpenTelemetry has it. docs/traces.md says what each attribute means.

use super::{
    About, Ended,
    otlp::{
        AnyValue, ExportRequest, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span, SpanKind, Status,
        StatusCode, Value,
    },
};
use crate::{
    close::Closed,
    metrics::streams::Side,
    stream::record::Record,
    tunnel::{RefusalReason, h2::authority},
};
use isthmus_control_api::{ClusterName, PodName};
use std::{
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Flags of a span: W3C's "sampled"; "it is known whether the parent is remote"; "it is".
const SAMPLED: u32 = 1;
const KNOWS_PARENT: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;
/// The semantic conventions that the attributes are of.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whose spans they are.
pub(super) fn resource(about: &About) -> Resource {
    let mut attributes = Attributes::default();
    attributes.text("service.name", "isthmus-gateway");
    attributes.text("service.version", VERSION);
    attributes.text("service.instance.id", &about.gateway);
    attributes.text("isthmus.cluster", &about.cluster);
    attributes.text("isthmus.clusterset", &about.clusterset);
    Resource { attributes: attributes.0 }
}

/// What hands them over.
pub(super) fn request(resource: &Resource, spans: &[Span]) -> ExportRequest {
    let scope = Scope { name: "isthmus-gateway".into(), version: VERSION.into() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.into(), schema_url: SCHEMA.into() }];
    let resource = Some(resource.clone());
    ExportRequest { resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url: SCHEMA.into() }] }
}

/// A stream's span.
pub(super) fn of(Ended { record, context }: &Ended) -> Span {
    let kind = match record.side {
        Side::Egress => SpanKind::Client,
        Side::Ingress => SpanKind::Server,
    };
    let parent = context.parent.map(u64::to_be_bytes);
    let of_parent = if parent.is_some() { KNOWS_PARENT | PARENT_IS_REMOTE } else { 0 };
    let code = if record.closed.is_failure() { StatusCode::Error } else { StatusCode::Unset };
    let start = nanos(record.time);
    Span {
        trace_id: context.trace.to_be_bytes().into(),
        span_id: context.span.to_be_bytes().into(),
        parent_span_id: parent.map(Into::into).unwrap_or_default(),
        name: name(record),
        kind: kind.into(),
        start,
        end: start.saturating_add(u64::try_from(record.duration.as_nanos()).unwrap_or(u64::MAX)),
        attributes: attributes(record),
        status: Some(Status { code: code.into() }),
        flags: SAMPLED | of_parent,
    }
}

/// A peer may ask for any name: what is not exported is not named, so that there are no more names than services.
fn name(record: &Record) -> String {
    let side = record.side.as_str();
    match record.closed {
        Closed::Refused(RefusalReason::NoSuchExport) if record.side == Side::Ingress => side.into(),
        _ => format!("{side} {}", record.service.service),
    }
}

fn attributes(record: &Record) -> Vec<KeyValue> {
    let mut to = Attributes::default();
    let service = &record.service;
    to.text("network.transport", if service.protocol.is_tcp() { "tcp" } else { "udp" });
    to.text("server.address", authority::host(service));
    to.whole("server.port", service.port.into());
    to.address(("client.address", "client.port"), record.client);
    to.address(("network.peer.address", "network.peer.port"), record.endpoint);
    if let Some(address) = record.endpoint.or(record.client) {
        to.text("network.type", if address.is_ipv6() { "ipv6" } else { "ipv4" });
    }
    if record.closed.is_failure() {
        to.text("error.type", record.closed.as_str());
    }
    to.text("isthmus.service", service.service.as_str());
    to.text("isthmus.direction", record.side.as_str());
    to.maybe("isthmus.peer", record.peer.as_ref().map(ClusterName::as_str));
    to.maybe("isthmus.source", record.source.as_ref().map(|source| source.id.as_str()));
    let pod = record.source.as_ref().and_then(|source| source.pod.as_ref());
    to.maybe("isthmus.source_pod", pod.map(PodName::as_str));
    to.maybe("isthmus.policy", record.policy.as_deref());
    to.maybe("isthmus.policy_dry_run", record.dry_run.as_deref());
    to.text("isthmus.closed", record.closed.as_str());
    to.whole("isthmus.retries", record.retries.into());
    to.whole("isthmus.bytes_up", record.bytes_up);
    to.whole("isthmus.bytes_down", record.bytes_down);
    to.millis("isthmus.connect_ms", record.connect);
    to.millis("isthmus.first_byte_ms", record.first_byte);
    to.0
}

/// Attributes that are gathered; what is not known is left out.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn add(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }) });
    }

    fn text(&mut self, key: &str, text: impl Into<String>) {
        self.add(key, Value::Text(text.into()));
    }

    fn maybe(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    fn whole(&mut self, key: &str, number: u64) {
        self.add(key, Value::Whole(i64::try_from(number).unwrap_or(i64::MAX)));
    }

    fn millis(&mut self, key: &str, duration: Option<Duration>) {
        if let Some(duration) = duration {
            self.add(key, Value::Number(duration.as_secs_f64() * 1e3));
        }
    }

    fn address(&mut self, (ip, port): (&str, &str), address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.text(ip, address.ip().to_string());
            self.whole(port, address.port().into());
        }
    }
}

/// Nanoseconds since 1970, which 64 bits hold until 2554.
fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

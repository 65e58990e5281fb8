//! docs/access-records.md: what the fields of a line mean.

use super::append;
use crate::{close::Closed, metrics::streams::Side, stream::record::tests};

/// Each field, in the order of a line: its type, and what it says.
const FIELDS: [(&str, &str, &str); 21] = [
    ("time", "text", "When the stream began: RFC 3339, UTC, milliseconds."),
    ("service", "text", "`namespace/name` of the service that it was for."),
    ("port", "number", "The service's port."),
    ("protocol", "text", "`TCP` or `UDP`. A flow of datagrams is a stream."),
    ("direction", "text", "Which side this gateway was: `egress`, the client's, or `ingress`, the service's."),
    ("peer", "text or null", "The cluster at the other end; null if the stream stayed in this one."),
    ("source", "text or null", "The SPIFFE id on whose behalf it was opened."),
    ("client", "text or null", "The client's address, as the egress gateway saw it."),
    ("endpoint", "text or null", "The endpoint, if this gateway connected to it."),
    ("bytes_up", "number", "Bytes from the client to the endpoint."),
    ("bytes_down", "number", "Bytes from the endpoint to the client."),
    ("duration_ms", "number", "From its beginning to its end, in milliseconds."),
    ("connect_ms", "number or null", "How long the upstream, endpoint or cluster, took to accept it."),
    ("first_byte_ms", "number or null", "From its beginning to the first byte from the endpoint."),
    ("closed", "text", "How it ended: one of the words below."),
    ("retries", "number", "Attempts that failed before the last one."),
    (
        "traceparent",
        "text or null",
        "W3C trace context: of this gateway's own span, where the stream is sampled here, or else what it was opened with; null where nobody has said: docs/traces.md.",
    ),
    ("source_pod", "text or null", "The client's pod, `namespace/name`, where its gateway knows it."),
    (
        "policy",
        "text or null",
        "The rule of an access policy that has decided, `policy:rule`; null where none selects the service.",
    ),
    ("policy_dry_run", "text or null", "The rule that would have decided otherwise, were its policy no dry run."),
    ("choices", "list", "Where this gateway sent it, one attempt after the other, and whom else there was: see below."),
];

const HEADER: &str = "\
# Access records

<!-- Made from gateway/src/stream/record/line/reference.rs: `UPDATE_DOCS=1 cargo test -p isthmus-gateway access_records`. -->

`accessLog` of the [configuration](configuration.md) writes one line of JSON for each stream, after its end. Fields are added, never changed; what is not known is null. A writer
that is too slow costs records, which `isthmus_access_records_dropped_total` counts, and never makes a stream wait.

| field | type | |
|---|---|---|
";

const CHOICES: &str = "
## Choices

Each of `choices` was made among `candidates`, as they were at that moment: first the one that was `chosen`, then those that were left out, then others, eight at most; `others` says how many more there were. A client's gateway chooses a cluster, a
service's an endpoint; one that has both chooses twice. `isthmus trace` says the same of the next stream.

| of a candidate | |
|---|---|
| `name` | A cluster, or the address of an endpoint. |
| `score` | Of an endpoint: what one more stream would cost there, streams times milliseconds. Of two that are drawn, the cheaper takes it ([balancing](balancing.md)). |
| `share` | Of a cluster: its share of streams, in ready endpoints or as `weights` say, less what is not back yet after a failure. |
| `rtt_ms` | Of a cluster: the round trip, where it is known. |
| `left_out` | Why it was no candidate, or one only for want of a better. Not there where it was one. |
";

fn text() -> String {
    let rows = FIELDS.iter().map(|(field, kind, meaning)| format!("| `{field}` | {kind} | {meaning} |\n"));
    let words = Closed::ALL.map(|closed| format!("`{}`", closed.as_str())).join(", ");
    let sides = [Side::Egress, Side::Ingress].map(|side| format!("`{}`", side.as_str()));
    assert!(sides.iter().all(|side| FIELDS[4].2.contains(side)), "{sides:?}");
    format!("{HEADER}{}\n`closed` is {words}, as in [metrics](metrics.md).\n{CHOICES}", rows.collect::<String>())
}

#[test]
fn the_reference_of_access_records_has_each_field_in_order() {
    let mut line = Vec::new();
    append(&tests::record(), &mut line).unwrap();
    let line = String::from_utf8(line).unwrap();
    let mut rest = line.as_str();
    for (field, ..) in FIELDS {
        let key = format!("\"{field}\":");
        let at = rest.find(&key).unwrap_or_else(|| panic!("{field} is not in, or not in this order: {line}"));
        rest = &rest[at + key.len()..];
    }
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(parsed.as_object().unwrap().len(), FIELDS.len(), "{line}");
}

#[test]
fn the_reference_of_access_records_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/access-records.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, text()).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap();
    assert!(
        found == text(),
        "docs/access-records.md is stale: run UPDATE_DOCS=1 cargo test -p isthmus-gateway access_records"
    );
}

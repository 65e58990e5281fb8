//! docs/metrics.md.

use super::{DEFINITIONS, Kind};
use crate::{
    close::Closed,
    hop::STATES as LOCAL_HOP_STATES,
    listener::shared::STATES as SHARED_LISTENER_STATES,
    metrics::reasons::{Bound, DialFailure, Dropped, EndpointSource, Hedge, HelloRefusal, JoinResult, PunchResult},
};
use isthmus_certs::HandshakeRefusal;
use std::fmt::Write;

/// The text of docs/metrics.md.
pub fn reference() -> String {
    let mut text = HEADER.to_owned();
    for definition in DEFINITIONS {
        let suffix = if definition.kind == Kind::Counter { "_total" } else { "" };
        let kind = match definition.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels = if definition.labels.is_empty() { "–".to_owned() } else { definition.labels.join(", ") };
        // Writing to a string does not fail.
        let _ = writeln!(text, "| `{}{suffix}` | {kind} | {labels} | {} |", definition.name, definition.help);
    }
    for (label, words) in label_words() {
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        let _ = write!(text, "\n**{label}**: {}\n", words.join(", "));
    }
    text
}

const HEADER: &str = "\
# Metrics

<!-- Made from gateway/src/metrics/definitions.rs: `UPDATE_DOCS=1 cargo test -p isthmus-gateway metrics_reference`. -->

`GET /metrics` on the admin address, in the OpenMetrics text format. Every core counts on its own; a scrape sums the cores.
What says how things are at this moment (tunnels, endpoints) is asked of the cores when the scrape comes: a core that does not
answer within a second is missing in it, and `isthmus_core_silence_seconds` tells.

Labels are bounded. `service` is `namespace/name:port` of what the table has, with `/udp` behind the port of UDP, `peer` a linked cluster, or `_local` for streams
that stay in this cluster. At most 1,000 combinations of service, peer and direction are counted apart. When there is no room,
those that are no longer in use are forgotten (their counters start at zero if they come back); if that makes none, further
ones are counted together as service and peer `_other`, as is what peers ask for and the table does not have. `from` and `to`
are linked clusters that this one relays between, 1,000 pairs at most. `rule` is `policy:rule` of what the table has; 1,000 rules are counted apart,
further ones together as `_other`. All other labels take the words listed below.

| name | kind | labels | meaning |
|---|---|---|---|
";

/// Labels whose values are words of ours.
fn label_words() -> [(&'static str, Vec<&'static str>); 21] {
    [
        ("direction of a stream", vec!["egress", "ingress"]),
        ("reason of isthmus_streams_closed_total", Closed::ALL.map(Closed::as_str).to_vec()),
        ("reason of isthmus_datagrams_dropped_total", Dropped::ALL.iter().map(|word| word.as_str()).collect()),
        ("decision", vec!["allow", "deny", "would_allow", "would_deny"]),
        ("transport", vec!["tls", "quic", "h2"]),
        ("direction of a tunnel or handshake", vec!["dialled", "accepted"]),
        ("health of a tunnel", vec!["live", "unresponsive", "draining"]),
        ("reason of isthmus_handshakes_refused_total", HandshakeRefusal::ALL.map(HandshakeRefusal::as_str).to_vec()),
        ("reason of isthmus_tunnel_dial_failures_total", DialFailure::ALL.iter().map(|word| word.as_str()).collect()),
        ("result of isthmus_joins_total", JoinResult::ALL.iter().map(|word| word.as_str()).collect()),
        ("result of isthmus_endpoint_hedges_total", Hedge::ALL.iter().map(|word| word.as_str()).collect()),
        ("source", EndpointSource::ALL.iter().map(|word| word.as_str()).collect()),
        ("reason of isthmus_client_hellos_refused_total", HelloRefusal::ALL.iter().map(|word| word.as_str()).collect()),
        ("result of isthmus_punches_total", PunchResult::ALL.iter().map(|word| word.as_str()).collect()),
        ("kind of an update", vec!["snapshot", "delta"]),
        ("result of isthmus_local_hop_ends_total", vec!["joined", "refused"]),
        ("state of isthmus_local_hop", LOCAL_HOP_STATES.to_vec()),
        ("state of isthmus_shared_listener", SHARED_LISTENER_STATES.to_vec()),
        ("way of isthmus_local_hop_messages_total", vec!["redirected", "tcp"]),
        ("because of isthmus_local_hop_returns_total", vec!["late", "encrypted", "bulk"]),
        ("bound", Bound::ALL.iter().map(|word| word.as_str()).collect()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_reference_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap();
        assert!(
            found == reference(),
            "docs/metrics.md is stale: run UPDATE_DOCS=1 cargo test -p isthmus-gateway metrics_reference"
        );
    }
}

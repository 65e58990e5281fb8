//! Every metric: its name, its meaning, and where its value comes from. docs/metrics.md is made from this list.

mod read;
mod reference;

pub use reference::reference;

use super::{
    counter::{HistogramSum, LATENCY},
    reasons::{Bound, DialFailure, Dropped, EndpointSource, Hedge, HelloRefusal, JoinResult, PunchResult, SpanDropped},
    scrape::{Samples, Scrape},
};
use crate::{
    close::Closed, hop::STATES as LOCAL_HOP_STATES, listener::shared::STATES as SHARED_LISTENER_STATES,
    status::LinkWord,
};
use isthmus_certs::HandshakeRefusal;
use read::{
    checked_endpoints, datagrams, endpoints, flows, histograms, since_epoch, stream_labels, tunnel_rtt, tunnels,
};
use std::time::Duration;

/// One metric.
#[derive(Debug)]
pub struct Definition {
    /// Its name; a counter's appears with `_total` behind it.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// What kind of value it has.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    pub(super) read: fn(&Scrape, &mut Samples),
}

/// The kinds of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

macro_rules! define {
    ($($kind:ident $name:literal [$($label:literal),*] $help:literal => $read:expr;)+) => {
        /// All metrics, in the order in which they are written.
        pub static DEFINITIONS: &[Definition] =
            &[$(Definition { name: $name, help: $help, kind: Kind::$kind, labels: &[$($label),*], read: $read },)+];
    };
}

define! {
    Counter "isthmus_streams_opened" ["service", "peer", "direction"]
        "Streams that began, counted at the upstream that they ended up with."
        => |s, to| s.streams.iter().for_each(|t| to.whole(stream_labels(t), t.opened));
    Gauge "isthmus_streams_active" ["service", "peer", "direction"]
        "Streams that have begun and not ended."
        => |s, to| s.streams.iter().for_each(|t| to.whole(stream_labels(t), t.active()));
    Counter "isthmus_streams_closed" ["service", "peer", "direction", "reason"]
        "Streams that ended, by how."
        => |s, to| for total in &s.streams {
            for (closed, &count) in Closed::ALL.iter().zip(&total.closed) {
                let [service, peer, direction] = stream_labels(total);
                to.whole([service, peer, direction, closed.as_str().into()], count);
            }
        };
    Counter "isthmus_stream_bytes" ["service", "peer", "direction", "flow"]
        "Bytes moved: up from the client to the endpoint, down from the endpoint to the client."
        => |s, to| for total in &s.streams {
            for (flow, bytes) in [("up", total.up), ("down", total.down)] {
                let [service, peer, direction] = stream_labels(total);
                to.whole([service, peer, direction, flow.into()], bytes);
            }
        };
    Counter "isthmus_stream_retries" ["service", "peer", "direction"]
        "Attempts at an upstream that failed and were followed by another attempt."
        => |s, to| s.streams.iter().for_each(|t| to.whole(stream_labels(t), t.retries));
    Histogram "isthmus_stream_connect_seconds" ["service", "direction"]
        "How long the upstream took to accept: at the egress gateway the peer, at the ingress gateway the endpoint."
        => |s, to| histograms(s, to, |total| &total.connect);
    Histogram "isthmus_stream_first_byte_seconds" ["service", "direction"]
        "From a stream's beginning to the first byte from its endpoint."
        => |s, to| histograms(s, to, |total| &total.first_byte);
    Histogram "isthmus_stream_duration_seconds" ["service", "direction"]
        "From a stream's beginning to its end."
        => |s, to| histograms(s, to, |total| &total.lifetime);

    Counter "isthmus_datagrams" ["service", "direction", "flow"]
        "Datagrams of UDP flows that moved: up from the client towards the endpoint, down from the endpoint towards the client."
        => |s, to| datagrams(s, to, |of| vec![("up", of.up), ("down", of.down)]);
    Counter "isthmus_datagrams_framed" ["service", "direction"]
        "Datagrams that were too large for a datagram of a QUIC tunnel and went over the flow's stream instead."
        => |s, to| for ((service, side), of) in flows(s) {
            to.whole([service.into(), side.into()], of.framed);
        };
    Counter "isthmus_datagrams_dropped" ["service", "direction", "reason"]
        "Datagrams of UDP flows that were dropped, by why."
        => |s, to| datagrams(s, to, |of| Dropped::ALL.iter().map(|&why| (why.as_str(), of.dropped[why as usize])).collect());

    Gauge "isthmus_link_up" ["peer"]
        "1 while at least one tunnel of the link takes streams."
        => |s, to| for link in &s.status.links {
            to.whole([link.cluster.clone().into()], u64::from(link.state == LinkWord::Up));
        };
    Gauge "isthmus_link_degraded" ["peer"]
        "1 while the link is up and its traffic suffers, or would if one more thing failed: status says of what."
        => |s, to| for link in &s.status.links {
            to.whole([link.cluster.clone().into()], u64::from(link.degraded));
        };
    Gauge "isthmus_link_gateways" ["peer"]
        "The peer's gateways that a live tunnel leads to."
        => |s, to| for link in &s.status.links {
            to.whole([link.cluster.clone().into()], link.gateways.reached as u64);
        };
    Gauge "isthmus_link_sync_age_seconds" ["peer"]
        "Since the last word of the peer's exports."
        => |s, to| for link in &s.status.links {
            if let Some(age) = link.sync_age_seconds {
                to.number([link.cluster.clone().into()], age);
            }
        };
    Gauge "isthmus_tunnels" ["peer", "transport", "direction", "health"]
        "Live tunnels, by who dialled and how they fare."
        => tunnels;
    Gauge "isthmus_tunnel_rtt_seconds" ["peer", "transport", "direction"]
        "The shortest smoothed round trip among the tunnels."
        => tunnel_rtt;
    Counter "isthmus_policy_decisions" ["rule", "decision"]
        "Streams that access policies have decided on, by rule: open ones, too, that a changed policy has ended."
        => |s, to| for (rule, decisions) in s.metrics.policies.totals() {
            for (decision, count) in decisions {
                to.whole([rule.clone().into(), decision.into()], count);
            }
        };
    Counter "isthmus_handshakes" ["direction"]
        "Tunnel handshakes that succeeded, by who dialled."
        => |s, to| for (i, direction) in ["dialled", "accepted"].into_iter().enumerate() {
            to.whole([direction.into()], s.metrics.rows().map(|row| row.handshakes[i].get()).sum());
        };
    Counter "isthmus_handshakes_refused" ["reason"]
        "Tunnel handshakes that did not come about, by why."
        => |s, to| for reason in HandshakeRefusal::ALL {
            let count = s.metrics.rows().map(|row| row.handshakes_refused[reason as usize].get()).sum();
            to.whole([reason.as_str().into()], count);
        };
    Counter "isthmus_tunnel_dial_failures" ["reason"]
        "Attempts to dial a peer that failed, by why."
        => |s, to| for &reason in DialFailure::ALL {
            let count = s.metrics.rows().map(|row| row.dial_failures[reason as usize].get()).sum();
            to.whole([reason.as_str().into()], count);
        };

    Gauge "isthmus_relayed_tunnels" ["from", "to"]
        "Tunnels that this gateway relays between two other clusters, in the order of their names: who dials whom."
        => |s, to| for pair in s.metrics.relays.report() {
            to.whole([String::from(pair.from).into(), String::from(pair.to).into()], pair.tunnels as u64);
        };
    Counter "isthmus_relayed_bytes" ["from", "to"]
        "Bytes of relayed tunnels, both ways together."
        => |s, to| for pair in s.metrics.relays.report() {
            to.whole([String::from(pair.from).into(), String::from(pair.to).into()], pair.bytes);
        };

    Counter "isthmus_punches" ["result"]
        "Attempts at a direct path beside a relayed one, at the gateway that proposes them."
        => |s, to| for &result in PunchResult::ALL {
            let count = s.metrics.rows().map(|row| row.punches[result as usize].get()).sum();
            to.whole([result.as_str().into()], count);
        };

    Gauge "isthmus_endpoints" ["service", "health"]
        "Endpoints of this cluster's exports, by the worst that a core thinks of them."
        => endpoints;
    Counter "isthmus_endpoint_ejections" []
        "Endpoints left out for a while: for failures or resets in a row, or for being slow."
        => |s, to| to.whole([], s.metrics.rows().map(|row| row.endpoint_ejections.get()).sum());
    Counter "isthmus_endpoint_hedges" ["result"]
        "Connections to an endpoint that were begun beside one to another that was late, by whether they were there first."
        => |s, to| for &result in Hedge::ALL {
            let count = s.metrics.rows().map(|row| row.hedges[result as usize].get()).sum();
            to.whole([result.as_str().into()], count);
        };
    Counter "isthmus_endpoint_sources" ["source"]
        "Connections to endpoints of exports with `transparentSource`, by the address that they came from; those from a client's own at their end, and apart where only these fail."
        => |s, to| for &source in EndpointSource::ALL {
            let count = s.metrics.rows().map(|row| row.endpoint_sources[source as usize].get()).sum();
            to.whole([source.as_str().into()], count);
        };
    Counter "isthmus_health_checks" ["result"]
        "Checks of endpoints, by whether the answer was good."
        => |s, to| for (i, result) in ["failed", "ok"].into_iter().enumerate() {
            to.whole([result.into()], s.metrics.rows().map(|row| row.checks[i].get()).sum());
        };
    Gauge "isthmus_endpoints_checked" ["service", "state"]
        "Endpoints of this cluster's exports that are checked, by what their checks say."
        => checked_endpoints;

    Gauge "isthmus_ready" []
        "1 while /readyz says yes."
        => |s, to| to.whole([], u64::from(s.status.ready));
    Gauge "isthmus_table_version" []
        "The version of the endpoint table in use."
        => |s, to| to.whole([], s.status.table.version);
    Gauge "isthmus_table_age_seconds" []
        "Since the endpoint table was applied."
        => |s, to| s.status.table.age_seconds.into_iter().for_each(|age| to.number([], age));
    Counter "isthmus_reloads" ["result"]
        "Changes of the configuration: taken, or refused so that the last good one stays."
        => |s, to| {
            to.whole(["ok".into()], s.metrics.reloads_ok.get());
            to.whole(["failed".into()], s.metrics.reloads_failed.get());
        };
    Gauge "isthmus_exports_untold" []
        "Exported services that linked clusters are not told of, since there is no room for them: status names them."
        => |s, to| to.whole([], s.metrics.exports_untold.get());
    Counter "isthmus_joins" ["result"]
        "Those who came with an invitation to join this cluster, by what became of them."
        => |s, to| for &result in JoinResult::ALL {
            to.whole([result.as_str().into()], s.metrics.joins[result as usize].get());
        };
    Gauge "isthmus_identity_expiry_timestamp_seconds" []
        "When this gateway's SVID expires, in seconds since 1970."
        => |s, to| if let Some(at) = s.status.identity.not_after {
            to.whole([], u64::try_from(at.unix_seconds()).unwrap_or(0));
        };

    Counter "isthmus_refusals" ["bound"]
        "What was refused because a bound was reached, by bound."
        => |s, to| for &bound in Bound::ALL {
            to.whole([bound.as_str().into()], s.metrics.rows().map(|row| row.refusals[bound as usize].get()).sum());
        };
    Counter "isthmus_client_hellos_refused" ["reason"]
        "Clients of imports that share an address by name which were refused before it was known whom they want."
        => |s, to| for &reason in HelloRefusal::ALL {
            let count = s.metrics.rows().map(|row| row.hellos_refused[reason as usize].get()).sum();
            to.whole([reason.as_str().into()], count);
        };
    Counter "isthmus_accept_errors" []
        "Connections that the kernel did not hand over, for want of descriptors or memory."
        => |s, to| to.whole([], s.metrics.rows().map(|row| row.accept_errors.get()).sum());
    Gauge "isthmus_local_hop" ["state"]
        "Whether there is a local hop in the kernel: 1 for its state. Alert on distrusted: something was wrong while it was on."
        => |s, to| for &state in &LOCAL_HOP_STATES {
            let is_it = s.status.local_hop.as_ref().is_some_and(|hop| hop.state == state);
            to.whole([state.into()], is_it.into());
        };
    Counter "isthmus_local_hop_ends" ["result"]
        "Ends of local connections that take part in the local hop or did, and those that the kernel did not take."
        => |s, to| if let Some(hop) = &s.status.local_hop {
            to.whole(["joined".into()], hop.joined);
            to.whole(["refused".into()], hop.refused);
        };
    Counter "isthmus_local_hop_messages" ["way"]
        "Messages written at such ends, by the way that they took."
        => |s, to| if let Some(hop) = &s.status.local_hop {
            to.whole(["redirected".into()], hop.redirected);
            to.whole(["tcp".into()], hop.by_tcp);
        };
    Counter "isthmus_local_hop_bytes" []
        "Bytes that were redirected."
        => |s, to| s.status.local_hop.iter().for_each(|hop| to.whole([], hop.bytes));
    Counter "isthmus_local_hop_returns" ["because"]
        "Ends that went back to TCP for good: their reader was late, the kernel encrypts (kTLS), or the connection was taken out as it moves bulk."
        => |s, to| if let Some(hop) = &s.status.local_hop {
            to.whole(["late".into()], hop.late);
            to.whole(["encrypted".into()], hop.encrypted);
            to.whole(["bulk".into()], hop.withdrawn);
        };
    Gauge "isthmus_local_hop_left_out" []
        "Exports and imports that ask for the local hop and go by TCP for now: their connections are short, or much is moved."
        => |s, to| s.status.local_hop.iter().for_each(|hop| to.whole([], hop.left_out));
    Gauge "isthmus_shared_listener" ["state"]
        "Whether one socket a core takes the connections to all service ports: 1 for its state."
        => |s, to| for &state in &SHARED_LISTENER_STATES {
            let is_it = s.status.shared_listener.as_ref().is_some_and(|shared| shared.state == state);
            to.whole([state.into()], is_it.into());
        };
    Gauge "isthmus_shared_listener_places" []
        "Addresses and ports whose connections come to the shared listener; the others have listeners of their own."
        => |s, to| s.status.shared_listener.iter().for_each(|shared| to.whole([], shared.places));
    Gauge "isthmus_local_hop_unread_streams" []
        "Streams, of those that are looked at, whose client or endpoint has left redirected bytes unread for five seconds: it is slow, or reads in a way that they do not come to."
        => |s, to| if let Some(hop) = &s.status.local_hop {
            to.whole([], hop.unread.iter().map(|unread| unread.streams).sum());
        };
    Counter "isthmus_busy_polls" []
        "Times that a core went on asking for work after work, instead of sleeping at once."
        => |s, to| to.whole([], s.metrics.rows().map(|row| row.busy_polls.get()).sum());
    Counter "isthmus_spliced_bytes" []
        "Bytes of streams inside the cluster that the kernel moved from socket to socket (splice): those of bulk."
        => |s, to| to.whole([], s.metrics.rows().map(|row| row.spliced_bytes.get()).sum());
    Gauge "isthmus_splice_pipes" []
        "Pipes that such bytes go through now, at most 64 a core; what is beyond is copied."
        => |s, to| to.whole([], s.metrics.rows().map(|row| row.splice_pipes.get()).sum());
    Gauge "isthmus_memory_granted_bytes" []
        "Bytes of the memory budget that are granted as credit or held in buffers."
        => |s, to| to.whole([], s.metrics.rows().map(|row| row.memory_granted.get()).sum());
    Gauge "isthmus_memory_limit_bytes" []
        "The memory budget."
        => |s, to| to.whole([], s.metrics.memory_limit.get());
    Counter "isthmus_access_records_dropped" []
        "Access records that were not written because the writer was too slow or failed."
        => |s, to| to.whole([], s.metrics.rows().map(|row| row.access_records_dropped.get()).sum());
    Counter "isthmus_spans_exported" []
        "Spans of sampled streams that the collector has taken."
        => |s, to| to.whole([], s.metrics.rows().map(|row| row.spans_exported.get()).sum());
    Counter "isthmus_spans_dropped" ["reason"]
        "Spans of sampled streams that the collector will not have, by why: its queue was full, it refused them, or it took them neither within five minutes nor before the gateway's end."
        => |s, to| for &why in SpanDropped::ALL {
            let count = s.metrics.rows().map(|row| row.spans_dropped[why as usize].get()).sum();
            to.whole([why.as_str().into()], count);
        };
    Counter "isthmus_span_export_failures" []
        "Attempts to hand spans to the collector that failed; where it may take them later, they are tried again."
        => |s, to| to.whole([], s.metrics.rows().map(|row| row.span_exports_failed.get()).sum());
    Gauge "isthmus_core_silence_seconds" ["core"]
        "Since a core last showed that it is alive."
        => |s, to| for (core, silence) in s.silences.iter().enumerate() {
            to.number([core.to_string().into()], silence.as_secs_f64());
        };

    Gauge "isthmus_push_gateways" []
        "Gateways that are attached to this control."
        => |s, to| to.whole([], s.metrics.push.gateways.get());
    Counter "isthmus_push_updates" ["kind"]
        "Updates of the table that this control has sent to its gateways."
        => |s, to| for (kind, count) in [("snapshot", &s.metrics.push.snapshots_sent), ("delta", &s.metrics.push.deltas_sent)] {
            to.whole([kind.into()], count.get());
        };
    Counter "isthmus_push_bytes" []
        "Bytes of these updates, before HTTP/2 and TLS."
        => |s, to| to.whole([], s.metrics.push.bytes.get());
    Counter "isthmus_push_rejected" []
        "Tables that a gateway has refused: status names gateway and reason."
        => |s, to| to.whole([], s.metrics.push.rejected.get());
    Histogram "isthmus_push_propagation_seconds" []
        "From the publication of a change by this control to a gateway's word that it has taken it, for each gateway."
        => |s, to| {
            let mut sum = HistogramSum::new(&LATENCY);
            sum.add(&s.metrics.push.propagation);
            to.histogram([], sum);
        };
    Gauge "isthmus_control_attached" []
        "1 while this gateway is attached to its control; missing where both are one process."
        => |s, to| s.metrics.push.is_attached().into_iter().for_each(|attached| to.whole([], attached));
    Counter "isthmus_table_updates" ["kind"]
        "Updates of the table that this gateway has taken from its control."
        => |s, to| for (kind, count) in [("snapshot", &s.metrics.push.snapshots_taken), ("delta", &s.metrics.push.deltas_taken)] {
            to.whole([kind.into()], count.get());
        };

    Counter "isthmus_registry_plans" []
        "Plans that control has made of what is to be in the API server; missing where the registry is none that writes."
        => |s, to| s.metrics.registry.get().into_iter().for_each(|of| to.whole([], of.plans.get()));
    Counter "isthmus_registry_plan_seconds" []
        "The time that they took together."
        => |s, to| s.metrics.registry.get().into_iter().for_each(|of| {
            to.number([], Duration::from_micros(of.plan_micros.get()).as_secs_f64());
        });
    Counter "isthmus_registry_writes" ["result"]
        "Writes to the API server: taken, or failed, which status names."
        => |s, to| if let Some(of) = s.metrics.registry.get() {
            to.whole(["ok".into()], of.written.get());
            to.whole(["failed".into()], of.failed.get());
        };
    Gauge "isthmus_registry_unwatched_kinds" []
        "Kinds of the API server that cannot be watched now: what is known of them stays, and none of them is written."
        => |s, to| s.metrics.registry.get().into_iter().for_each(|of| to.whole([], of.unwatched.get()));
    Gauge "isthmus_registry_services" []
        "Services of the clusterset that this cluster exports or imports."
        => |s, to| s.metrics.registry.get().into_iter().for_each(|of| to.whole([], of.services.get()));
    Gauge "isthmus_registry_lacking_services" []
        "Those of them that lack a gateway port or an address, as the range or the quota of a linked cluster is used up."
        => |s, to| s.metrics.registry.get().into_iter().for_each(|of| to.whole([], of.lacking.get()));

    Gauge "isthmus_build_info" ["version"]
        "Always 1; the label says which version runs."
        => |s, to| to.whole([s.status.version.clone().into()], 1);
    Gauge "process_start_time_seconds" []
        "When the process started, in seconds since 1970."
        => |s, to| to.number([], since_epoch(s.metrics.started).as_secs_f64());
    Gauge "process_resident_memory_bytes" []
        "Resident memory."
        => |s, to| s.process.resident_bytes.into_iter().for_each(|bytes| to.whole([], bytes));
    Gauge "process_open_fds" []
        "Open file descriptors."
        => |s, to| s.process.open_fds.into_iter().for_each(|fds| to.whole([], fds));
    Gauge "process_max_fds" []
        "The most file descriptors that may be open."
        => |s, to| s.process.most_fds.into_iter().for_each(|fds| to.whole([], fds));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_ours_and_unique() {
        let names: BTreeSet<_> = DEFINITIONS.iter().map(|definition| definition.name).collect();
        assert_eq!(names.len(), DEFINITIONS.len());
        assert!(names.iter().all(|name| name.starts_with("isthmus_") || name.starts_with("process_")));
        assert!(names.iter().all(|name| !name.ends_with("_total")));
    }

    #[test]
    fn helps_are_sentences() {
        for definition in DEFINITIONS {
            assert!(definition.help.ends_with('.') && !definition.help.contains(['|', '\n']), "{}", definition.name);
        }
    }
}

//! ● Whether the peer's access policies allow it.

use super::Hop;
use isthmus_gateway::status::probe::ClusterProbe;

/// What came of a stream that was asked for.
pub(super) fn hop(cluster: &str, stream: Option<&ClusterProbe>) -> Hop {
    match stream {
        Some(ClusterProbe { reason: Some(reason), error, .. }) if reason == "denied" => {
            Hop::failed("policy", cluster, error.clone().unwrap_or_else(|| reason.clone()))
        }
        Some(ClusterProbe { reason: Some(reason), .. }) if reason == "no_such_export" => {
            Hop::skipped("policy", cluster, "the service is not there")
        }
        Some(_) => Hop::ok("policy", cluster, None, "allows it"),
        None => Hop::skipped("policy", cluster, "no stream was tried"),
    }
}

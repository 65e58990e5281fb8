//! ● The endpoint.

use super::Hop;
use isthmus_gateway::status::probe::{ClusterProbe, ServiceProbe};

/// Whether one took a stream, in another cluster.
pub(super) fn hop(cluster: &str, stream: Option<&ClusterProbe>) -> Hop {
    match stream {
        Some(ClusterProbe { opened_ms: Some(took), .. }) => {
            Hop::ok("endpoint", cluster, Some(*took), "took a stream, which was closed with nothing sent")
        }
        Some(ClusterProbe { reason: Some(reason), .. }) if reason == "denied" => {
            Hop::skipped("endpoint", cluster, "the policy does not let it through")
        }
        Some(ClusterProbe { reason, error, .. }) => {
            let why = error.clone().or_else(|| reason.clone()).unwrap_or_else(|| "no endpoint took it".to_owned());
            Hop::failed("endpoint", cluster, why)
        }
        None => Hop::skipped("endpoint", cluster, "no stream was tried"),
    }
}

/// The endpoints of this cluster.
pub(super) fn here(probe: &ServiceProbe) -> Vec<Hop> {
    let endpoints = probe.exports.iter().flat_map(|export| &export.endpoints);
    let hop = |endpoint: &isthmus_gateway::status::probe::EndpointProbe| match &endpoint.error {
        None => Hop::ok("endpoint", &endpoint.address, endpoint.connected_ms, "takes connections"),
        Some(error) => Hop::failed("endpoint", &endpoint.address, error.as_str()),
    };
    endpoints.map(hop).collect()
}

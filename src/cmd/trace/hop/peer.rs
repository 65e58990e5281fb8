//! ● The peer's gateway.

use super::Hop;
use crate::output::count;
use isthmus_gateway::status::probe::{ClusterProbe, LinkProbe};

/// Whether it answers, on every tunnel to it.
pub(super) fn hop(cluster: &str, link: Option<&LinkProbe>, stream: Option<&ClusterProbe>) -> Hop {
    let tunnels = link.map(|link| link.tunnels.as_slice()).unwrap_or_default();
    if let Some(error) = tunnels.iter().find_map(|tunnel| tunnel.error.as_ref()) {
        return Hop::failed("peer", cluster, error.as_str());
    }
    if let Some(answered) = tunnels.iter().filter_map(|tunnel| tunnel.answered_ms).reduce(f64::max) {
        let transports: std::collections::BTreeSet<_> =
            tunnels.iter().map(|tunnel| tunnel.transport.as_str()).collect();
        let transports = transports.into_iter().collect::<Vec<_>>().join("+");
        let found = format!("answers on {} ({transports})", count(tunnels.len(), "tunnel"));
        return Hop::ok("peer", cluster, Some(answered), found);
    }
    match stream.and_then(|stream| stream.error.as_ref()) {
        Some(error) => Hop::failed("peer", cluster, error.as_str()),
        None => Hop::failed("peer", cluster, "no live tunnel leads there"),
    }
}

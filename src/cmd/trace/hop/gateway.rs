//! ● Which clusters the gateway would choose.

use super::Hop;
use isthmus_gateway::status::trace::{ClusterTrace, ImportTrace, Trace};

/// Where new streams of an import would go.
pub(super) fn hop(trace: &Trace, import: &ImportTrace) -> Hop {
    let chosen: Vec<_> = import.clusters.iter().filter(|cluster| cluster.percent > 0.0).collect();
    if chosen.is_empty() {
        let why = |cluster: &ClusterTrace| {
            let why = cluster.message.as_deref().unwrap_or("it is not chosen");
            format!("{}: {why}", cluster.cluster)
        };
        let why = import.clusters.iter().map(why).collect::<Vec<_>>().join("; ");
        let why = if why.is_empty() { "no cluster exports the service".to_owned() } else { why };
        return Hop::failed("gateway", &trace.cluster, why);
    }
    let words: Vec<_> = chosen.iter().map(|cluster| format!("{}% to {}", cluster.percent, cluster.cluster)).collect();
    Hop::ok("gateway", &trace.cluster, None, format!("sends {}", words.join(", ")))
}

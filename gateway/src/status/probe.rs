//! What `/probe` says: what became of streams that this gateway opened to see whether they get through.
//!
//! Its JSON form is an interface: fields are added, never changed.

use super::{
    measure::{MeasureAnswer, MeasureQuery},
    merge::millis,
};
use crate::tunnel::Refusal;
use isthmus_control_api::{ClusterName, ServicePort};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, time::Duration};
use tokio::sync::oneshot;

/// Has a core open streams. It answers within some seconds, from a task of its own; it stops when nobody waits for a measurement.
#[derive(Debug)]
pub enum CoreProbe {
    /// One on each tunnel, which the peer gives back what it is sent on.
    Links(oneshot::Sender<Vec<(ClusterName, TunnelProbe)>>),
    /// One to a service, as for a client.
    Service(ServiceQuery, oneshot::Sender<Answer>),
    /// Some to a peer, and as many bytes as they carry.
    Measure(MeasureQuery, oneshot::Sender<MeasureAnswer>),
}

/// Which stream is opened.
#[derive(Debug, Clone)]
pub struct ServiceQuery {
    /// At this cluster.
    pub cluster: ClusterName,
    /// To this service.
    pub service: ServicePort,
    /// On behalf of the client with this address; `None`: of the gateway itself.
    pub client: Option<SocketAddr>,
}

/// The time until the stream was accepted, or why it was not. `None`: the core has no tunnel that it could be opened on.
pub type Answer = Option<Result<Duration, Refusal>>;

/// What `/probe/links` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinksProbe {
    /// Every link that has live tunnels.
    pub links: Vec<LinkProbe>,
    /// Cores that did not answer in time.
    pub silent_cores: Vec<usize>,
}

/// The tunnels of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkProbe {
    /// The linked cluster.
    pub cluster: String,
    /// What became of a stream on each of them.
    pub tunnels: Vec<TunnelProbe>,
}

/// What became of a stream on a tunnel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TunnelProbe {
    /// The core whose tunnel it is.
    pub core: usize,
    /// Its transport.
    pub transport: String,
    /// The peer's gateway, in 16 hexadecimal digits; zeros: one that does not say which it is.
    pub gateway: String,
    /// Milliseconds from the request to the peer's answer, whatever it was.
    pub answered_ms: Option<f64>,
    /// Milliseconds from the first byte sent to the last one that came back; `None` of a peer that does not echo.
    pub echoed_ms: Option<f64>,
    /// What went wrong, in one line.
    pub error: Option<String>,
}

/// What `/probe/service/namespace/name` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceProbe {
    /// This cluster.
    pub cluster: String,
    /// What was asked for, `namespace/name`.
    pub service: String,
    /// Its imports here.
    pub imports: Vec<ImportProbe>,
    /// Its exports here.
    pub exports: Vec<ExportProbe>,
    /// Streams and endpoints that were left out, there being more of them than are tried at once.
    pub left_out: usize,
}

/// An imported port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportProbe {
    /// `namespace/name:port`.
    pub name: String,
    /// Where clients connect.
    pub listen: String,
    /// A stream to each cluster that is said to serve it.
    pub clusters: Vec<ClusterProbe>,
}

/// A stream to a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterProbe {
    /// The cluster.
    pub cluster: String,
    /// Milliseconds until an endpoint there had taken the stream.
    pub opened_ms: Option<f64>,
    /// Why none did, in a word: a reason of OPENED, or `no_tunnel`.
    pub reason: Option<String>,
    /// The same in one line.
    pub error: Option<String>,
}

/// An exported port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportProbe {
    /// `namespace/name:port`.
    pub name: String,
    /// A connection to each endpoint.
    pub endpoints: Vec<EndpointProbe>,
    /// A connection to each endpoint from an address of each network of `transparentSource`.
    #[serde(default)]
    pub sources: Vec<SourceProbe>,
}

/// A connection to an endpoint from an address of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceProbe {
    /// The cluster whose clients they are.
    pub cluster: String,
    /// The network that the address is of.
    pub network: String,
    /// The endpoint.
    pub endpoint: String,
    /// The gateway's own address, as the endpoint sees it; `None` where it does not answer that either.
    pub gateway: Option<String>,
    /// Milliseconds until it had taken the connection.
    pub connected_ms: Option<f64>,
    /// Why it did not.
    pub problem: Option<SourceProblem>,
    /// The same in one line.
    pub error: Option<String>,
}

/// Why an endpoint cannot be connected to from a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceProblem {
    /// The gateway's own file does not let it use the address.
    NotAllowed,
    /// The kernel does not let the gateway use other addresses than its host's.
    NotPermitted,
    /// The endpoint is an address of the gateway's own host, whose answers do not leave it.
    Here,
    /// Nothing came back, and this host has no rule and route by which marked answers are for it.
    NotRouted,
    /// Nothing came back, although this host has these.
    NoAnswer,
    /// Nothing came back, and the kernel does not say what it would do with marked answers.
    Unknown,
    /// The endpoint refused, or something else is wrong.
    Failed,
}

/// A connection to an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointProbe {
    /// Where it listens.
    pub address: String,
    /// Milliseconds until it had taken the connection.
    pub connected_ms: Option<f64>,
    /// Why it did not, in one line.
    pub error: Option<String>,
}

impl LinksProbe {
    /// One answer of what each core found, in the order of the cores; `None` of one that did not answer.
    pub fn merge(cores: Vec<Option<Vec<(ClusterName, TunnelProbe)>>>) -> Self {
        let silent_cores = (0..cores.len()).filter(|&core| cores[core].is_none()).collect();
        let mut links = std::collections::BTreeMap::<String, Vec<TunnelProbe>>::new();
        for (cluster, tunnel) in cores.into_iter().flatten().flatten() {
            links.entry(cluster.to_string()).or_default().push(tunnel);
        }
        let links = links.into_iter().map(|(cluster, tunnels)| LinkProbe { cluster, tunnels });
        Self { links: links.collect(), silent_cores }
    }
}

impl ClusterProbe {
    /// What came of it.
    pub fn new(cluster: &ClusterName, answer: &Answer) -> Self {
        let cluster = cluster.to_string();
        let failed = |reason: &str, error: String| (None, Some(reason.to_owned()), Some(error));
        let (opened_ms, reason, error) = match answer {
            Some(Ok(took)) => (Some(millis(*took)), None, None),
            Some(Err(refusal)) => failed(refusal.reason.as_str(), line(&refusal.message)),
            None => failed("no_tunnel", format!("no live tunnel leads to {cluster}")),
        };
        Self { cluster, opened_ms, reason, error }
    }
}

/// What a peer wrote, for people.
pub(crate) fn line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::RefusalReason;

    fn tunnel(core: usize) -> TunnelProbe {
        let (transport, gateway) = ("tls".to_owned(), "0".repeat(16));
        TunnelProbe { core, transport, gateway, answered_ms: Some(1.0), echoed_ms: None, error: None }
    }

    #[test]
    fn cores_that_do_not_answer_are_named_and_tunnels_are_put_together() {
        let [east, north] = ["east", "north"].map(|name| name.parse::<ClusterName>().unwrap());
        let found = [vec![(north, tunnel(0)), (east.clone(), tunnel(0))], vec![(east, tunnel(2))]];
        let [first, third] = found.map(Some);
        let merged = LinksProbe::merge(vec![first, None, third]);
        assert_eq!(merged.silent_cores, [1]);
        let links: Vec<_> = merged.links.iter().map(|link| (link.cluster.as_str(), link.tunnels.len())).collect();
        assert_eq!(links, [("east", 2), ("north", 1)]);
    }

    #[test]
    fn what_a_peer_says_is_one_line() {
        let (reason, message) = (RefusalReason::NoEndpoint, "gone\u{1b}[2J\n".to_owned());
        let east = "east".parse().unwrap();
        let probe = ClusterProbe::new(&east, &Some(Err(Refusal { reason, message, retry: true })));
        assert_eq!((probe.reason.as_deref(), probe.error.as_deref()), (Some("no_endpoint"), Some("gone[2J")));
        assert_eq!(ClusterProbe::new(&east, &None).reason.as_deref(), Some("no_tunnel"));
    }
}

//! Whether endpoints answer the addresses of clients that `transparentSource` has them see.

use crate::{
    socket::transparent::{self, MARK},
    status::{
        merge::millis,
        probe::{SourceProbe, SourceProblem},
    },
};
use isthmus_control_api::{Cidr, ClusterName, Export};
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// For one connection: the second SYN goes after a second.
const CONNECT: Duration = Duration::from_secs(3);

/// What is tried.
pub(super) struct Tried {
    cluster: ClusterName,
    network: Cidr,
    endpoint: SocketAddr,
}

/// All of an export's networks with all of its endpoints.
pub(super) fn of(export: &Export) -> Vec<Tried> {
    let networks = export.policy.transparent_source.iter();
    let networks = networks.flat_map(|source| source.cidrs.iter().map(|network| (source.cluster.clone(), *network)));
    let of = |(cluster, network): (ClusterName, Cidr)| {
        let endpoints = export.endpoints.iter().map(|endpoint| endpoint.address);
        let of_family = endpoints.filter(move |endpoint| endpoint.is_ipv4() == network.base().is_ipv4());
        of_family.map(move |endpoint| Tried { cluster: cluster.clone(), network, endpoint })
    };
    networks.flat_map(of).collect()
}

/// Connects to the endpoint from an address of the network, and plainly where that does not come about. `allowed`: what addresses this
/// gateway may use.
pub(super) async fn probe(Tried { cluster, network, endpoint }: Tried, allowed: &[Cidr]) -> SourceProbe {
    let client = an_address(network);
    let began = Instant::now();
    let is_within = |allowed: &Cidr| allowed.contains(network.base()) && allowed.bits() <= network.bits();
    let found = if allowed.iter().any(is_within) {
        connect(client, endpoint).await
    } else {
        Err((SourceProblem::NotAllowed, format!("this gateway may not use all of {network}")))
    };
    let took = began.elapsed();
    let mut probe = SourceProbe {
        cluster: cluster.to_string(),
        network: network.to_string(),
        endpoint: endpoint.to_string(),
        gateway: None,
        connected_ms: None,
        problem: None,
        error: None,
    };
    let Err((problem, error)) = found else {
        probe.connected_ms = Some(millis(took));
        return probe;
    };
    let plainly = timeout(CONNECT, TcpStream::connect(endpoint)).await.ok().and_then(Result::ok);
    probe.gateway = plainly.and_then(|stream| stream.local_addr().ok()).map(|address| address.ip().to_string());
    (probe.problem, probe.error) = (Some(problem), Some(error));
    probe
}

async fn connect(client: IpAddr, endpoint: SocketAddr) -> Result<(), (SourceProblem, String)> {
    let failed = |error: io::Error| (SourceProblem::Failed, error.to_string());
    let socket = if endpoint.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    transparent::bind(&socket, client).map_err(|error| (SourceProblem::NotPermitted, error.to_string()))?;
    match timeout(CONNECT, socket.connect(endpoint)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err((why(client, endpoint), format!("no answer to {client} within {} s", CONNECT.as_secs()))),
    }
}

fn why(client: IpAddr, endpoint: SocketAddr) -> SourceProblem {
    // Only an address of this host can be bound to without more.
    if UdpSocket::bind((endpoint.ip(), 0)).is_ok() {
        return SourceProblem::Here;
    }
    match transparent::is_delivered(client, MARK) {
        Ok(false) => SourceProblem::NotRouted,
        Ok(true) => SourceProblem::NoAnswer,
        // Where the kernel may not be asked, nothing is claimed of it.
        Err(_) => SourceProblem::Unknown,
    }
}

/// The first that a host may have, but for a network of one or two.
fn an_address(network: Cidr) -> IpAddr {
    match network.base() {
        IpAddr::V4(v4) if network.bits() < 31 => v4.to_bits().saturating_add(1).to_be_bytes().into(),
        IpAddr::V6(v6) if network.bits() < 127 => v6.to_bits().saturating_add(1).to_be_bytes().into(),
        base => base,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control_api::{Endpoint, ServicePolicy, TransparentSource};
    use std::sync::Arc;

    #[test]
    fn every_network_is_tried_with_the_endpoints_of_its_family() {
        let networks = ["10.1.0.0/16", "fd00:1::/64", "10.9.9.9"].map(|cidr| cidr.parse().unwrap()).to_vec();
        let west = TransparentSource { cluster: "west".parse().unwrap(), cidrs: networks };
        let policy = Arc::new(ServicePolicy { transparent_source: vec![west], ..ServicePolicy::default() });
        let endpoints = ["10.0.0.2:80", "10.0.0.3:80", "[fd00::2]:80"].map(|at| Endpoint::at(at.parse().unwrap()));
        let export = Export { endpoints: endpoints.to_vec(), policy, ..Export::default() };
        let tried = of(&export).into_iter().map(|tried| format!("{} {}", an_address(tried.network), tried.endpoint));
        let expected = [
            "10.1.0.1 10.0.0.2:80",
            "10.1.0.1 10.0.0.3:80",
            "fd00:1::1 [fd00::2]:80",
            "10.9.9.9 10.0.0.2:80",
            "10.9.9.9 10.0.0.3:80",
        ];
        assert_eq!(tried.collect::<Vec<_>>(), expected);
    }
}

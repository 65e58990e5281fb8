//! Whether peers' names have addresses, and their gateways take connections.

use crate::cmd::check::line::{Line, Lines};
use isthmus_control::Config;
use isthmus_control_api::PeerAddress;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// For a lookup, and for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of a link that are tried.
const MOST: usize = 8;

/// Lines about each link that is dialled. `running`: a gateway does so already, and its status says how that goes.
pub(super) async fn lines(config: &Config, running: bool) -> Vec<Line> {
    let mut all = Vec::new();
    for (cluster, desired) in &config.links {
        let endpoints = &desired.link.endpoints;
        if endpoints.is_empty() {
            continue;
        }
        let mut lines = Lines::about(format!("peer {cluster}"));
        for endpoint in endpoints.iter().take(MOST) {
            let Some(addresses) = names(&mut lines, endpoint, cluster.as_str()).await else { continue };
            if !running {
                reach(&mut lines, endpoint, &addresses, cluster.as_str()).await;
            }
        }
        all.extend(lines.into_vec());
    }
    all
}

async fn names(lines: &mut Lines, endpoint: &PeerAddress, cluster: &str) -> Option<Vec<SocketAddr>> {
    let wanted = format!("{} has an address", endpoint.host);
    let found = timeout(PATIENCE, lookup_host((endpoint.host.as_str(), endpoint.port))).await;
    let error = match found {
        Ok(Ok(found)) => {
            let found: Vec<_> = found.collect();
            if endpoint.host.parse::<std::net::IpAddr>().is_err() {
                let words: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
                lines.ok("peer.name", wanted, Some(words.join(", ")));
            }
            return Some(found);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    let fix = format!(
        "see that `getent ahosts {}` answers here (/etc/resolv.conf), or write an IP address into links[{cluster}].endpoints",
        endpoint.host
    );
    lines.failed("peer.name", wanted, error, fix);
    None
}

async fn reach(lines: &mut Lines, endpoint: &PeerAddress, addresses: &[SocketAddr], cluster: &str) {
    let wanted = format!("{}:{} takes connections", endpoint.host, endpoint.port);
    let mut last = String::new();
    for address in addresses.iter().take(MOST) {
        last = match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return lines.ok("peer.port", wanted, None),
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: no answer within {} s", PATIENCE.as_secs()),
        };
    }
    let port = endpoint.port;
    let fix = format!(
        "start the gateway of {cluster}, let TCP and UDP of port {port} pass (firewall, security group), or correct \
         links[{cluster}].endpoints"
    );
    lines.failed("peer.port", wanted, last, fix);
}

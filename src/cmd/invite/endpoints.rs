//! Where this gateway can be dialled, as far as it can tell itself.

use crate::cmd::{
    Failure,
    identity::words::shell,
    linking::{self, Here},
};
use isthmus_certs::{Fingerprint, IdentityStore, TrustDomain};
use isthmus_control_api::{ClusterName, PeerAddress};
use isthmus_link::{Unreached, probe};
use serde::Serialize;
use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
};

/// An address, and whether this gateway answers there.
#[derive(Debug, Serialize)]
pub(super) struct Tested {
    pub(super) endpoint: String,
    pub(super) reached: bool,
    pub(super) message: String,
}

/// The addresses that a gateway listening at `listen` probably has: that one, or those that this machine talks to others with.
pub(super) fn guess(listen: SocketAddr) -> Vec<PeerAddress> {
    if !listen.ip().is_unspecified() {
        return vec![linking::endpoint(listen)];
    }
    // Documentation addresses: nothing is sent, the kernel only says which address it would send from.
    let routes = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let routes = routes.iter().filter(|(any, _)| listen.is_ipv6() || any.starts_with('0'));
    let own = routes.filter_map(|(any, far)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(far).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    own.filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
        .map(|ip| linking::endpoint(SocketAddr::new(ip, listen.port())))
        .collect()
}

/// An error unless this cluster's gateway runs and takes invitations.
pub(super) async fn check_running(
    store: &IdentityStore,
    here: &Here,
    ca: Fingerprint,
    config: &Path,
) -> Result<(), Failure> {
    let at = linking::endpoint(linking::local(here.config.tunnel.listen));
    let missing = |why| Failure::failed(missing(&here.domain().cluster, &at, &why, &shell(config)));
    probe(store, here.domain(), ca, &at).await.map_err(missing)
}

/// Why a gateway does not take invitations, and what to do.
fn missing(cluster: &ClusterName, at: &PeerAddress, why: &Unreached, config: &str) -> String {
    match why {
        Unreached::Connect(_) | Unreached::Stranger(_) => format!(
            "the gateway of {cluster} does not answer at {at}: {why}: start it (isthmus run --config {config}), then invite"
        ),
        Unreached::Closed(_) | Unreached::Timeout => format!(
            "the gateway of {cluster} seems to run, but took no handshake at {at}: {why} \
             (isthmus_refusals_total with bound=\"joins\" counts those that it had no place for)"
        ),
    }
}

/// Dials each address and looks who answers.
pub(super) async fn test(
    store: &IdentityStore,
    domain: &TrustDomain,
    ca: Fingerprint,
    endpoints: &[PeerAddress],
) -> Vec<Tested> {
    let mut tested = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let outcome = probe(store, domain, ca, endpoint).await;
        let reached = outcome.is_ok();
        let message = outcome.map_or_else(|why| format!(" from here: {why}"), |()| near(endpoint).to_owned());
        tested.push(Tested { endpoint: endpoint.to_string(), reached, message });
    }
    tested
}

/// A remark on an address that leads here from some places only.
fn near(endpoint: &PeerAddress) -> &'static str {
    match endpoint.host.parse() {
        Ok(IpAddr::V4(ip)) if ip.is_loopback() => " (by clusters on this machine only)",
        Ok(IpAddr::V6(ip)) if ip.is_loopback() => " (by clusters on this machine only)",
        Ok(IpAddr::V4(ip)) if ip.is_private() || ip.is_link_local() => {
            " (a private address: from the same network only)"
        }
        Ok(IpAddr::V6(ip)) if ip.is_unique_local() || ip.is_unicast_link_local() => {
            " (a private address: from the same network only)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_is_busy_is_not_told_to_be_started() {
        let said = |why| missing(&"east".parse().unwrap(), &"h:1".parse().unwrap(), &why, "east.yaml");
        let error = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(said(Unreached::Connect(error())).contains("start it (isthmus run --config east.yaml)"));
        for busy in [Unreached::Closed(error()), Unreached::Timeout] {
            let said = said(busy);
            assert!(said.contains("seems to run") && !said.contains("start it"), "{said}");
        }
    }

    #[test]
    fn who_listens_at_one_address_has_that_one() {
        let guessed = guess("192.0.2.7:15008".parse().unwrap());
        assert_eq!(guessed, ["192.0.2.7:15008".parse().unwrap()]);
    }

    #[test]
    fn addresses_that_lead_here_from_near_only_say_so() {
        let remark = |text: &str| near(&text.parse().unwrap());
        assert!(remark("127.0.0.1:1").contains("this machine"));
        assert!(remark("10.1.2.3:1").contains("the same network"));
        assert!(remark("[fd00::1]:1").contains("the same network"));
        assert_eq!(remark("203.0.113.7:1"), "");
        assert_eq!(remark("gw.example:1"), "");
    }
}

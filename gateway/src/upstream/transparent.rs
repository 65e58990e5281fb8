//! ● From which address an endpoint is connected to (docs/transparent-source.md).

use super::Opening;
use crate::metrics::reasons::EndpointSource;
use isthmus_control_api::{Cidr, ServicePolicy};
use std::net::IpAddr;

/// The client's own address, if the endpoint is to see it; `None`: the policy lets it see nobody's. `allowed`: what this gateway may use.
///
/// # Errors
/// It is the gateway's for this client, and why.
pub(super) fn source(
    allowed: &[Cidr],
    policy: &ServicePolicy,
    &Opening { request, cluster }: &Opening<'_>,
    endpoint: IpAddr,
) -> Result<Option<IpAddr>, EndpointSource> {
    if policy.transparent_source.is_empty() {
        return Ok(None);
    }
    let client = request.source.address.map(|address| address.ip().to_canonical());
    let client = client.filter(|&client| policy.keeps_source(cluster, client)).ok_or(EndpointSource::Unlisted)?;
    if client.is_ipv4() != endpoint.is_ipv4() {
        return Err(EndpointSource::Family);
    }
    if client == endpoint || !connects(client) {
        return Err(EndpointSource::Unusable);
    }
    // Who writes policies is not always who runs the gateway.
    if !allowed.iter().any(|network| network.contains(client)) {
        return Err(EndpointSource::NotPermitted);
    }
    Ok(Some(client))
}

/// Whether anybody connects to another host from such an address.
fn connects(address: IpAddr) -> bool {
    let never = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !never
        && match address {
            // 240.0.0.0/4 is nobody's, and its last address everybody's.
            IpAddr::V4(v4) => v4.octets()[0] != 0 && v4.octets()[0] < 240 && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::driver::tests::pair::request;
    use isthmus_control_api::TransparentSource;

    fn seen(cluster: &str, client: Option<&str>, endpoint: &str) -> Result<Option<IpAddr>, EndpointSource> {
        let all = ["0.0.0.0/0", "::/0"].map(|all| all.parse().unwrap()).to_vec();
        let west = TransparentSource { cluster: "west".parse().unwrap(), cidrs: all };
        let policy = ServicePolicy { transparent_source: vec![west], ..ServicePolicy::default() };
        let mut request = request("west");
        request.source.address = client.map(|client| (client.parse::<IpAddr>().unwrap(), 4711).into());
        let opening = Opening { request: &request, cluster: &cluster.parse().unwrap() };
        let endpoint = endpoint.parse().unwrap();
        let allowed = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap());
        assert_eq!(source(&allowed, &ServicePolicy::default(), &opening, endpoint), Ok(None));
        source(&allowed, &policy, &opening, endpoint)
    }

    #[test]
    fn who_is_listed_and_can_be_answered_is_seen() {
        let own = |client: &str| Ok(Some(client.parse().unwrap()));
        assert_eq!(seen("west", Some("10.1.0.9"), "10.0.0.2"), own("10.1.0.9"));
        assert_eq!(seen("west", Some("::ffff:10.1.0.9"), "10.0.0.2"), own("10.1.0.9"));
        assert_eq!(seen("west", Some("2001:db8::9"), "2001:db8::2"), own("2001:db8::9"));
    }

    #[test]
    fn the_gateway_uses_no_address_that_its_own_file_does_not_allow() {
        assert_eq!(seen("west", Some("192.0.2.9"), "10.0.0.2"), Err(EndpointSource::NotPermitted));
        assert_eq!(seen("west", Some("fd00::9"), "2001:db8::2"), Err(EndpointSource::NotPermitted));
    }

    #[test]
    fn all_others_come_from_the_gateway() {
        assert_eq!(seen("west", None, "10.0.0.2"), Err(EndpointSource::Unlisted));
        assert_eq!(seen("north", Some("10.1.0.9"), "10.0.0.2"), Err(EndpointSource::Unlisted));
        assert_eq!(seen("west", Some("10.1.0.9"), "2001:db8::2"), Err(EndpointSource::Family));
        assert_eq!(
            seen("west", Some("10.0.0.2"), "10.0.0.2"),
            Err(EndpointSource::Unusable),
            "clusters' networks overlap"
        );
        for client in ["127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "169.254.0.1"] {
            assert_eq!(seen("west", Some(client), "10.0.0.2"), Err(EndpointSource::Unusable), "{client}");
        }
        for client in ["::1", "::", "ff02::1", "fe80::1"] {
            assert_eq!(seen("west", Some(client), "2001:db8::2"), Err(EndpointSource::Unusable), "{client}");
        }
    }
}

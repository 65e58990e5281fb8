//! ● Whether datagrams may be sent where a peer says that it is.
//!
//! A linked peer is who it says, but what it says of its address may be wrong, or meant to harm somebody else. So an address is only
//! ever good for a few datagrams, and these do not go where no gateway behind a NAT can be.

use std::net::{IpAddr, SocketAddr};

/// Why nothing is sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Of the other version of IP.
    #[error("it is of another version of IP than ours")]
    Family,
    /// No NAT gives such a port to a client, but services have it.
    #[error("its port is below 1024")]
    Port,
    /// Not one host on a network.
    #[error("it is no host's address on a network")]
    NoHost,
    /// It would be something in our network, while the peer comes from outside.
    #[error("it is a private address, and ours is a public one")]
    Private,
}

/// `theirs`, if datagrams may be sent there from where the relay sees us as `ours`.
pub(super) fn fit(theirs: SocketAddr, ours: SocketAddr) -> Result<SocketAddr, Unfit> {
    let (ip, own) = (theirs.ip().to_canonical(), ours.ip().to_canonical());
    if ip.is_ipv4() != own.is_ipv4() {
        Err(Unfit::Family)
    } else if theirs.port() < 1024 {
        Err(Unfit::Port)
    } else if !is_host(ip) {
        Err(Unfit::NoHost)
    } else if is_private(ip) && !is_private(own) {
        Err(Unfit::Private)
    } else {
        Ok(SocketAddr::new(ip, theirs.port()))
    }
}

fn is_host(ip: IpAddr) -> bool {
    let special = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_link_local() || ip.octets()[0] == 0 || ip.octets()[0] >= 240,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(special || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
}

/// Networks that many have alike: RFC 1918, RFC 6598 and RFC 4193.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(theirs: &str, ours: &str) -> Result<SocketAddr, Unfit> {
        fit(theirs.parse().unwrap(), ours.parse().unwrap())
    }

    #[test]
    fn public_addresses_fit() {
        for address in ["203.0.113.7:40000", "8.8.8.8:1024"] {
            assert_eq!(of(address, "198.51.100.1:5"), Ok(address.parse().unwrap()));
        }
        assert_eq!(of("[::ffff:203.0.113.7]:4000", "198.51.100.1:5"), Ok("203.0.113.7:4000".parse().unwrap()));
        assert!(of("[2001:db8::1]:4000", "[2001:db8::2]:5").is_ok());
    }

    #[test]
    fn what_is_no_gateway_behind_a_nat_does_not() {
        let ours = "198.51.100.1:5000";
        for no_host in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
        ] {
            assert_eq!(of(&format!("{no_host}:4000"), ours), Err(Unfit::NoHost), "{no_host}");
        }
        for no_host in ["::", "::1", "fe80::1", "ff02::1"] {
            assert_eq!(of(&format!("[{no_host}]:4000"), "[2001:db8::2]:5"), Err(Unfit::NoHost), "{no_host}");
        }
        assert_eq!(of("[::ffff:127.0.0.1]:4000", ours), Err(Unfit::NoHost));
        for port in [0, 53, 123, 1023] {
            assert_eq!(of(&format!("203.0.113.7:{port}"), ours), Err(Unfit::Port));
        }
        assert_eq!(of("[2001:db8::1]:4000", ours), Err(Unfit::Family));
    }

    #[test]
    fn private_addresses_fit_where_we_have_one_ourselves() {
        for private in ["10.1.2.3:4000", "192.168.1.9:4000", "172.16.0.1:4000", "100.64.0.1:4000"] {
            assert_eq!(of(private, "203.0.113.7:4000"), Err(Unfit::Private));
            assert!(of(private, "10.0.0.1:4000").is_ok());
        }
        assert_eq!(of("[fd00::1]:4000", "[2001:db8::2]:5"), Err(Unfit::Private));
    }
}

//! ● Whether datagrams may be sent where a peer says that it is.
//!
//! A linked peer is who it says, but what it says of its address may be wrong, or meant to harm somebody else. So an address is only
//! ever good for a few datagrams, and these do not go where no gateway behind a NAT can be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
    } else if !leads_to(ip).all(is_host) {
        Err(Unfit::NoHost)
    } else if leads_to(ip).any(is_private) && !is_private(own) {
        Err(Unfit::Private)
    } else {
        Ok(SocketAddr::new(ip, theirs.port()))
    }
}

/// The address, and the one of IPv4 that a translator may make of it.
fn leads_to(ip: IpAddr) -> impl Iterator<Item = IpAddr> + Clone {
    let embedded = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => embedded(ip).map(IpAddr::V4),
    };
    std::iter::once(ip).chain(embedded)
}

/// The address of IPv4 in one of NAT64 (RFC 6052), of 6to4 (RFC 3056), or in a compatible one (RFC 4291).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            of(high, low)
        }
        _ => None,
    }
}

fn is_host(ip: IpAddr) -> bool {
    let special = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_link_local() || ip.octets()[0] == 0 || ip.octets()[0] >= 240,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(special || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
}

/// Networks that many have alike: RFC 1918, RFC 6598, RFC 4193, and what is translated to them as each network likes (RFC 8215).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.segments()[..3] == [0x64, 0xff9b, 1],
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
    fn what_a_translator_makes_of_an_address_counts() {
        let ours = "[2001:db8::2]:5";
        for private in ["64:ff9b::10.1.2.3", "64:ff9b::192.168.0.1", "2002:a01:203::1", "::10.1.2.3", "64:ff9b:1::1"] {
            assert_eq!(of(&format!("[{private}]:4000"), ours), Err(Unfit::Private), "{private}");
        }
        for no_host in ["64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "2002:7f00:1::1", "::127.0.0.1"] {
            assert_eq!(of(&format!("[{no_host}]:4000"), ours), Err(Unfit::NoHost), "{no_host}");
        }
        assert_eq!(of("[::ffff:10.1.2.3]:4000", "203.0.113.7:4000"), Err(Unfit::Private));
        assert!(of("[64:ff9b::203.0.113.7]:4000", ours).is_ok());
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

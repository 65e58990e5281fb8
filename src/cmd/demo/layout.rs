//! Who has which address.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// The port of the tunnels.
const TUNNEL: u16 = 15008;
/// The port of the admin endpoints.
const ADMIN: u16 = 15020;
/// The port of the imported service.
const SERVICE: u16 = 80;
/// The port of nginx.
const NGINX: u16 = 8080;

/// The pods' network: the same in both clusters.
pub(super) const POD_CIDR: &str = "10.0.0.0/24";
/// The gateway on the pods' network, in both clusters.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// A pod: the client in west, the first endpoint in east.
pub(super) const POD_A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// A pod: the second endpoint in east.
pub(super) const POD_B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// The WAN's router and the gateway of west (TEST-NET-2 of RFC 5737).
pub(super) const WAN_WEST: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2)];
/// The WAN's router and the gateway of east (TEST-NET-3 of RFC 5737).
pub(super) const WAN_EAST: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2)];

/// The addresses of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Where clients in west find the service.
    pub(super) service: SocketAddr,
    /// What serves it in east.
    pub(super) endpoints: [SocketAddr; 2],
    /// Where west's gateway dials east's.
    pub(super) dialled: SocketAddr,
    /// Where an nginx of east's is open to the WAN, if one is.
    pub(super) open: SocketAddr,
    /// West's gateway.
    pub(super) west: Gateway,
    /// East's gateway.
    pub(super) east: Gateway,
}

/// What a gateway listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gateway {
    /// For tunnels.
    pub(super) tunnel: SocketAddr,
    /// For the admin endpoints.
    pub(super) admin: SocketAddr,
}

impl Layout {
    /// The addresses inside the namespaces.
    pub(super) fn of_namespaces() -> Self {
        let admin = (Ipv4Addr::LOCALHOST, ADMIN).into();
        let gateway = |address: Ipv4Addr| Gateway { tunnel: (address, TUNNEL).into(), admin };
        let east = gateway(WAN_EAST[1]);
        let endpoints = [(POD_A, NGINX).into(), (POD_B, NGINX).into()];
        Self {
            service: (GATEWAY, SERVICE).into(),
            endpoints,
            dialled: east.tunnel,
            open: (WAN_EAST[1], NGINX).into(),
            west: gateway(WAN_WEST[1]),
            east,
        }
    }

    /// An address of 127.0.0.0/8 for each role, with ports that are free, and the listener of the relay, which is what west dials.
    pub(super) fn of_loopback() -> std::io::Result<(Self, TcpListener)> {
        let [west, wan, east, a, b] = loopback_addresses(std::process::id());
        // All are held until each has a port: no two get the same one. Only then they are let go, for the programs to bind.
        let bind = |address: Ipv4Addr| TcpListener::bind((address, 0));
        let held = [west, west, west, east, east, a, b].map(bind);
        let relay = bind(wan)?;
        let mut ports = held.into_iter();
        let mut next =
            || ports.next().unwrap_or_else(|| bind(west)).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (service, _service) = next()?;
        let (west_tunnel, _west_tunnel) = next()?;
        let (west_admin, _west_admin) = next()?;
        let (east_tunnel, _east_tunnel) = next()?;
        let (east_admin, _east_admin) = next()?;
        let (first, _first) = next()?;
        let (second, _second) = next()?;
        let layout = Self {
            service,
            endpoints: [first, second],
            dialled: relay.local_addr()?,
            // Nothing is open to the WAN here: the relay leads to the tunnels only.
            open: first,
            west: Gateway { tunnel: west_tunnel, admin: west_admin },
            east: Gateway { tunnel: east_tunnel, admin: east_admin },
        };
        Ok((layout, relay))
    }
}

/// Five addresses of 127.0.0.0/8, other ones for another process: west's gateway, the WAN, east's gateway, two endpoints.
fn loopback_addresses(pid: u32) -> [Ipv4Addr; 5] {
    let [_, _, high, low] = pid.to_be_bytes();
    // 127.0.x.y is what other programs use, so the second byte is never 0.
    [1, 2, 3, 4, 5].map(|role| Ipv4Addr::new(127, high | 64, low, role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_runs_have_addresses_of_their_own() {
        let [first, second] = [loopback_addresses(0x1234), loopback_addresses(0x1235)];
        assert!(
            first.iter().all(|address| address.is_loopback() && address.octets()[1] != 0 && !second.contains(address))
        );
        let (layout, relay) = Layout::of_loopback().unwrap();
        assert_eq!(layout.dialled, relay.local_addr().unwrap());
        assert_ne!(layout.endpoints[0].ip(), layout.endpoints[1].ip());
        assert_ne!(layout.dialled.ip(), layout.east.tunnel.ip());
    }

    #[test]
    fn west_dials_the_wan_address_of_east() {
        assert_eq!(Layout::of_namespaces().dialled.to_string(), "203.0.113.2:15008");
    }
}

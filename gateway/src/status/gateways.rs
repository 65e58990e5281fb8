//! ● A peer's gateways: which are reached, which are known, and why the others are not reached.

use super::{AddressStatus, DialReport, GatewaysStatus, TunnelReport};
use crate::tunnel::TunnelHealth;
use isthmus_control_api::GatewayId;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

/// One link's, from all cores' reports of it.
pub(super) fn gateways(tunnels: &[&TunnelReport], dials: &[&DialReport]) -> GatewaysStatus {
    let live: Vec<_> = tunnels.iter().filter(|tunnel| tunnel.status.health == TunnelHealth::Live).collect();
    let led_to: BTreeSet<_> = live.iter().map(|tunnel| identify(tunnel)).collect();
    let named: BTreeSet<_> = led_to.iter().map(|(gateway, _)| *gateway).filter(|gateway| gateway.is_known()).collect();
    // Those that do not say which they are, are told apart by what was dialled; whoever dialled us may be one of them.
    let dialled = led_to.iter().filter(|(gateway, address)| !gateway.is_known() && address.is_some()).count();
    let accepted = led_to.contains(&(GatewayId::UNKNOWN, None));
    let unnamed = if accepted { dialled.max(1) } else { dialled };

    let mut at: BTreeMap<SocketAddr, Vec<&DialReport>> = BTreeMap::new();
    for &dial in dials {
        if let Some(address) = dial.address {
            at.entry(address).or_default().push(dial);
        }
    }
    let mut missing = 0;
    let addresses = at.into_iter().map(|(address, dials)| {
        let here = live.iter().filter(|tunnel| tunnel.address == Some(address)).map(|tunnel| gateway(tunnel));
        let same = dials.iter().filter_map(|dial| dial.same).filter(|gateway| named.contains(gateway));
        let gateways: BTreeSet<_> = here.chain(same).map(|gateway| gateway.to_string()).collect();
        missing += usize::from(gateways.is_empty());
        let why = || dials.iter().find_map(|dial| dial.state.last_error()).map(str::to_owned);
        let message = if gateways.is_empty() { why() } else { None };
        AddressStatus { address: address.to_string(), gateways: gateways.into_iter().collect(), message }
    });
    let addresses: Vec<_> = addresses.collect();
    let reached = named.len() + unnamed;
    GatewaysStatus { reached, known: reached + missing, addresses }
}

fn identify(tunnel: &TunnelReport) -> (GatewayId, Option<SocketAddr>) {
    let gateway = gateway(tunnel);
    (gateway, tunnel.address.filter(|_| !gateway.is_known()))
}

fn gateway(tunnel: &TunnelReport) -> GatewayId {
    tunnel.status.peer.map_or(GatewayId::UNKNOWN, |peer| peer.gateway)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::{Direction, Greeting, Transport, TunnelStatus, link::LinkState};
    use std::time::Instant;

    const A: u64 = 0xa;
    const B: u64 = 0xb;
    const ONE: &str = "192.0.2.1:1";
    const TWO: &str = "192.0.2.2:1";

    fn tunnel(gateway: u64, address: Option<&str>, health: TunnelHealth) -> TunnelReport {
        let peer = Some(Greeting { gateway: GatewayId(gateway), ..Greeting::default() });
        let direction = if address.is_some() { Direction::Dialled } else { Direction::Accepted };
        let (transport, rtt) = (Transport::Tls, None);
        let status = TunnelStatus { transport, direction, health, rtt, streams_out: 0, streams_in: 0, peer };
        let address = address.map(|address| address.parse().unwrap());
        TunnelReport { cluster: "east".parse().unwrap(), status, address, cert_expiry: None, via: None }
    }

    fn dial(address: &str, error: Option<&str>, same: Option<u64>) -> DialReport {
        let state = LinkState::Down { since: Instant::now(), last_error: error.map(Into::into) };
        let (cluster, address, same) = ("east".parse().unwrap(), address.parse().ok(), same.map(GatewayId));
        DialReport { cluster, address, spare: false, same, declined: None, small: false, state }
    }

    /// How many are reached, how many are known, and the words of those that are not reached.
    fn count(tunnels: &[TunnelReport], dials: &[DialReport]) -> (usize, usize, Vec<String>) {
        let status = gateways(&tunnels.iter().collect::<Vec<_>>(), &dials.iter().collect::<Vec<_>>());
        (status.reached, status.known, status.addresses.into_iter().filter_map(|address| address.message).collect())
    }

    #[test]
    fn gateways_are_counted_once_however_many_tunnels_lead_there() {
        use TunnelHealth::{Draining, Live};
        let tunnels = [tunnel(A, Some(ONE), Live), tunnel(A, Some(ONE), Live), tunnel(A, None, Live)];
        assert_eq!(count(&tunnels, &[dial(ONE, None, None)]), (1, 1, vec![]));
        let both = [tunnel(A, Some(ONE), Live), tunnel(B, Some(ONE), Live)];
        assert_eq!(count(&both, &[dial(ONE, None, None)]), (2, 2, vec![]), "behind one address");
        assert_eq!(count(&[tunnel(A, Some(ONE), Draining)], &[dial(ONE, Some("it drains"), None)]).0, 0);
        assert_eq!(count(&[], &[]), (0, 0, vec![]));
    }

    #[test]
    fn an_address_without_a_tunnel_says_why_unless_it_is_known_to_lead_where_another_one_does() {
        let tunnels = [tunnel(A, Some(ONE), TunnelHealth::Live)];
        let refused = [dial(ONE, Some("old"), None), dial(TWO, Some("refused"), None)];
        assert_eq!(count(&tunnels, &refused), (1, 2, vec!["refused".into()]));
        assert_eq!(count(&tunnels, &[dial(ONE, None, None), dial(TWO, None, Some(A))]), (1, 1, vec![]));
        assert_eq!(count(&tunnels, &[dial(TWO, Some("gone"), Some(B))]), (1, 2, vec!["gone".into()]));
    }

    #[test]
    fn those_that_do_not_say_which_they_are_are_told_apart_by_address() {
        use TunnelHealth::Live;
        let dialled = [tunnel(0, Some(ONE), Live), tunnel(0, Some(ONE), Live), tunnel(0, Some(TWO), Live)];
        assert_eq!(count(&dialled, &[dial(ONE, None, None), dial(TWO, None, None)]), (2, 2, vec![]));
        assert_eq!(count(&[tunnel(0, None, Live), tunnel(0, None, Live)], &[]).0, 1);
        assert_eq!(count(&[tunnel(0, None, Live), tunnel(0, Some(ONE), Live)], &[]).0, 1);
    }
}

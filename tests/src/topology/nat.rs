//! NATs as clusters are behind, made of nftables.

use std::net::Ipv4Addr;

/// The NAT's address inside.
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
/// The gateway's address inside: the same behind every NAT.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// How a NAT maps and filters UDP (RFC 4787). TCP is masqueraded; none lets a TCP connection in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// One port outside for a port inside, whoever it talks to, and everybody may send there.
    FullCone,
    /// One port outside for a port inside, and only those that were sent something may answer.
    PortRestricted,
    /// Another port outside for each destination.
    Symmetric,
}

impl NatKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::FullCone, Self::PortRestricted, Self::Symmetric];

    /// What `nft` is told in the NAT's namespace, whose device `wan` has the address `outside`. As home routers do, it drops what
    /// comes unasked.
    pub(super) fn rules(self, outside: Ipv4Addr) -> String {
        let (inbound, outbound) = match self {
            Self::FullCone => (format!("meta l4proto udp dnat to {HOST}"), format!("snat to {outside}")),
            Self::PortRestricted => ("accept".to_owned(), "masquerade".to_owned()),
            Self::Symmetric => ("accept".to_owned(), "masquerade fully-random".to_owned()),
        };
        format!(
            "table ip nat {{
                chain inbound {{ type nat hook prerouting priority -100; iifname wan {inbound}; }}
                chain outbound {{ type nat hook postrouting priority 100; oifname wan {outbound}; }}
            }}
            table ip guard {{
                chain unasked {{ type filter hook input priority 0; iifname wan ct state new drop; }}
            }}"
        )
    }
}

//! What has to be known of an IP packet to forward it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// UDP's number as an IP protocol.
pub const UDP: u8 = 17;

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// What is in it; of IPv6, the first header after the fixed one.
    pub protocol: u8,
    /// Source and destination of UDP, where this packet has them: a later fragment has not.
    pub ports: Option<[u16; 2]>,
    /// The whole packet's bytes.
    pub length: usize,
}

impl Header {
    /// Reads one; nothing if `packet` is no whole IP header.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    /// Whether one host sent it to one host: only of such a packet may anybody be told that it was dropped.
    pub fn is_between_hosts(&self) -> bool {
        let is_host = |address: IpAddr| !address.is_multicast() && !address.is_unspecified();
        is_host(self.source) && is_host(self.destination) && self.destination != IpAddr::V4(Ipv4Addr::BROADCAST)
    }

    fn parse_v4(packet: &[u8]) -> Option<Self> {
        let header: &[u8; 20] = packet.first_chunk()?;
        let address =
            |at: usize| IpAddr::V4(Ipv4Addr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]));
        let is_first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
        let payload = usize::from(header[0] & 0xf) * 4;
        let ports = if is_first { ports(header[9], packet.get(payload..)?) } else { None };
        Some(Self { source: address(12), destination: address(16), protocol: header[9], ports, length: packet.len() })
    }

    fn parse_v6(packet: &[u8]) -> Option<Self> {
        let (header, payload) = packet.split_first_chunk::<40>()?;
        let address =
            |at: usize| header[at..].first_chunk().map(|octets: &[u8; 16]| IpAddr::V6(Ipv6Addr::from(*octets)));
        let ports = ports(header[6], payload);
        Some(Self { source: address(8)?, destination: address(24)?, protocol: header[6], ports, length: packet.len() })
    }
}

fn ports(protocol: u8, payload: &[u8]) -> Option<[u16; 2]> {
    let [a, b, c, d] = payload.first_chunk().filter(|_| protocol == UDP)?;
    Some([u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn udp_is_told_by_its_ports() {
        let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, UDP, 0, 0, 192, 0, 2, 2, 203, 0, 113, 2];
        packet.extend([0x1f, 0x90, 0x3a, 0xa0, 0, 12, 0, 0, 1, 2, 3, 4]);
        let header = Header::parse(&packet).unwrap();
        assert_eq!(
            (header.source.to_string(), header.destination.to_string()),
            ("192.0.2.2".into(), "203.0.113.2".into())
        );
        assert_eq!((header.ports, header.length), (Some([8080, 15008]), 32));
        packet[7] = 1;
        assert_eq!(Header::parse(&packet).unwrap().ports, None, "a later fragment has no ports");
    }

    #[test]
    fn nobody_is_told_about_multicast() {
        let mut packet = [0; 48];
        packet[0] = 0x60;
        packet[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        packet[24..40].copy_from_slice(&"ff02::16".parse::<Ipv6Addr>().unwrap().octets());
        assert!(!Header::parse(&packet).unwrap().is_between_hosts());
        packet[24] = 0x20;
        assert!(Header::parse(&packet).unwrap().is_between_hosts());
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(packet in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(header) = Header::parse(&packet) {
                prop_assert_eq!(header.length, packet.len());
            }
        }
    }
}

//! What a router tells the sender of a packet that it cannot forward.

use crate::packet::Header;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The router's own address: the one that RFC 7600 sets aside for ICMP errors of routers that have no other.
pub const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// Its address of IPv6 (documentation, RFC 3849).
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 8);

/// ICMP's number as an IP protocol.
const ICMP_V4: u8 = 1;
/// The same of IPv6.
const ICMP_V6: u8 = 58;
/// How much of the packet is sent back: the answer stays below what every path carries.
const QUOTE_V4: usize = 548;
const QUOTE_V6: usize = 1232;

/// Tells the sender of `packet` that it is larger than `mtu`. Nothing if nobody may be told.
pub fn too_big(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    answer(packet, [3, 4], [2, 0], u32::from(mtu))
}

/// Tells the sender of `packet` that there is no way to its destination. Nothing if nobody may be told.
pub fn no_route(packet: &[u8]) -> Option<Vec<u8>> {
    answer(packet, [3, 0], [1, 0], 0)
}

/// A message of this type and code, with `word` in its header.
fn answer(packet: &[u8], v4: [u8; 2], v6: [u8; 2], word: u32) -> Option<Vec<u8>> {
    let header = Header::parse(packet).filter(|header| header.is_between_hosts() && !is_error(header, packet))?;
    match header.source {
        IpAddr::V4(sender) => {
            let message = message(v4, word, &packet[..packet.len().min(QUOTE_V4)], 0);
            let length = u16::try_from(20 + message.len()).ok()?;
            let mut ip = vec![0x45, 0xc0, 0, 0, 0, 0, 0x40, 0, 64, ICMP_V4, 0, 0];
            ip[2..4].copy_from_slice(&length.to_be_bytes());
            ip.extend(ROUTER_V4.octets().into_iter().chain(sender.octets()));
            let sum = checksum(&ip, 0);
            ip[10..12].copy_from_slice(&sum);
            Some([ip, message].concat())
        }
        IpAddr::V6(sender) => {
            let quote = &packet[..packet.len().min(QUOTE_V6)];
            let length = u16::try_from(8 + quote.len()).ok()?;
            let mut ip = vec![0x60, 0, 0, 0, 0, 0, ICMP_V6, 64];
            ip[4..6].copy_from_slice(&length.to_be_bytes());
            ip.extend(ROUTER_V6.octets().into_iter().chain(sender.octets()));
            // The pseudo-header: both addresses, the length, the protocol.
            let pseudo = sum(&ip[8..]) + u32::from(length) + u32::from(ICMP_V6);
            Some([ip, message(v6, word, quote, pseudo)].concat())
        }
    }
}

/// Whether it is an ICMP error itself, which nobody answers with another.
fn is_error(header: &Header, packet: &[u8]) -> bool {
    match header.protocol {
        ICMP_V4 => packet.get(usize::from(packet[0] & 0xf) * 4).is_none_or(|kind| ![0, 8].contains(kind)),
        ICMP_V6 => packet.get(40).is_none_or(|kind| *kind < 128),
        _ => false,
    }
}

fn message([kind, code]: [u8; 2], word: u32, quote: &[u8], pseudo: u32) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(quote);
    let sum = checksum(&message, pseudo);
    message[2..4].copy_from_slice(&sum);
    message
}

fn checksum(bytes: &[u8], start: u32) -> [u8; 2] {
    let mut sum = sum(bytes) + start;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Folded until it fits into 16 bits.
    (!(sum as u16)).to_be_bytes()
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    words.map(u32::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet_v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 2, 203, 0, 113, 2];
        packet.extend(payload);
        packet
    }

    #[test]
    fn fragmentation_needed_names_the_mtu_and_quotes_the_packet() {
        let packet = packet_v4(6, &[7; 1480]);
        let answer = too_big(&packet, 1400).unwrap();
        let header = Header::parse(&answer).unwrap();
        assert_eq!((header.source, header.destination.to_string()), (IpAddr::V4(ROUTER_V4), "192.0.2.2".into()));
        assert_eq!(answer[20..22], [3, 4]);
        assert_eq!(u16::from_be_bytes([answer[26], answer[27]]), 1400);
        assert_eq!(answer[28..], packet[..QUOTE_V4]);
        assert_eq!(checksum(&answer[..20], 0), [0, 0], "a sum over a whole header is zero");
        assert_eq!(checksum(&answer[20..], 0), [0, 0]);
    }

    #[test]
    fn packet_too_big_has_its_sum_over_the_pseudo_header() {
        let mut packet = vec![0; 1500];
        packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 5, 0xb4, 6, 64]);
        packet[8..24].copy_from_slice(&"2001:db8:1::2".parse::<Ipv6Addr>().unwrap().octets());
        packet[24..40].copy_from_slice(&"2001:db8:2::2".parse::<Ipv6Addr>().unwrap().octets());
        let answer = too_big(&packet, 1280).unwrap();
        assert_eq!((answer[40..42].to_vec(), answer[44..48].to_vec()), (vec![2, 0], 1280_u32.to_be_bytes().to_vec()));
        let pseudo = sum(&answer[8..40]) + u32::from(u16::from_be_bytes([answer[4], answer[5]])) + 58;
        assert_eq!(checksum(&answer[40..], pseudo), [0, 0]);
        assert!(answer.len() <= 1280);
    }

    #[test]
    fn errors_are_not_answered_and_echoes_are() {
        assert!(no_route(&packet_v4(ICMP_V4, &[3, 4, 0, 0])).is_none());
        assert_eq!(no_route(&packet_v4(ICMP_V4, &[8, 0, 0, 0])).unwrap()[20..22], [3, 0]);
        let mut multicast = packet_v4(6, &[]);
        multicast[16] = 224;
        assert!(no_route(&multicast).is_none());
    }
}

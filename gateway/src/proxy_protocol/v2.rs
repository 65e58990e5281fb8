//! Version 2: a block of bytes, with what else is to be told as type, length and value.

use super::{BadHeader, LONGEST, Read, canonical};
use isthmus_certs::SpiffeId;
use isthmus_control_api::{ClusterName, ServiceName};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Of our own: the SPIFFE id on whose behalf the stream was opened.
const TYPE_SPIFFE_ID: u8 = 0xE1;
/// Of our own: the cluster that it comes from.
const TYPE_CLUSTER: u8 = 0xE2;
/// The specification's: the host name that the client asked for.
const TYPE_AUTHORITY: u8 = 0x02;

/// Signature, version and command, family, length.
const FIXED: usize = 16;
const VERSION: u8 = 0x20;
const IS_LOCAL: u8 = 0x00;
const IS_PROXY: u8 = 0x01;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;

/// A whole header that says: this connection is the gateway's own, a check of health.
pub const LOCAL: [u8; FIXED] =
    [b'\r', b'\n', b'\r', b'\n', 0, b'\r', b'\n', b'Q', b'U', b'I', b'T', b'\n', 0x20, 0, 0, 0];

/// What an endpoint is told.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The client, if its address is known.
    pub client: Option<SocketAddr>,
    /// The endpoint's own address: what clients connect to is in another network, where its address says nothing here.
    pub endpoint: SocketAddr,
    /// What it is asked for.
    pub service: &'a ServiceName,
    /// The cluster that the client is in.
    pub cluster: &'a ClusterName,
    /// On whose behalf, if that may be believed.
    pub id: Option<&'a SpiffeId>,
}

/// The header: at most 3 KiB.
pub fn encode(about: &About<'_>) -> Vec<u8> {
    let mut header = Vec::with_capacity(256);
    header.extend_from_slice(SIGNATURE);
    header.push(VERSION | IS_PROXY);
    match about.client {
        None => header.extend_from_slice(&[UNSPECIFIED, 0, 0]),
        Some(client) => addresses(&mut header, client, about.endpoint),
    }
    let authority = format!("{}.{}.svc.clusterset.local", about.service.name(), about.service.namespace());
    value(&mut header, TYPE_AUTHORITY, &authority);
    value(&mut header, TYPE_CLUSTER, about.cluster.as_str());
    if let Some(id) = about.id {
        value(&mut header, TYPE_SPIFFE_ID, id.as_str());
    }
    let length = u16::try_from(header.len() - FIXED).unwrap_or(u16::MAX);
    header[FIXED - 2..FIXED].copy_from_slice(&length.to_be_bytes());
    header
}

/// Family, room for the length, both addresses, both ports.
fn addresses(header: &mut Vec<u8>, client: SocketAddr, endpoint: SocketAddr) {
    match (client.ip().to_canonical(), endpoint.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(endpoint)) => {
            header.extend_from_slice(&[TCP_OVER_IPV4, 0, 0]);
            header.extend_from_slice(&client.octets());
            header.extend_from_slice(&endpoint.octets());
        }
        (client, endpoint) => {
            header.extend_from_slice(&[TCP_OVER_IPV6, 0, 0]);
            header.extend_from_slice(&wide(client).octets());
            header.extend_from_slice(&wide(endpoint).octets());
        }
    }
    header.extend_from_slice(&client.port().to_be_bytes());
    header.extend_from_slice(&endpoint.port().to_be_bytes());
}

fn wide(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// A name's or an id's type, length and text: 2 KiB at most.
fn value(header: &mut Vec<u8>, kind: u8, text: &str) {
    let Ok(length) = u16::try_from(text.len()) else { return };
    header.push(kind);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(text.as_bytes());
}

pub(super) fn read(bytes: &[u8]) -> Result<Read, BadHeader> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else { return Ok(Read::More) };
    let [.., version_and_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > LONGEST {
        return Err(BadHeader("longer than 4096 bytes"));
    }
    let needed = match (version_and_command, family) {
        (command, _) if command & 0xF0 != VERSION => return Err(BadHeader("another version than 1 and 2")),
        (command, _) if command == VERSION | IS_LOCAL => 0,
        (command, _) if command != VERSION | IS_PROXY => return Err(BadHeader("neither LOCAL nor PROXY")),
        (_, UNSPECIFIED | UNIX_STREAM) => 0,
        (_, TCP_OVER_IPV4) => 4 + 4 + 2 + 2,
        (_, TCP_OVER_IPV6) => 16 + 16 + 2 + 2,
        _ => return Err(BadHeader("no family of connections")),
    };
    if length < needed {
        return Err(BadHeader("shorter than its addresses"));
    }
    let Some(block) = rest.get(..length) else { return Ok(Read::More) };
    let client = match needed {
        12 => v4(block),
        36 => v6(block),
        _ => None,
    };
    Ok(Read::Whole { length: FIXED + length, client })
}

fn v4(block: &[u8]) -> Option<SocketAddr> {
    let (ip, rest) = block.split_first_chunk::<4>()?;
    let port = rest.get(4..6)?.first_chunk::<2>()?;
    Some(canonical(Ipv4Addr::from(*ip), u16::from_be_bytes(*port)))
}

fn v6(block: &[u8]) -> Option<SocketAddr> {
    let (ip, rest) = block.split_first_chunk::<16>()?;
    let port = rest.get(16..18)?.first_chunk::<2>()?;
    Some(canonical(Ipv6Addr::from(*ip), u16::from_be_bytes(*port)))
}

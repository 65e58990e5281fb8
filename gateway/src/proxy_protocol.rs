//! ● HAProxy's PROXY protocol: who the client is, in front of its bytes (docs/proxy-protocol.md).
//!
//! [`encode`] writes what endpoints are told, in version 2. [`read()`] takes what proxies in front of us tell, in versions 1 and 2.

mod v1;
mod v2;

pub use v2::{About, LOCAL, encode};

use std::net::{IpAddr, SocketAddr};

/// A header of a client's proxy is at most this long. What we know of is far shorter: certificates' fields make the difference.
pub const LONGEST: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// The beginning of a header.
    More,
    /// A whole header, and perhaps bytes of the client behind it.
    Whole {
        /// How long the header is.
        length: usize,
        /// Who the client is; `None`: nobody but the proxy itself, or somebody who is not on an IP network.
        client: Option<SocketAddr>,
    },
}

/// No header of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no header of the PROXY protocol: {0}")]
pub struct BadHeader(&'static str);

/// Reads a header from the first bytes of a connection.
///
/// # Errors
/// They are none, however they go on; or it is longer than [`LONGEST`].
pub fn read(bytes: &[u8]) -> Result<Read, BadHeader> {
    if agree(bytes, v2::SIGNATURE) {
        v2::read(bytes)
    } else if agree(bytes, v1::SIGNATURE) {
        v1::read(bytes)
    } else {
        Err(BadHeader("another beginning"))
    }
}

/// Whether one begins with the other, or would if it went on.
fn agree(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(a, b)| a == b)
}

/// An IPv4 address inside an IPv6 one is an IPv4 address.
fn canonical(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into().to_canonical(), port)
}

#[cfg(test)]
mod tests;

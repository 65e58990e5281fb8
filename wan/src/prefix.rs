//! Which addresses an attachment has.

use std::{fmt, net::IpAddr, str::FromStr};

/// A network, as `192.0.2.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// The text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected a network like 192.0.2.0/24 or 2001:db8::/64")]
pub struct InvalidPrefix {
    /// What was found.
    pub found: String,
}

impl Prefix {
    /// The network of `address` whose first `length` bits count; more bits than it has are all of them.
    pub fn new(address: IpAddr, length: u8) -> Self {
        Self { address, length: length.min(if address.is_ipv4() { 32 } else { 128 }) }
    }

    /// How many bits of the address count.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - u32::from(self.length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Prefix {
    type Err = InvalidPrefix;

    fn from_str(s: &str) -> Result<Self, InvalidPrefix> {
        let parse = || {
            let (address, length) = s.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let length = length.parse().ok().filter(|length| *length <= if address.is_ipv4() { 32 } else { 128 })?;
            Some(Self { address, length })
        };
        parse().ok_or_else(|| InvalidPrefix { found: s.chars().take(100).collect() })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
            ("2001:db8::/64", "2001:db8::ffff", "2001:db8:0:1::"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
        ] {
            let prefix: Prefix = network.parse().unwrap();
            assert!(prefix.contains(inside.parse().unwrap()), "{network}");
            assert!(!prefix.contains(outside.parse().unwrap()), "{network}");
            assert_eq!(prefix.to_string(), network);
        }
        for bad in ["", "192.0.2.0", "192.0.2.0/33", "::/129", "x/8"] {
            assert!(bad.parse::<Prefix>().unwrap_err().to_string().contains(&format!("{bad:?}")));
        }
    }
}

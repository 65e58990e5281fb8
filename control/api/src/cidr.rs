//! Networks of addresses.

use crate::{InvalidName, names};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A network: the addresses that begin with these bits. As text `10.0.0.0/8`; of one address also without its length.
///
/// IPv4 addresses inside IPv6 (`::ffff:10.0.0.0/104`) are IPv4 addresses, here and in what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// No bit behind `bits` is set.
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    /// The network of the first `bits` bits of `address`; all of the address where there are more than it has.
    pub fn around(address: IpAddr, bits: u8) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let bits = bits.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { base: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(v6) => {
                let bits = bits.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { base: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), bits }
            }
        }
    }

    /// The network of this one address.
    pub fn host(address: IpAddr) -> Self {
        Self::around(address, u8::MAX)
    }

    /// Its first address.
    pub const fn base(&self) -> IpAddr {
        self.base
    }

    /// How many leading bits its addresses have in common: 0 to 32, or to 128.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether some address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && Self::around(address, self.bits) == *self
    }
}

impl FromStr for Cidr {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let invalid = |expected| names::invalid(s, expected);
        let malformed = || invalid("a CIDR, as 10.0.0.0/8 or 2001:db8::/32, or an IP address");
        let (address, bits) = match s.split_once('/') {
            None => (s, None),
            Some((address, bits)) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(bits.parse::<u8>().map_err(|_| malformed())?))
            }
            Some(_) => return Err(malformed()),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        // What is written as IPv6 counts its bits as IPv6 does.
        let inner = if address.is_ipv6() && address.to_canonical().is_ipv4() { 96 } else { 0 };
        let bits = bits.unwrap_or(width);
        if bits > width || bits < inner {
            return Err(malformed());
        }
        let cidr = Self::around(address, bits - inner);
        if cidr.base != address.to_canonical() {
            return Err(invalid("a CIDR with no bit set behind its length, as 10.0.0.0/8"));
        }
        Ok(cidr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl TryFrom<String> for Cidr {
    type Error = InvalidName;

    fn try_from(s: String) -> Result<Self, InvalidName> {
        s.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_are_written_one_way() {
        for (text, same) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.9", "10.0.0.9/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), same);
        }
        for bad in
            ["", "10.0.0.0/33", "10.0.0.1/8", "10.0.0/8", "::1/64", "a/8", "10.0.0.0/", "10.0.0.0/+8", "::ffff:0:0/80"]
        {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn all_of_one_family_is_none_of_the_other() {
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("10.0.0.9".parse().unwrap()) && all.contains("::ffff:10.0.0.9".parse().unwrap()));
        assert!(!all.contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn networks_overlap_where_one_is_in_the_other() {
        let overlap = |one: &str, other: &str| one.parse::<Cidr>().unwrap().overlaps(&other.parse().unwrap());
        assert!(overlap("10.0.0.0/8", "10.1.2.0/24") && overlap("10.1.2.0/24", "10.0.0.0/8") && overlap("::1", "::/0"));
        assert!(!overlap("10.0.0.0/24", "10.0.1.0/24") && !overlap("0.0.0.0/0", "::/0"));
    }

    proptest! {
        #[test]
        fn a_network_has_the_addresses_that_begin_as_it_does(v4: [u8; 4], bits in 0u8..=32, other: [u8; 4]) {
            let cidr = Cidr::around(v4.into(), bits);
            prop_assert_eq!(cidr.to_string().parse::<Cidr>().unwrap(), cidr);
            prop_assert!(cidr.contains(v4.into()));
            let common = (u32::from_be_bytes(v4) ^ u32::from_be_bytes(other)).leading_zeros();
            prop_assert_eq!(cidr.contains(other.into()), common >= u32::from(bits));
        }

        #[test]
        fn the_same_of_ipv6(one: u128, bits in 0u8..=128, other: u128) {
            let (one, other) = (Ipv6Addr::from_bits(one | 1 << 127), Ipv6Addr::from_bits(other | 1 << 127));
            let cidr = Cidr::around(one.into(), bits);
            let common = (one.to_bits() ^ other.to_bits()).leading_zeros();
            prop_assert_eq!(cidr.contains(other.into()), common >= u32::from(bits));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f:./]{0,50}|.{0,20}") {
            if let Ok(cidr) = text.parse::<Cidr>() {
                prop_assert_eq!(cidr.to_string().parse::<Cidr>().unwrap(), cidr);
            }
        }
    }
}

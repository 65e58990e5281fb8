//! ● Values by network, found by an address in it.

use crate::Cidr;
use std::{collections::HashMap, net::IpAddr};

/// Values by network. Finding costs one look for each length of prefix that there is, however many networks there are.
#[derive(Debug, Clone)]
pub struct Prefixes<V> {
    by: HashMap<Cidr, V>,
    /// The lengths that there are, the longest first: of IPv4, of IPv6.
    lengths: [Vec<u8>; 2],
}

impl<V> Default for Prefixes<V> {
    fn default() -> Self {
        Self { by: HashMap::new(), lengths: Default::default() }
    }
}

impl<V> Prefixes<V> {
    /// The value of `cidr`, which is made if it is not there.
    pub fn entry(&mut self, cidr: Cidr) -> &mut V
    where
        V: Default,
    {
        let lengths = &mut self.lengths[usize::from(cidr.base().is_ipv6())];
        if let Err(place) = lengths.binary_search_by(|length| cidr.bits().cmp(length)) {
            lengths.insert(place, cidr.bits());
        }
        self.by.entry(cidr).or_default()
    }

    /// The values of all networks that `address` is in, the smallest network's first.
    pub fn of(&self, address: IpAddr) -> impl Iterator<Item = &V> {
        let address = address.to_canonical();
        let lengths = &self.lengths[usize::from(address.is_ipv6())];
        lengths.iter().filter_map(move |&bits| self.by.get(&Cidr::around(address, bits)))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by.is_empty()
    }
}

impl<V: Default> FromIterator<(Cidr, V)> for Prefixes<V> {
    fn from_iter<T: IntoIterator<Item = (Cidr, V)>>(entries: T) -> Self {
        let mut prefixes = Self::default();
        for (cidr, value) in entries {
            *prefixes.entry(cidr) = value;
        }
        prefixes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn an_address_is_in_what_contains_it_the_smallest_first(
            networks in prop::collection::vec((0u8..4, 0u8..=32), 0..20),
            address in 0u8..4,
        ) {
            let at = |n: u8| IpAddr::from([n << 6, n, 0, n]);
            let networks: BTreeSet<_> = networks.into_iter().map(|(n, bits)| Cidr::around(at(n), bits)).collect();
            let prefixes: Prefixes<Option<Cidr>> = networks.iter().map(|&cidr| (cidr, Some(cidr))).collect();
            let mut expected: Vec<_> = networks.into_iter().filter(|cidr| cidr.contains(at(address))).collect();
            expected.sort_by_key(|cidr| std::cmp::Reverse(cidr.bits()));
            let found: Vec<_> = prefixes.of(at(address)).flatten().copied().collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn families_are_apart() {
        let prefixes: Prefixes<u8> =
            [("0.0.0.0/0".parse().unwrap(), 4), ("::/0".parse().unwrap(), 6)].into_iter().collect();
        let of = |address: &str| prefixes.of(address.parse().unwrap()).copied().collect::<Vec<_>>();
        assert_eq!((of("10.0.0.9"), of("::ffff:10.0.0.9"), of("2001:db8::1")), (vec![4], vec![4], vec![6]));
    }
}

//! ● Which addresses the cores have asked for.
//!
//! An address counts once every core has asked for it, until the first one gives it up: a core whose socket is given a connection knows what
//! it is for.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::Arc,
};

/// Where connections to an address are found: there, and for `[::]` mostly also at `0.0.0.0`.
pub(crate) type Places = Arc<[SocketAddr]>;

/// All of them.
#[derive(Debug)]
pub(super) struct Claims {
    cores: usize,
    /// The most places.
    most: usize,
    claimed: HashMap<SocketAddr, Claim>,
    /// The places of all that are claimed.
    places: usize,
    /// Of those that all cores ask for.
    open: usize,
}

#[derive(Debug)]
struct Claim {
    /// How many cores ask for it.
    by: usize,
    places: Places,
    is_open: bool,
}

impl Claims {
    /// None yet.
    pub(super) fn new(cores: usize, most: usize) -> Self {
        Self { cores, most, claimed: HashMap::new(), places: 0, open: 0 }
    }

    /// Another core asks for `address`, whose places are `find`'s; whether all do now. `None`: it cannot be had, because `find` has none, or
    /// there are too many.
    pub(super) fn claim(
        &mut self,
        address: SocketAddr,
        find: impl FnOnce() -> Option<Vec<SocketAddr>>,
    ) -> Option<(Places, bool)> {
        let claim = match self.claimed.entry(address) {
            Entry::Occupied(claim) => claim.into_mut(),
            Entry::Vacant(vacant) => {
                let places = find().filter(|places| self.places + places.len() <= self.most)?;
                self.places += places.len();
                vacant.insert(Claim { by: 0, places: places.into(), is_open: false })
            }
        };
        claim.by += 1;
        let all = claim.by == self.cores;
        if all {
            claim.is_open = true;
            self.open += claim.places.len();
        }
        Some((claim.places.clone(), all))
    }

    /// A core asks for it no more; its places, if it was all cores' until now.
    pub(super) fn release(&mut self, address: SocketAddr) -> Option<Places> {
        let claim = self.claimed.get_mut(&address)?;
        claim.by -= 1;
        let places = claim.places.clone();
        let was_open = std::mem::take(&mut claim.is_open);
        if was_open {
            self.open -= places.len();
        }
        if claim.by == 0 {
            self.places -= places.len();
            self.claimed.remove(&address);
        }
        was_open.then_some(places)
    }

    /// How many places are open.
    pub(super) fn open_places(&self) -> usize {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn it_counts_from_the_last_core_to_the_first() {
        let (mut claims, address) = (Claims::new(2, 10), at("10.0.0.1:80"));
        let claim = |expected: bool, claims: &mut Claims| {
            let (places, all) = claims.claim(address, || Some(vec![address])).unwrap();
            assert_eq!((&*places, all, claims.open_places()), (&[address][..], expected, usize::from(expected)));
        };
        claim(false, &mut claims);
        claim(true, &mut claims);
        assert!(claims.release(address).is_some());
        assert_eq!(claims.open_places(), 0);
        // One core is a table ahead of the other.
        claim(true, &mut claims);
        assert!(claims.release(address).is_some());
        assert!(claims.release(address).is_none());
        assert!(claims.release(address).is_none());
        claim(false, &mut claims);
    }

    #[test]
    fn what_somebody_has_is_looked_at_again_each_time() {
        let (mut claims, address) = (Claims::new(1, 10), at("10.0.0.1:80"));
        assert!(claims.claim(address, || None).is_none());
        assert!(claims.claim(address, || Some(vec![address])).is_some());
        // Whoever comes later does not count: it is ours.
        let mut claims = Claims::new(2, 10);
        assert!(claims.claim(address, || Some(vec![address])).is_some());
        assert!(claims.claim(address, || None).is_some());
    }

    #[test]
    fn beyond_the_bound_there_are_none_until_one_is_given_up() {
        let mut claims = Claims::new(1, 3);
        let both = |port: u16| vec![SocketAddr::from(([0; 16], port)), SocketAddr::from(([0; 4], port))];
        assert!(claims.claim(at("[::]:1"), || Some(both(1))).is_some());
        assert!(claims.claim(at("[::]:2"), || Some(both(2))).is_none());
        assert!(claims.claim(at("10.0.0.1:3"), || Some(vec![at("10.0.0.1:3")])).is_some());
        assert_eq!(claims.open_places(), 3);
        assert_eq!(claims.release(at("[::]:1")).unwrap().len(), 2);
        assert!(claims.claim(at("[::]:2"), || Some(both(2))).is_some());
    }
}

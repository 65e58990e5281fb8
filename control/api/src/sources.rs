//! ● Places that others may take, by the address that they come from: no one address can take them all.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A number of places. Copies of it are the same places.
#[derive(Debug, Clone)]
pub struct Sources(Arc<Places>);

#[derive(Debug)]
struct Places {
    most: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: BTreeMap<IpAddr, usize>,
}

/// A place. It is free again when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it gives it back"]
pub struct Place {
    places: Arc<Places>,
    source: IpAddr,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// There is none at all.
    #[error("all places are taken")]
    All,
    /// This address has all that one address may have.
    #[error("one address has all the places that it may have")]
    Source,
}

impl Sources {
    /// `most` places, of which one address may have `each`.
    pub fn new(most: usize, each: usize) -> Self {
        Self(Arc::new(Places { most, each, taken: Mutex::default() }))
    }

    /// A place for somebody at this address. An IPv6 network of 64 bits counts as one address, as it is one owner's.
    ///
    /// # Errors
    /// There is none, for anybody or for this one.
    pub fn take(&self, from: IpAddr) -> Result<Place, Full> {
        let source = source(from);
        let mut taken = self.0.lock();
        if taken.all >= self.0.most {
            return Err(Full::All);
        }
        let by = taken.by.entry(source).or_default();
        if *by >= self.0.each {
            return Err(Full::Source);
        }
        *by += 1;
        taken.all += 1;
        Ok(Place { places: self.0.clone(), source })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.0.lock().all
    }
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all = taken.all.saturating_sub(1);
        let left = taken.by.get_mut(&self.source).map(|by| {
            *by = by.saturating_sub(1);
            *by
        });
        if left == Some(0) {
            taken.by.remove(&self.source);
        }
    }
}

/// Whose it is.
fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_gets_its_share_and_leaves_the_rest() {
        let sources = Sources::new(3, 2);
        let [one, two] = [(); 2].map(|()| sources.take(at("192.0.2.1")).unwrap());
        assert_eq!(sources.take(at("192.0.2.1")).unwrap_err(), Full::Source);
        assert_eq!(sources.take(at("::ffff:192.0.2.1")).unwrap_err(), Full::Source, "the same one");
        let _other = sources.take(at("192.0.2.2")).unwrap();
        assert_eq!(sources.take(at("192.0.2.3")).unwrap_err(), Full::All);
        drop(one);
        let _again = sources.take(at("192.0.2.1")).unwrap();
        drop(two);
        assert_eq!(sources.taken(), 2);
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let sources = Sources::new(9, 1);
        let _one = sources.take(at("2001:db8::1")).unwrap();
        assert_eq!(sources.take(at("2001:db8::ffff:2")).unwrap_err(), Full::Source);
        let _other = sources.take(at("2001:db8:0:1::1")).unwrap();
    }

    proptest! {
        #[test]
        fn never_more_than_there_are_and_all_come_back(steps in prop::collection::vec((0u8..4, any::<bool>()), 0..200)) {
            let (sources, mut held) = (Sources::new(8, 3), BTreeMap::<u8, Vec<Place>>::new());
            for (who, takes) in steps {
                let mine = held.entry(who).or_default();
                if takes {
                    mine.extend(sources.take([192, 0, 2, who].into()));
                } else {
                    mine.pop();
                }
                prop_assert!(mine.len() <= 3);
                prop_assert_eq!(sources.taken(), held.values().map(Vec::len).sum::<usize>());
                prop_assert!(sources.taken() <= 8);
            }
            drop(held);
            prop_assert_eq!(sources.taken(), 0);
            prop_assert!(sources.0.lock().by.is_empty(), "nothing is remembered of who has left");
        }
    }
}

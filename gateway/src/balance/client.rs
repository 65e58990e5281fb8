//! ● Which endpoint, or cluster, a client stays with: the one that scores highest for it (rendezvous hashing).
//!
//! Nothing is remembered. Whoever works it out from the same client and the same choice comes to the same: every core, every gateway,
//! and those that start later. When one of `n` is gone, only its own clients go elsewhere, evenly; when one comes, it takes an `n`th of
//! each other's.

use std::net::{IpAddr, SocketAddr};

/// A client, as far as it is told from others: by its address without the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client(u64);

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// At random, by this number.
    Random(u64),
    /// The same as ever for this client.
    For(Client),
}

impl Draw {
    /// Who draws.
    pub fn client(self) -> Client {
        match self {
            Self::Random(random) => Client::any(random),
            Self::For(client) => client,
        }
    }
}

/// What can be chosen, as far as it is told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat(u64);

impl Client {
    /// Whoever comes from there.
    pub fn at(address: IpAddr) -> Self {
        Self(hash(&octets(address)))
    }

    /// Nobody: drawn at random.
    pub fn any(random: u64) -> Self {
        Self(random)
    }

    /// How much it wants to go there: evenly distributed, and another number for each client and seat.
    pub fn score(self, seat: Seat) -> u64 {
        mix(self.0 ^ seat.0.rotate_left(32))
    }

    /// The same as a part of the whole, 0 to 1.
    pub fn part(self, seat: Seat) -> f64 {
        (self.score(seat) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How far away it is from there, where the seat has this share of all clients; above 0. The nearest takes it: each its share.
    pub fn distance(self, seat: Seat, share: u64) -> f64 {
        // The upper 53 bits, as many as a number between 0 and 1 has, and never 0 itself.
        let part = ((self.score(seat) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -part.ln() / share as f64
    }
}

impl Seat {
    /// An endpoint's.
    pub fn of_endpoint(address: SocketAddr) -> Self {
        let [high, low] = address.port().to_be_bytes();
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&octets(address.ip()));
        bytes[16..].copy_from_slice(&[high, low]);
        Self(hash(&bytes))
    }

    /// Whatever has this name.
    pub fn of_name(name: &str) -> Self {
        Self(hash(name.as_bytes()))
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// FNV-1a, and SplitMix64's end: the same everywhere and for ever. Clients that pick their address to come to one endpoint gain nothing.
fn hash(bytes: &[u8]) -> u64 {
    mix(bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn client(n: u32) -> Client {
        Client::at(Ipv4Addr::from_bits(0x0a00_0000 + n).into())
    }

    fn seats(count: u16) -> Vec<Seat> {
        (0..count).map(|n| Seat::of_endpoint(([10, 1, 0, 1], 8000 + n).into())).collect()
    }

    fn best(client: Client, seats: &[Seat]) -> Seat {
        *seats.iter().max_by_key(|seat| client.score(**seat)).unwrap()
    }

    /// Other gateways, of other versions, come to the same.
    #[test]
    fn scores_are_what_they_always_were() {
        let [client, mapped] = ["10.0.0.9", "::ffff:10.0.0.9"].map(|text| Client::at(text.parse().unwrap()));
        assert_eq!(client, mapped);
        let endpoint = Seat::of_endpoint("10.1.0.1:8080".parse().unwrap());
        assert_eq!([client.score(endpoint), client.score(Seat::of_name("east"))], SCORES);
    }

    const SCORES: [u64; 2] = [0xe8da_4bf1_2be0_6ee4, 0x5e67_5caf_0f8f_4b5a];

    #[test]
    fn clients_are_spread_evenly() {
        let seats = seats(7);
        for seat in &seats {
            let count = (0..7000).filter(|&n| best(client(n), &seats) == *seat).count();
            assert!((850..1150).contains(&count), "{count} of 7000 clients at one of 7 endpoints");
        }
    }

    #[test]
    fn shares_are_kept() {
        let shares = [("a", 1), ("b", 2), ("c", 7)];
        let nearest = |client: Client| {
            let distance = |&(name, share): &(&str, u64)| client.distance(Seat::of_name(name), share);
            shares.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap()
        };
        for (name, share) in shares {
            let count = (0..10_000).filter(|&n| nearest(client(n)).0 == name).count();
            let expected = share as usize * 1000;
            assert!(count.abs_diff(expected) < 200, "{name}: {count}, expected about {expected}");
        }
    }

    proptest! {
        /// Only the clients of what goes or comes are moved.
        #[test]
        fn nobody_else_is_moved(addresses: [u32; 16], count in 2u16..20, gone in 0u16..20) {
            let (all, gone) = (seats(count), usize::from(gone % count));
            let mut rest = all.clone();
            rest.remove(gone);
            for address in addresses {
                let client = client(address % (1 << 24));
                let before = best(client, &all);
                prop_assert!(before == all[gone] || before == best(client, &rest));
            }
        }

        #[test]
        fn a_larger_share_is_never_farther(address: u32, name in "[a-z]{1,8}", share in 1u64..1000) {
            let (client, seat) = (client(address % (1 << 24)), Seat::of_name(&name));
            let distance = client.distance(seat, share);
            prop_assert!(distance > 0.0 && distance.is_finite());
            prop_assert!(client.distance(seat, share + 1) < distance);
        }
    }
}

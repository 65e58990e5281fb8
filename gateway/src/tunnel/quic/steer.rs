//! ● Which core a datagram belongs to: the first two bytes of its destination connection id, modulo the number of cores.
//!
//! The kernel reads them with a small program ([`program`]) and hands the datagram to that core's socket, whatever address it comes
//! from: a peer whose NAT has moved it still reaches the core that has its tunnel.

use quinn::{ConnectionId, ConnectionIdGenerator};
use socket2::SockFilter;
use std::time::Duration;

/// Bytes of the connection ids that we give out.
const LENGTH: usize = 12;

/// Makes connection ids that lead to one core.
#[derive(Debug, Clone, Copy)]
pub struct CoreIds {
    core: u16,
    cores: u16,
}

impl CoreIds {
    /// Ids that lead to core `core` of `cores`.
    pub fn new(core: usize, cores: usize) -> Self {
        let fit = |n| u16::try_from(n).unwrap_or(u16::MAX);
        Self { core: fit(core), cores: fit(cores).max(1) }
    }

    /// Puts the core into two random bytes.
    fn mark(self, random: [u8; 2]) -> [u8; 2] {
        let random = u16::from_be_bytes(random);
        let marked = (random - random % self.cores).checked_add(self.core);
        // Above the highest multiple of `cores` there may be no room: then one lower.
        marked.unwrap_or_else(|| (random - random % self.cores - self.cores) + self.core).to_be_bytes()
    }
}

impl ConnectionIdGenerator for CoreIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = random::<LENGTH>();
        let mark = self.mark([id[0], id[1]]);
        id[..2].copy_from_slice(&mark);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The connection id that a dialler gives the peer for its first datagrams: the dialler's core leads to the peer's of the same
/// number, modulo how many that has, so that the tunnels of many cores spread.
pub fn first_id(core: usize) -> ConnectionId {
    let mut id = random::<16>();
    id[..2].copy_from_slice(&u16::try_from(core).unwrap_or(u16::MAX).to_be_bytes());
    ConnectionId::new(&id)
}

/// Classic BPF on the UDP payload: the number of the core whose socket gets it.
pub fn program(cores: usize) -> [SockFilter; 7] {
    let cores = u32::try_from(cores.max(1)).unwrap_or(u32::MAX);
    [
        // The highest bit of byte 0: a long header (RFC 8999 section 5.1) has the id at byte 6, a short one at byte 1.
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(JUMP_IF_SET, 0, 2, 0x80),
        SockFilter::new(LOAD_TWO_BYTES, 0, 0, 6),
        SockFilter::new(JUMP, 0, 0, 1),
        SockFilter::new(LOAD_TWO_BYTES, 0, 0, 1),
        SockFilter::new(MODULO, 0, 0, cores),
        SockFilter::new(RETURN_IT, 0, 0, 0),
    ]
}

/// Instructions of classic BPF, as linux/filter.h has them. A load from behind the datagram's end returns 0.
const LOAD_BYTE: u16 = 0x30;
/// See [`LOAD_BYTE`].
const LOAD_TWO_BYTES: u16 = 0x28;
/// See [`LOAD_BYTE`].
const JUMP_IF_SET: u16 = 0x45;
/// See [`LOAD_BYTE`].
const JUMP: u16 = 0x05;
/// See [`LOAD_BYTE`].
const MODULO: u16 = 0x94;
/// See [`LOAD_BYTE`].
const RETURN_IT: u16 = 0x16;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness there is no TLS either: an id of zeros is the least problem then.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_leads_to_its_core(cores in 1usize..1025, core in 0usize..1025, random: [u8; 2]) {
            prop_assume!(core < cores);
            let ids = CoreIds::new(core, cores);
            prop_assert_eq!(usize::from(u16::from_be_bytes(ids.mark(random))) % cores, core);
        }
    }
}

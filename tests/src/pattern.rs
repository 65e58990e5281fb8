//! Bytes that both ends can make, and digests of what arrived.

use sha2::{Digest as _, Sha256};

/// The period: a prime, so that no frame, record or buffer that is lost, doubled or swapped leaves the bytes as they were.
const PERIOD: usize = 65_521;

/// An endless sequence of bytes, set by its seed.
#[derive(Debug, Clone)]
pub struct Pattern {
    period: Vec<u8>,
    at: usize,
}

impl Pattern {
    /// The sequence of `seed`, from its beginning.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        let period = std::iter::repeat_with(|| split_mix(&mut state).to_le_bytes()).flatten().take(PERIOD).collect();
        Self { period, at: 0 }
    }

    /// Fills `buffer` with what comes next.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let mut rest = buffer;
        while !rest.is_empty() {
            let n = rest.len().min(PERIOD - self.at);
            let (head, tail) = rest.split_at_mut(n);
            head.copy_from_slice(&self.period[self.at..self.at + n]);
            self.at = (self.at + n) % PERIOD;
            rest = tail;
        }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.fill(&mut bytes);
        bytes
    }

    /// The digest of the first `length` bytes of `seed`'s sequence.
    pub fn digest(seed: u64, length: u64) -> Digest {
        let (mut pattern, mut digester) = (Self::new(seed), Digester::default());
        let (mut buffer, mut left) = (vec![0; 64 * 1024], length);
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            pattern.fill(&mut buffer[..n]);
            digester.update(&buffer[..n]);
            left -= n as u64;
        }
        digester.finish()
    }
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Takes bytes piece by piece and ends as a [`Digest`].
#[derive(Debug, Default, Clone)]
pub struct Digester(Sha256);

impl Digester {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// SplitMix64: short, and every seed gives another sequence.
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_however_they_are_taken() {
        let whole = Pattern::new(7).take(200_000);
        let mut pieces = Pattern::new(7);
        let pieced: Vec<u8> = [1, 65_520, 65_521, 3, 68_955].into_iter().flat_map(|n| pieces.take(n)).collect();
        assert!(whole == pieced);
        assert_ne!(Pattern::new(8).take(64), whole[..64]);
    }

    #[test]
    fn a_digest_is_that_of_the_bytes() {
        let mut digester = Digester::default();
        digester.update(&Pattern::new(7).take(200_000));
        assert_eq!(Pattern::digest(7, 200_000), digester.finish());
        assert_ne!(Pattern::digest(7, 200_000), Pattern::digest(7, 199_999));
    }
}

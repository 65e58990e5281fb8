//! ● Ports at which connections may have joined the local hop, told without asking the kernel.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words of bits.
const WORDS: usize = 16;

/// Ports that were ever added, and some that were not: one bit is for 64 ports.
#[derive(Debug, Default)]
pub(super) struct Ports([AtomicU64; WORDS]);

impl Ports {
    /// Of each port, from now on.
    pub(super) fn add_all(&self) {
        self.0.iter().for_each(|word| word.store(u64::MAX, Relaxed));
    }

    /// [`Self::has`] it from now on.
    pub(super) fn add(&self, port: u16) {
        let (word, bit) = self.place(port);
        // Written once, and read for each connection.
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, Relaxed);
        }
    }

    /// Whether it may have been added. If not, it has not been.
    pub(super) fn has(&self, port: u16) -> bool {
        let (word, bit) = self.place(port);
        word.load(Relaxed) & bit != 0
    }

    fn place(&self, port: u16) -> (&AtomicU64, u64) {
        let place = usize::from(port) % (WORDS * 64);
        (&self.0[place / 64], 1 << (place % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_was_added_is_there(ports in prop::collection::vec(any::<u16>(), 0..50)) {
            let all = Ports::default();
            for (count, port) in ports.iter().enumerate() {
                prop_assert_eq!(all.has(*port), ports[..count].iter().any(|before| before % 1024 == port % 1024));
                all.add(*port);
            }
            prop_assert!(ports.iter().all(|port| all.has(*port)));
            all.add_all();
            prop_assert!((0..=u16::MAX).all(|port| all.has(port)));
        }
    }
}

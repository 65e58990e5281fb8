//! ● Who leaves unread what was redirected to him. One that does so for seconds is slow, or reads in a way that redirected bytes do not
//! come to (docs/local-hop.md, limits): then he never sees them, and nothing else tells.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr};

/// Whoever does not read, as far as the streams go that are looked at: one of sixteen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The endpoint; none: clients.
    pub endpoint: Option<SocketAddr>,
    /// Streams that stand still so.
    pub streams: u64,
    /// Seconds that the first of them has.
    pub seconds: u64,
}

/// Seconds after which it is worth a word.
const LONG: u64 = 5;

/// What lay unread at one socket's other end, from second to second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lying {
    seconds: u64,
    /// Bytes written so far, and what of them lay unread.
    at: (u64, u32),
}

impl Lying {
    /// A second later.
    pub(super) fn beat(self, written: u64, unread: u32) -> Self {
        let at = (written, unread);
        // As much as before of the same: nothing was read.
        let seconds = if unread > 0 && at == self.at { self.seconds + 1 } else { 0 };
        Self { seconds, at }
    }

    /// How long nothing was read, if it was long.
    pub(super) const fn seconds(self) -> Option<u64> {
        if self.seconds >= LONG { Some(self.seconds) } else { None }
    }
}

/// One of each endpoint, and one of all clients.
pub(crate) fn sum(all: impl IntoIterator<Item = Unread>) -> Vec<Unread> {
    let mut by: BTreeMap<Option<SocketAddr>, Unread> = BTreeMap::new();
    for Unread { endpoint, streams, seconds } in all {
        let sum = by.entry(endpoint).or_insert(Unread { endpoint, streams: 0, seconds: 0 });
        sum.streams += streams;
        sum.seconds = sum.seconds.max(seconds);
    }
    by.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_for_long_is_told_until_something_moves() {
        let mut lying = Lying::default();
        for second in 0..=LONG {
            assert_eq!(lying.seconds(), None, "second {second}");
            lying = lying.beat(1000, 1000);
        }
        assert_eq!(lying.seconds(), Some(LONG));
        assert_eq!(lying.beat(1000, 1000).seconds(), Some(LONG + 1));
        for moved in [lying.beat(1000, 999), lying.beat(1001, 1001), lying.beat(1000, 0)] {
            assert_eq!(moved.seconds(), None, "{moved:?}");
        }
    }

    /// A stream between two messages has nothing unread, however long that is.
    #[test]
    fn silence_is_not_lying() {
        let silent = (0..100).fold(Lying::default(), |lying, _| lying.beat(1000, 0));
        assert_eq!(silent.seconds(), None);
    }

    #[test]
    fn streams_are_added_by_endpoint() {
        let at = |port, streams, seconds| {
            let endpoint = (port > 0).then(|| SocketAddr::from(([10, 0, 0, 2], port)));
            Unread { endpoint, streams, seconds }
        };
        let all = [at(80, 1, 7), at(0, 1, 5), at(80, 2, 9), at(81, 1, 6)];
        assert_eq!(sum(all), [at(0, 1, 5), at(80, 3, 9), at(81, 1, 6)]);
    }
}

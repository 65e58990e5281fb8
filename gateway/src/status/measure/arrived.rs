//! ● Bytes as they arrive.

use super::MOST_SECONDS;
use std::time::Duration;

/// Bytes as they arrived. Times are since the load began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrived {
    /// How many.
    pub bytes: u64,
    /// The first of them, and the last.
    pub between: Option<(Duration, Duration)>,
    /// How many in each second.
    pub by_second: Vec<u64>,
}

impl Arrived {
    /// More of them, which came in since `from`.
    pub(crate) fn note(&mut self, bytes: u64, from: Duration, at: Duration) {
        if bytes == 0 {
            return;
        }
        let (first, _) = *self.between.get_or_insert((from, at));
        self.between = Some((first, at));
        self.bytes += bytes;
        let second = at.as_secs().min(MOST_SECONDS) as usize;
        if self.by_second.len() <= second {
            self.by_second.resize(second + 1, 0);
        }
        self.by_second[second] += bytes;
    }

    /// These as well.
    pub(super) fn add(&mut self, others: &Self) {
        self.bytes += others.bytes;
        self.between = match (self.between, others.between) {
            (Some((from, to)), Some((first, last))) => Some((from.min(first), to.max(last))),
            (one, other) => one.or(other),
        };
        if self.by_second.len() < others.by_second.len() {
            self.by_second.resize(others.by_second.len(), 0);
        }
        self.by_second.iter_mut().zip(&others.by_second).for_each(|(sum, bytes)| *sum += bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_is_in_one_second(pieces in prop::collection::vec((0u64..1_000_000, 0u64..20_000), 0..50)) {
            let (mut one, mut other, mut all) = (Arrived::default(), Arrived::default(), Arrived::default());
            for (at, &(bytes, millis)) in pieces.iter().enumerate() {
                let time = Duration::from_millis(millis);
                [&mut one, &mut other][at % 2].note(bytes, time, time);
            }
            all.add(&one);
            all.add(&other);
            prop_assert_eq!(all.bytes, pieces.iter().map(|(bytes, _)| bytes).sum::<u64>());
            prop_assert_eq!(all.by_second.iter().sum::<u64>(), all.bytes);
            prop_assert!(all.by_second.len() as u64 <= MOST_SECONDS + 1);
            prop_assert_eq!(all.between.is_some(), all.bytes > 0);
        }
    }
}

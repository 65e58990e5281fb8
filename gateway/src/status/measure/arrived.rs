//! ● Bytes as they arrive.

use super::MOST_SECONDS;
use std::time::Duration;

/// In less, what lay in buffers is more than what the path carries.
const SHORTEST: Duration = Duration::from_millis(100);

/// Bytes as they arrived. Times are since the load began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrived {
    /// How many.
    pub bytes: u64,
    /// The first of them, and the last.
    pub between: Option<(Duration, Duration)>,
    /// When the first piece was there, and its bytes; of several streams, the first pieces of all. How long it had been coming, nobody saw.
    pub first: Option<(Duration, u64)>,
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
        self.first.get_or_insert((at, bytes));
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
        self.first = match (self.first, others.first) {
            (Some((at, bytes)), Some((also_at, more))) => Some((at.min(also_at), bytes + more)),
            (one, other) => one.or(other),
        };
        if self.by_second.len() < others.by_second.len() {
            self.by_second.resize(others.by_second.len(), 0);
        }
        self.by_second.iter_mut().zip(&others.by_second).for_each(|(sum, bytes)| *sum += bytes);
    }

    /// Bytes a second, of what came behind the first pieces; `None` where that took less than [`SHORTEST`].
    pub(super) fn rate(&self) -> Option<f64> {
        let ((begins, first), (_, ends)) = (self.first?, self.between?);
        let took = ends.saturating_sub(begins);
        (took >= SHORTEST).then(|| self.bytes.saturating_sub(first) as f64 / took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rate_is_of_what_came_behind_the_first_piece() {
        let (mut one, ms) = (Arrived::default(), Duration::from_millis);
        assert_eq!(one.rate(), None);
        one.note(1_000_000, ms(20), ms(20));
        assert_eq!(one.rate(), None, "it came in no time");
        one.note(100, ms(119), ms(119));
        assert_eq!(one.rate(), None, "99 ms are too short");
        one.note(100, ms(120), ms(120));
        assert_eq!(one.rate(), Some(2000.0));
        let mut other = Arrived::default();
        // A report: it has been coming for 500 ms.
        other.note(1_000_000, ms(10), ms(510));
        other.note(300, ms(520), ms(520));
        one.add(&other);
        assert_eq!(one.rate(), Some(1000.0), "500 bytes from 20 ms to 520 ms");
    }

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

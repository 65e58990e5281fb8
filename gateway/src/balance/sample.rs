//! ● Two different items at random, of those that fit, each pair equally likely.

/// Draws from a longer list before it is searched through.
const DRAWS: u32 = 8;

/// Two different indexes of `items` that fit; the same one twice if only one does, `None` if none does.
pub(super) fn two<T>(items: &[T], random: u64, fits: impl Fn(&T) -> bool) -> Option<(usize, usize)> {
    let mut random = Random(random);
    // In a short list drawing would often hit the same one.
    let drawn = if items.len() > DRAWS as usize { drawn(items, &mut random, &fits) } else { None };
    drawn.or_else(|| searched(items, &mut random, &fits))
}

/// By drawing and throwing away what does not fit: at most half of the endpoints are ejected, so this nearly always succeeds.
fn drawn<T>(items: &[T], random: &mut Random, fits: impl Fn(&T) -> bool) -> Option<(usize, usize)> {
    let mut first = None;
    for _ in 0..DRAWS {
        let index = random.below(items.len());
        match first {
            _ if !fits(&items[index]) => {}
            None => first = Some(index),
            Some(first) if first != index => return Some((first, index)),
            Some(_) => {}
        }
    }
    None
}

/// By going through all of them, keeping each new one with the probability that makes all pairs alike (reservoir sampling).
fn searched<T>(items: &[T], random: &mut Random, fits: impl Fn(&T) -> bool) -> Option<(usize, usize)> {
    let (mut kept, mut seen) = ([0; 2], 0);
    for (index, _) in items.iter().enumerate().filter(|(_, item)| fits(item)) {
        seen += 1;
        let place = if seen <= 2 { seen - 1 } else { random.below(seen) };
        if let Some(kept) = kept.get_mut(place) {
            *kept = index;
        }
    }
    let [one, other] = kept;
    match seen {
        0 => None,
        1 => Some((one, one)),
        // The first found would always come first otherwise, and win every draw.
        _ if random.below(2) == 0 => Some((other, one)),
        _ => Some((one, other)),
    }
}

/// SplitMix64: makes several numbers of the one that the caller gave.
struct Random(u64);

impl Random {
    /// Evenly 0 to `bound` - 1.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The high half of the product: below `bound`, so it fits.
        ((u128::from(z) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_fit_and_differ_where_they_can(items in proptest::collection::vec(any::<bool>(), 0..40), random: u64) {
            let fitting = items.iter().filter(|&&fits| fits).count();
            match two(&items, random, |&fits| fits) {
                None => prop_assert_eq!(fitting, 0),
                Some((one, other)) => {
                    prop_assert!(items[one] && items[other]);
                    prop_assert_eq!(one == other, fitting == 1);
                }
            }
        }
    }

    #[test]
    fn every_item_is_as_likely_in_either_place() {
        for n in [5_usize, 20] {
            let (rounds, mut firsts, mut seconds) = (40_000_u64, vec![0_u64; n], vec![0_u64; n]);
            for random in 0..rounds {
                // Every third item does not fit.
                let items: Vec<usize> = (0..n).collect();
                let (one, other) = two(&items, random << 17, |i| i % 3 != 0).unwrap();
                firsts[one] += 1;
                seconds[other] += 1;
            }
            let expected = rounds / (0..n).filter(|i| i % 3 != 0).count() as u64;
            for counts in [firsts, seconds] {
                for (_, &count) in counts.iter().enumerate().filter(|(i, _)| i % 3 != 0) {
                    assert!(count.abs_diff(expected) < expected / 10, "{counts:?}, expected {expected} each");
                }
            }
        }
    }
}

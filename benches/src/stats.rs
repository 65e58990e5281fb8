//! Median and spread.

/// Median and range of a metric's samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle value, or the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many samples there are.
    pub count: usize,
}

impl Spread {
    /// Of `values` in any order; none of an empty slice.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max, count: sorted.len() })
    }

    /// How far the range reaches from the median, in percent of it: the larger side.
    pub fn percent(&self) -> f64 {
        if self.median == 0.0 {
            return 0.0;
        }
        (self.max - self.median).max(self.median - self.min) / self.median * 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_even_single_and_empty() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0, count: 3 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[7.0]), Some(Spread { median: 7.0, min: 7.0, max: 7.0, count: 1 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn percent_is_of_the_farther_end() {
        assert_eq!(Spread::of(&[90.0, 100.0, 130.0]).unwrap().percent(), 30.0);
        assert_eq!(Spread::of(&[0.0]).unwrap().percent(), 0.0);
    }

    #[test]
    fn a_lock_out_is_the_largest_value() {
        assert_eq!(Spread::of(&[1.0, f64::INFINITY, 2.0]).unwrap().median, 2.0);
    }
}

//! ● How long things took: percentiles, and a histogram for people.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::{fmt, time::Duration};

/// The longest time that is told apart, in microseconds: longer than any round may take.
const LONGEST: u64 = 60_000_000;
/// Rows of the histogram.
const ROWS: u64 = 12;
/// The longest bar, in characters.
const BAR: u64 = 40;

/// What percentiles stand under in a table; the first column says of what they are.
pub(super) const HEADINGS: [&str; 7] = ["MILLISECONDS", "MIN", "P50", "P90", "P99", "P99.9", "MAX"];

/// A row of a histogram: up to so many milliseconds, so many times.
pub(super) type Row = (f64, u64);

/// How long something took, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Times {
    min: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Times {
    /// Of what was recorded.
    pub(super) fn of(times: &Histogram<u64>) -> Self {
        let at = |quantile| millis(times.value_at_quantile(quantile));
        let (min, max) = (millis(times.min()), millis(times.max()));
        Self { min, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }

    /// A row of a table.
    pub(super) fn cells(&self, name: &str) -> [String; 7] {
        let cell = |value: f64| format!("{value:.2}");
        let [min, p50, p90, p99, p999, max] = [self.min, self.p50, self.p90, self.p99, self.p999, self.max].map(cell);
        [name.to_owned(), min, p50, p90, p99, p999, max]
    }
}

/// What was recorded, in microseconds.
#[expect(clippy::expect_used, reason = "the bounds and digits are constants, and every test takes them")]
pub(super) fn histogram(times: impl Iterator<Item = Duration>) -> Histogram<u64> {
    let mut found = Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds that a histogram takes");
    times.for_each(|time| found.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST)));
    found
}

/// The upper ends of rows that grow by the same factor each, and how many are in each.
pub(super) fn rows(times: &Histogram<u64>) -> Vec<Row> {
    let (low, high) = (times.min().max(1), times.max().max(1));
    let factor = (high as f64 / low as f64).powf(1.0 / ROWS as f64).max(1.02);
    let (mut rows, mut from, mut end) = (Vec::new(), 0, low as f64);
    loop {
        end *= factor;
        let is_last = rows.len() as u64 + 1 >= ROWS || end >= high as f64;
        let to = if is_last { high } else { end as u64 };
        // Times so short are not told apart: the next row has them.
        if to >= from {
            rows.push((millis(to), times.count_between(from, to)));
            from = times.next_non_equivalent(to);
        }
        if is_last {
            return rows;
        }
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

/// A histogram's rows with a bar each.
pub(super) struct Bars<'a>(pub(super) &'a [Row]);

impl fmt::Display for Bars<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.0.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
        for (to, count) in self.0 {
            let bar = "#".repeat(usize::try_from((count * BAR).div_ceil(most)).unwrap_or(0));
            writeln!(f, "{}", format!("{to:>10.2} ms  {count:>8}  {bar}").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_row_without_a_bar_ends_with_its_number() {
        assert_eq!(Bars(&[(1.0, 0), (2.0, 1)]).to_string().lines().next(), Some("      1.00 ms         0"));
    }

    proptest! {
        #[test]
        fn every_round_is_in_one_row(micros in prop::collection::vec(1u64..20_000_000, 1..200)) {
            let times = histogram(micros.iter().map(|&micros| Duration::from_micros(micros)));
            let rows = rows(&times);
            prop_assert!(rows.len() as u64 <= ROWS);
            prop_assert_eq!(rows.iter().map(|(_, count)| count).sum::<u64>(), micros.len() as u64);
            prop_assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "{:?}", rows);
        }
    }
}

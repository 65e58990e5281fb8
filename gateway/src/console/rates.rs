//! ● What of late: counters that only grow become rates, and histograms percentiles, over about ten seconds.

use crate::metrics::streams::StreamTotals;
use serde::Serialize;
use std::time::Duration;

/// How fast the past is forgotten: after so long, it counts e times less.
const MEMORY: Duration = Duration::from_secs(10);
/// Fewer answers than this in memory say nothing of how long they take.
const FEWEST: f64 = 0.5;
/// Buckets of a histogram.
const BUCKETS: usize = 16;

/// What was counted so far, of one service or link.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Totals {
    opened: u64,
    failed: u64,
    out: u64,
    back: u64,
    active: u64,
    first_byte: [u64; BUCKETS],
}

/// What of late, of one service or link.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    last: Option<Totals>,
    /// What is remembered, and of how many seconds.
    seconds: f64,
    opened: f64,
    failed: f64,
    out: f64,
    back: f64,
    first_byte: [f64; BUCKETS],
}

/// What a window says, rounded so that it comes to rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Streams that are open.
    pub(super) active: u64,
    /// Streams begun a second.
    pub(super) opened_s: f64,
    /// Streams a second that were refused, timed out or cut off.
    pub(super) failed_s: f64,
    /// Bytes a second that left this gateway towards the peer or, of a service, went from client to endpoint.
    pub(super) out_s: f64,
    /// Bytes a second the other way.
    pub(super) back_s: f64,
    /// From a stream's beginning to the endpoint's first byte, in milliseconds: half of the streams took no longer.
    pub(super) p50_ms: Option<f64>,
    /// The same of 99 in a hundred.
    pub(super) p99_ms: Option<f64>,
}

impl Totals {
    /// Adds what was counted of streams; `swapped` where what goes up comes from the other side.
    pub(super) fn add(&mut self, of: &StreamTotals, swapped: bool) {
        let (out, back) = if swapped { (of.down, of.up) } else { (of.up, of.down) };
        self.opened += of.opened;
        self.failed += of.failed();
        self.out += out;
        self.back += back;
        self.active += of.active();
        for (sum, (_, count)) in self.first_byte.iter_mut().zip(of.first_byte.buckets()) {
            *sum += count;
        }
    }
}

impl Window {
    /// Takes what was counted by now, `elapsed` after the last time. The first time says nothing of late.
    pub(super) fn take(&mut self, totals: Totals, elapsed: Duration) {
        let (Some(last), Some(totals)) = (self.last.replace(totals), &self.last) else { return };
        let kept = (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        let add = |sum: &mut f64, was: u64, is: u64| *sum = *sum * kept + is.saturating_sub(was) as f64;
        add(&mut self.opened, last.opened, totals.opened);
        add(&mut self.failed, last.failed, totals.failed);
        add(&mut self.out, last.out, totals.out);
        add(&mut self.back, last.back, totals.back);
        for (sum, (was, is)) in self.first_byte.iter_mut().zip(last.first_byte.into_iter().zip(totals.first_byte)) {
            add(sum, was, is);
        }
        self.seconds = self.seconds * kept + elapsed.as_secs_f64();
    }

    /// What it says. `bounds` are the upper bounds of the buckets in seconds, the last one infinite.
    pub(super) fn rates(&self, bounds: &[f64]) -> Rates {
        let rate = |sum: f64| if self.seconds > 0.0 { rounded(sum / self.seconds) } else { 0.0 };
        let percentile = |part| quantile(bounds, &self.first_byte, part).map(|seconds| rounded(seconds * 1e3));
        Rates {
            active: self.last.as_ref().map_or(0, |last| last.active),
            opened_s: rate(self.opened),
            failed_s: rate(self.failed),
            out_s: rate(self.out),
            back_s: rate(self.back),
            p50_ms: percentile(0.5),
            p99_ms: percentile(0.99),
        }
    }
}

/// To three digits, and nothing below a hundredth: what decays ends.
fn rounded(value: f64) -> f64 {
    if value < 0.01 {
        return 0.0;
    }
    // Above a hundredth the exponent is at least -2, and of a finite number at most 308.
    let digits = 2 - value.log10().floor() as i32;
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// The value that `part` of what was counted does not exceed, taken to be spread evenly within its bucket.
fn quantile(bounds: &[f64], counts: &[f64], part: f64) -> Option<f64> {
    let all: f64 = counts.iter().sum();
    if all < FEWEST {
        return None;
    }
    let (mut below, mut lower) = (0.0, 0.0);
    for (&bound, &count) in bounds.iter().zip(counts) {
        if below + count >= part * all && count > 0.0 {
            // What is beyond all bounds is at least the last of them.
            let inside = (part * all - below) / count;
            return Some(if bound.is_finite() { lower + (bound - lower) * inside } else { lower });
        }
        below += count;
        lower = bound;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: [f64; 3] = [0.001, 0.01, f64::INFINITY];
    const SECOND: Duration = Duration::from_secs(1);

    fn totals(opened: u64, first_byte: [u64; 3]) -> Totals {
        let mut all = [0; BUCKETS];
        all[..3].copy_from_slice(&first_byte);
        Totals { opened, first_byte: all, ..Totals::default() }
    }

    #[test]
    fn a_steady_rate_is_what_it_is_from_the_first_second_on() {
        let mut window = Window::default();
        for second in 0..30 {
            window.take(totals(second * 50, [second * 50, 0, 0]), SECOND);
            let expected = if second == 0 { 0.0 } else { 50.0 };
            assert!((window.rates(&BOUNDS).opened_s - expected).abs() < 0.5, "{:?}", window.rates(&BOUNDS));
        }
        assert_eq!(window.rates(&BOUNDS).p50_ms, Some(0.5));
        assert_eq!(window.rates(&BOUNDS).p99_ms, Some(0.99));
    }

    #[test]
    fn what_is_over_comes_to_rest() {
        let mut window = Window::default();
        window.take(totals(0, [0, 0, 0]), SECOND);
        window.take(totals(1_000, [1_000, 0, 0]), SECOND);
        for _ in 0..300 {
            window.take(totals(1_000, [1_000, 0, 0]), SECOND);
        }
        assert_eq!(window.rates(&BOUNDS), Rates::default());
    }

    #[test]
    fn counters_that_begin_anew_do_not_count_backwards() {
        let mut window = Window::default();
        window.take(totals(1_000, [0, 0, 0]), SECOND);
        window.take(totals(10, [0, 0, 0]), SECOND);
        assert_eq!(window.rates(&BOUNDS).opened_s, 0.0);
    }

    #[test]
    fn what_is_beyond_all_bounds_is_the_last_bound() {
        assert_eq!(quantile(&BOUNDS, &[0.0, 0.0, 4.0], 0.5), Some(0.01));
        assert_eq!(quantile(&BOUNDS, &[0.0; 3], 0.5), None);
    }

    proptest! {
        #[test]
        fn percentiles_are_within_bounds_and_in_order(counts in prop::array::uniform3(0.0f64..1e6)) {
            let [p50, p99] = [0.5, 0.99].map(|part| quantile(&BOUNDS, &counts, part));
            prop_assert_eq!(p50.is_some(), counts.iter().sum::<f64>() >= FEWEST);
            if let (Some(p50), Some(p99)) = (p50, p99) {
                prop_assert!(0.0 <= p50 && p50 <= p99 && p99 <= 0.01 + 1e-9, "{p50} {p99}");
            }
        }

        #[test]
        fn rounding_keeps_three_digits(value in 0.01f64..1e15) {
            prop_assert!((rounded(value) - value).abs() <= value * 0.005_01);
        }
    }
}

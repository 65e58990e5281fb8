//! Counters, gauges and histograms: relaxed atomics, written by one core, read by whoever scrapes.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that goes up and down, never below zero.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// Upper bounds of a histogram's buckets, in microseconds, growing; one more bucket takes the rest.
pub type Bounds = [u64; 15];

/// Bounds for what should take milliseconds: connecting, the first byte.
pub const LATENCY: Bounds = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// Bounds for how long streams live: a millisecond to a day.
pub const LIFETIME: Bounds = [
    1_000,
    5_000,
    25_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    21_600_000_000,
    86_400_000_000,
];

/// Durations, counted in buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    buckets: [Counter; BUCKETS],
    /// Microseconds.
    sum: Counter,
}

/// What one or several histograms of the same bounds have counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSum {
    bounds: &'static Bounds,
    buckets: [u64; BUCKETS],
    sum: u64,
}

const BUCKETS: usize = 16;

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Gauge {
    /// The value from now on.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Histogram {
    /// Nothing counted yet.
    pub fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, buckets: Default::default(), sum: Counter::default() }
    }

    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|&bound| micros <= bound).unwrap_or(BUCKETS - 1);
        self.buckets[bucket].add(1);
        self.sum.add(micros);
    }
}

impl HistogramSum {
    /// Nothing counted yet.
    pub fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, buckets: [0; BUCKETS], sum: 0 }
    }

    /// Adds what `histogram` has counted, which must have the same bounds.
    pub fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += bucket.get();
        }
        self.sum = self.sum.wrapping_add(histogram.sum.get());
    }

    /// Adds what another sum of the same bounds has.
    pub fn merge(&mut self, other: &Self) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their sum in seconds.
    pub fn seconds(&self) -> f64 {
        seconds(self.sum)
    }

    /// Each bucket's upper bound in seconds and its own count, the last one's bound infinite.
    pub fn buckets(&self) -> [(f64, u64); BUCKETS] {
        std::array::from_fn(|i| (self.bounds.get(i).map_or(f64::INFINITY, |&bound| seconds(bound)), self.buckets[i]))
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 microseconds, 285 years")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow() {
        for bounds in [LATENCY, LIFETIME] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&LATENCY);
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut sum = HistogramSum::new(&LATENCY);
        sum.add(&histogram);
        sum.add(&histogram);
        let buckets = sum.buckets();
        assert_eq!((buckets[0], buckets[1]), ((0.0001, 4), (0.000_25, 2)));
        assert_eq!((buckets[14], buckets[15]), ((10.0, 2), (f64::INFINITY, 2)));
        assert_eq!(sum.count(), 10);
        assert!((sum.seconds() - 40.000_404).abs() < 1e-9);
    }
}

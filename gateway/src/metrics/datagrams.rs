//! What is counted of UDP flows besides what every stream counts.

use super::{counter::Counter, reasons::Dropped};

/// What one core counts for the flows of one service, peer and direction.
#[derive(Debug, Default)]
pub struct DatagramMetrics {
    up: Counter,
    down: Counter,
    framed: Counter,
    dropped: [Counter; Dropped::ALL.len()],
}

/// What several have counted together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DatagramTotals {
    pub(super) up: u64,
    pub(super) down: u64,
    pub(super) framed: u64,
    pub(super) dropped: [u64; Dropped::ALL.len()],
}

impl DatagramMetrics {
    /// One moved from the client towards the endpoint.
    pub fn up(&self) {
        self.up.add(1);
    }

    /// One moved from the endpoint towards the client.
    pub fn down(&self) {
        self.down.add(1);
    }

    /// One was too large for a datagram of its tunnel, and took the stream.
    pub fn framed(&self) {
        self.framed.add(1);
    }

    /// So many were dropped.
    pub fn dropped(&self, why: Dropped, count: u64) {
        self.dropped[why as usize].add(count);
    }
}

impl DatagramTotals {
    pub(super) fn add(&mut self, counted: &DatagramMetrics) {
        self.up += counted.up.get();
        self.down += counted.down.get();
        self.framed += counted.framed.get();
        for (sum, counter) in self.dropped.iter_mut().zip(&counted.dropped) {
            *sum += counter.get();
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.up += other.up;
        self.down += other.down;
        self.framed += other.framed;
        for (sum, count) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += count;
        }
    }
}

//! How long streams may take, how often they are tried again, and how many there may be.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a stream may take. What is left out has no bound here, but for `connect`, which has the gateway's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Timeouts {
    /// For connecting to one endpoint; at the client's side for a peer's answer.
    pub connect: Option<Duration>,
    /// From the client's first byte to the endpoint's.
    pub first_byte: Option<Duration>,
    /// While nothing moves either way.
    pub idle: Option<Duration>,
    /// From a stream's beginning, whatever it does.
    pub max_age: Option<Duration>,
}

/// How many streams may be tried again at another upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Retries {
    /// At once, in percent of the service's live streams: 0 to 100.
    pub percent: u32,
    /// And so many a second, whatever the streams. What is not used is kept for ten seconds.
    pub per_second: u32,
}

/// Bounds on what a service's streams take in one gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceLimits {
    /// All of them together.
    pub all: Limits,
    /// Those of each cluster that they come from, this one as well.
    pub per_peer: Limits,
    /// Those of each address that they come from.
    pub per_source: Limits,
}

impl ServiceLimits {
    /// Whether any of them bounds bytes a second.
    pub fn bounds_bytes(&self) -> bool {
        [&self.all, &self.per_peer, &self.per_source].iter().any(|limits| limits.bytes_per_second.is_some())
    }
}

/// One set of bounds. What is left out has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Streams at once; at least 1.
    pub streams: Option<u32>,
    /// Streams at once that no upstream has taken yet; at least 1.
    pub pending: Option<u32>,
    /// Streams begun a second; at least 1. A second's worth may come at once.
    pub opens_per_second: Option<u32>,
    /// Bytes moved a second, both ways together; at least 1. A tenth of a second's worth may move at once.
    pub bytes_per_second: Option<u64>,
}

impl Timeouts {
    /// What both allow.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let shorter = |one: Option<Duration>, other: Option<Duration>| one.into_iter().chain(other).min();
        Self {
            connect: shorter(self.connect, other.connect),
            first_byte: shorter(self.first_byte, other.first_byte),
            idle: shorter(self.idle, other.idle),
            max_age: shorter(self.max_age, other.max_age),
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { percent: 20, per_second: 10 }
    }
}

impl Limits {
    /// Whether nothing is bounded.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

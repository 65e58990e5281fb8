//! What a policy says of the choice of endpoints and clusters.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Which endpoint takes the next stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Algorithm {
    /// Of two at random, the one that is less loaded.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// A client's own one.
    SourceAddress,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::LeastRequest, Self::RoundRobin, Self::Random, Self::SourceAddress];

    /// Its word in configurations and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LeastRequest => "leastRequest",
            Self::RoundRobin => "roundRobin",
            Self::Random => "random",
            Self::SourceAddress => "sourceAddress",
        }
    }
}

/// Which endpoints are preferred for where they are. A preferred one gives way where it costs several times as much as another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Near {
    /// None: all alike.
    #[default]
    Off,
    /// Those in the gateway's zone.
    Zone,
    /// Those on the gateway's node, then those in its zone.
    Node,
}

/// Which endpoints are left out for what their streams show, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Outliers {
    /// After so many failures to connect in a row; at least 1.
    pub failures: u32,
    /// After so many streams in a row that the endpoint reset before its first byte; at least 1.
    pub resets: u32,
    /// When it takes so many times as long as the median endpoint, for several seconds; `None`: never for that.
    pub slower_than: Option<u32>,
    /// For so long the first time, twice as long each further time.
    pub ejection: Duration,
    /// For so long at most.
    pub longest_ejection: Duration,
    /// Percent of the endpoints that may be left out at the same time, rounded up, and never all; at most 100.
    pub max_ejected: u32,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            failures: 3,
            resets: 5,
            slower_than: None,
            ejection: Duration::from_secs(1),
            longest_ejection: Duration::from_secs(60),
            max_ejected: 50,
        }
    }
}

/// When streams go to other clusters than the preferred one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Failover {
    /// Percent of this cluster's endpoints: while fewer are healthy, a part of the streams goes elsewhere; at most 100.
    pub healthy: u32,
    /// Percent of this cluster's endpoints: while no more are healthy, health is not heeded among them; less than 100.
    pub panic: u32,
    /// How long a cluster that is well again takes to get its whole share.
    pub recovery: Duration,
}

impl Default for Failover {
    fn default() -> Self {
        Self { healthy: 50, panic: 0, recovery: Duration::from_secs(10) }
    }
}

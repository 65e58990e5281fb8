//! The cases, and how long each takes.

use std::time::Duration;

/// A load, as it can be chosen with `--cases`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Case {
    /// One keep-alive connection: latency.
    #[value(name = "c1")]
    One,
    /// 64 keep-alive connections: throughput, latency under load, CPU.
    #[value(name = "c64")]
    Many,
    /// 64 keep-alive connections, answers of 16 KiB.
    #[value(name = "c64-16k")]
    Medium,
    /// 64 keep-alive connections, answers of 64 KiB.
    #[value(name = "c64-64k")]
    Larger,
    /// 64 keep-alive connections, answers of 1 MiB.
    #[value(name = "c64-1m")]
    Large,
    /// A connection for each request, 16 at a time.
    Close,
    /// 1 and 8 streams, each way.
    Bulk,
    /// Resident memory, idle and with 2,000 idle connections.
    Memory,
    /// 40 stalled readers beside 32 busy connections.
    Stalled,
    /// Time to the first byte of new connections.
    First,
}

impl Case {
    /// All of them, in the order that a round takes.
    pub const ALL: [Self; 10] = [
        Self::One,
        Self::Many,
        Self::Medium,
        Self::Larger,
        Self::Large,
        Self::Close,
        Self::Bulk,
        Self::Memory,
        Self::Stalled,
        Self::First,
    ];
    /// Those of a run on loopback.
    pub const LOOPBACK: [Self; 6] = [Self::One, Self::Many, Self::Close, Self::Bulk, Self::Memory, Self::Stalled];
    /// Those of `--quick`.
    pub const QUICK: [Self; 5] = [Self::One, Self::Many, Self::Close, Self::Bulk, Self::Memory];

    /// As on the command line.
    pub fn key(self) -> &'static str {
        match self {
            Self::One => "c1",
            Self::Many => "c64",
            Self::Medium => "c64-16k",
            Self::Larger => "c64-64k",
            Self::Large => "c64-1m",
            Self::Close => "close",
            Self::Bulk => "bulk",
            Self::Memory => "memory",
            Self::Stalled => "stalled",
            Self::First => "first",
        }
    }

    /// Whether it has a pair of proxies of its own, so that what it leaves behind in memory is nobody else's.
    pub fn wants_fresh_pair(self) -> bool {
        matches!(self, Self::Memory | Self::Stalled)
    }
}

/// How much of each load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Seconds of a load.
    pub seconds: u32,
    /// Idle connections of [`Case::Memory`].
    pub idle: usize,
    /// Whether [`Case::Bulk`] runs towards the service too.
    pub bulk_up: bool,
    /// How long bulk goes before it is counted: windows and rates have to grow, by the round trip.
    pub bulk_warm_up: Duration,
}

impl Scale {
    /// Of a whole run.
    pub const FULL: Self = Self { seconds: 3, idle: 2000, bulk_up: true, bulk_warm_up: Duration::from_millis(500) };
    /// Of `--quick`.
    pub const QUICK: Self = Self { seconds: 1, idle: 500, bulk_up: false, ..Self::FULL };
    /// Of a run over the emulated WAN.
    pub const WAN: Self = Self { seconds: 2, bulk_up: false, bulk_warm_up: Duration::from_secs(2), ..Self::FULL };
}

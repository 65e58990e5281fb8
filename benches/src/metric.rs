//! What is measured, in which unit, and which way is better.

use Better::{Higher, Lower};

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Latency, CPU, memory.
    Lower,
    /// Throughput.
    Higher,
}

/// One column of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Median latency of one connection.
    OneP50,
    /// 99th percentile of one connection.
    OneP99,
    /// Requests a second over 64 keep-alive connections.
    ManyRate,
    /// Median latency of the same.
    ManyP50,
    /// 99th percentile of the same.
    ManyP99,
    /// CPU of both proxies for the same.
    CpuPerRequests,
    /// Requests a second over 64 keep-alive connections, with answers of 16 KiB.
    MediumRate,
    /// CPU of both proxies for the same.
    MediumCpu,
    /// Requests a second over 64 keep-alive connections, with answers of 64 KiB.
    LargerRate,
    /// CPU of both proxies for the same.
    LargerCpu,
    /// Requests a second over 64 keep-alive connections, with answers of 1 MiB.
    LargeRate,
    /// CPU of both proxies for the same.
    LargeCpu,
    /// Connections a second, one request each, 16 at a time.
    CloseRate,
    /// Median latency of the same, as wrk counts it: from the request on, without connect and TLS of its own.
    CloseP50,
    /// 99th percentile of the same.
    CloseP99,
    /// One stream from the service.
    BulkDown1,
    /// Eight streams from the service.
    BulkDown8,
    /// One stream to the service.
    BulkUp1,
    /// Eight streams to the service.
    BulkUp8,
    /// CPU of both proxies for eight streams from the service.
    CpuPerGib,
    /// Resident memory of both proxies before any load.
    MemoryIdle,
    /// Resident memory of both proxies for each idle connection.
    MemoryConnection,
    /// 99th percentile of 32 busy connections.
    BusyP99,
    /// 99th percentile of 32 busy connections beside 40 stalled readers.
    StalledP99,
    /// The second over the first.
    StalledRatio,
    /// Resident memory of both proxies with the stalled readers.
    StalledMemory,
    /// A round trip to the origin's host, without proxies.
    RoundTrip,
    /// Median time from a client's connect to its first byte.
    FirstP50,
    /// 99th percentile of the same.
    FirstP99,
    /// The median in round trips.
    FirstRoundTrips,
    /// The longest time without an answer in a fault.
    Gap,
    /// The longest of all faults.
    GapWorst,
    /// Requests that failed in a fault.
    GapFailed,
}

/// How a metric is shown.
#[derive(Debug, Clone, Copy)]
pub struct Info {
    /// In results.json.
    pub key: &'static str,
    /// At the head of its column.
    pub title: &'static str,
    /// After its values.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// Digits after the point.
    pub decimals: usize,
}

impl Metric {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 33] = [
        Self::OneP50,
        Self::OneP99,
        Self::ManyRate,
        Self::ManyP50,
        Self::ManyP99,
        Self::CpuPerRequests,
        Self::MediumRate,
        Self::MediumCpu,
        Self::LargerRate,
        Self::LargerCpu,
        Self::LargeRate,
        Self::LargeCpu,
        Self::CloseRate,
        Self::CloseP50,
        Self::CloseP99,
        Self::BulkDown1,
        Self::BulkDown8,
        Self::BulkUp1,
        Self::BulkUp8,
        Self::CpuPerGib,
        Self::MemoryIdle,
        Self::MemoryConnection,
        Self::BusyP99,
        Self::StalledP99,
        Self::StalledRatio,
        Self::StalledMemory,
        Self::RoundTrip,
        Self::FirstP50,
        Self::FirstP99,
        Self::FirstRoundTrips,
        Self::Gap,
        Self::GapWorst,
        Self::GapFailed,
    ];

    /// How it is shown.
    pub fn info(self) -> Info {
        let (key, title, unit, better, decimals) = match self {
            Self::OneP50 => ("c1_p50", "c=1 p50", "µs", Lower, 0),
            Self::OneP99 => ("c1_p99", "c=1 p99", "µs", Lower, 0),
            Self::ManyRate => ("c64_rate", "c=64", "req/s", Higher, 0),
            Self::ManyP50 => ("c64_p50", "c=64 p50", "ms", Lower, 2),
            Self::ManyP99 => ("c64_p99", "c=64 p99", "ms", Lower, 2),
            Self::CpuPerRequests => ("cpu_100k", "CPU per 100k req", "s", Lower, 2),
            Self::MediumRate => ("c64_16k_rate", "c=64, 16 KiB", "req/s", Higher, 0),
            Self::MediumCpu => ("c64_16k_cpu", "CPU per 100k of 16 KiB", "s", Lower, 2),
            Self::LargerRate => ("c64_64k_rate", "c=64, 64 KiB", "req/s", Higher, 0),
            Self::LargerCpu => ("c64_64k_cpu", "CPU per 100k of 64 KiB", "s", Lower, 2),
            Self::LargeRate => ("c64_1m_rate", "c=64, 1 MiB", "req/s", Higher, 0),
            Self::LargeCpu => ("c64_1m_cpu", "CPU per 100k of 1 MiB", "s", Lower, 1),
            Self::CloseRate => ("close_rate", "close c=16", "conn/s", Higher, 0),
            Self::CloseP50 => ("close_p50", "close p50", "ms", Lower, 2),
            Self::CloseP99 => ("close_p99", "close p99", "ms", Lower, 2),
            Self::BulkDown1 => ("bulk_down_1", "bulk down 1", "Gbit/s", Higher, 2),
            Self::BulkDown8 => ("bulk_down_8", "bulk down 8", "Gbit/s", Higher, 2),
            Self::BulkUp1 => ("bulk_up_1", "bulk up 1", "Gbit/s", Higher, 2),
            Self::BulkUp8 => ("bulk_up_8", "bulk up 8", "Gbit/s", Higher, 2),
            Self::CpuPerGib => ("cpu_gib", "CPU per GiB", "s", Lower, 2),
            Self::MemoryIdle => ("memory_idle", "memory idle", "MiB", Lower, 1),
            Self::MemoryConnection => ("memory_connection", "memory per idle conn", "KiB", Lower, 1),
            Self::BusyP99 => ("busy_p99", "32 busy p99", "ms", Lower, 2),
            Self::StalledP99 => ("stalled_p99", "with 40 stalled p99", "ms", Lower, 2),
            Self::StalledRatio => ("stalled_ratio", "stalled / none", "x", Lower, 2),
            Self::StalledMemory => ("stalled_memory", "memory, 40 stalled", "MiB", Lower, 0),
            Self::RoundTrip => ("round_trip", "round trip", "ms", Lower, 1),
            Self::FirstP50 => ("first_p50", "first byte p50", "ms", Lower, 1),
            Self::FirstP99 => ("first_p99", "first byte p99", "ms", Lower, 1),
            Self::FirstRoundTrips => ("first_round_trips", "first byte p50", "round trips", Lower, 2),
            Self::Gap => ("gap", "longest gap in a fault", "ms", Lower, 0),
            Self::GapWorst => ("gap_worst", "longest gap of all", "ms", Lower, 0),
            Self::GapFailed => ("gap_failed", "failed requests in a fault", "", Lower, 0),
        };
        Info { key, title, unit, better, decimals }
    }

    /// The better of two values.
    pub fn best(self, one: f64, other: f64) -> f64 {
        match self.info().better {
            Lower => one.min(other),
            Higher => one.max(other),
        }
    }

    /// `value` with its unit.
    pub fn show_with_unit(self, value: f64) -> String {
        let unit = if value.is_finite() { self.info().unit } else { "" };
        format!("{} {unit}", self.show(value)).trim_end().into()
    }

    /// `value` as the tables show it, without the unit.
    pub fn show(self, value: f64) -> String {
        if value.is_infinite() { "locked out".into() } else { grouped(value, self.info().decimals) }
    }
}

/// With commas between thousands.
fn grouped(value: f64, decimals: usize) -> String {
    let plain = format!("{value:.decimals$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let shown = [0.0, 999.0, 1000.0, 1_234_567.0, -1000.0].map(|value| grouped(value, 0));
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567", "-1,000"]);
        assert_eq!(grouped(1234.567, 2), "1,234.57");
        assert_eq!(grouped(-100.0, 1), "-100.0");
    }

    #[test]
    fn keys_are_unique_and_all_are_listed_in_order() {
        let mut keys: Vec<_> = Metric::ALL.iter().map(|metric| metric.info().key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), Metric::ALL.len());
        assert!(Metric::ALL.is_sorted());
    }

    #[test]
    fn nothing_answered_is_not_a_number() {
        assert_eq!(Metric::StalledRatio.show_with_unit(f64::INFINITY), "locked out");
        assert_eq!(Metric::StalledRatio.show_with_unit(1.0), "1.00 x");
    }
}

//! What `/measure` says: what a link has carried while this gateway loaded it, and how long round trips took.
//!
//! Its JSON form is an interface: fields are added, never changed.

mod arrived;

pub use arrived::Arrived;

use crate::tunnel::Refusal;
use isthmus_control_api::ClusterName;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The longest time that a link is loaded for, in seconds.
pub const MOST_SECONDS: u64 = 10;
/// The most streams of a measurement.
pub const MOST_STREAMS: usize = 16;
/// The most bytes that a measurement moves, in MiB.
pub const MOST_MEBIBYTES: u64 = 2000;

/// What is said of streams whose tasks have panicked.
const LOST: &str = "this gateway lost it: see its log";

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From the peer to the gateway that measures.
    #[default]
    Down,
    /// To the peer.
    Up,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Up => "up",
        })
    }
}

impl FromStr for Way {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "down" => Ok(Self::Down),
            "up" => Ok(Self::Up),
            _ => Err("expected down or up"),
        }
    }
}

/// What a core is to load a link with.
#[derive(Debug, Clone)]
pub struct MeasureQuery {
    /// The linked cluster.
    pub cluster: ClusterName,
    /// By what the peer knows that streams are of one measurement.
    pub id: u64,
    /// Which way the bytes go.
    pub way: Way,
    /// Streams of this core, at least one.
    pub streams: usize,
    /// Until when round trips are taken without load, and streams are opened.
    pub begins: Instant,
    /// Until when bytes move.
    pub ends: Instant,
    /// What may be moved, by all cores together.
    pub allowance: Arc<Allowance>,
}

/// Bytes that may be moved: several streams take from it.
#[derive(Debug)]
pub struct Allowance(AtomicU64);

impl Allowance {
    /// So many.
    pub fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// These were moved. Streams that move bytes at the same moment may take a little more than there was.
    pub fn take(&self, bytes: u64) {
        // It cannot fail: there is always a next value.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(bytes)));
    }
}

/// What one core has found.
pub type MeasureAnswer = Result<CoreMeasured, NotMeasured>;

/// Why a core has found nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotMeasured {
    /// This gateway opened no streams.
    Here(Refusal),
    /// The peer did not take them, or did not answer.
    Peer(Refusal),
}

/// What one core has found.
#[derive(Debug, Clone, Default)]
pub struct CoreMeasured {
    /// Each of its streams.
    pub streams: Vec<StreamMeasured>,
    /// How many more there were, of which nothing is known: their tasks have panicked.
    pub lost: usize,
    /// Round trips before the load.
    pub idle: Vec<Duration>,
    /// Round trips under it.
    pub loaded: Vec<Duration>,
}

/// What one stream has carried.
#[derive(Debug, Clone)]
pub struct StreamMeasured {
    /// Its tunnel's transport.
    pub transport: &'static str,
    /// The peer's gateway, in 16 hexadecimal digits.
    pub gateway: String,
    /// What has arrived of it.
    pub arrived: Arrived,
    /// Why it has ended.
    pub end: End,
}

/// Why a stream of a measurement has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The time was over.
    Time,
    /// The bytes were moved.
    Bytes,
    /// It broke, or the peer ended it.
    Failed(String),
}

/// What `/measure/CLUSTER` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkMeasure {
    /// This cluster.
    pub cluster: String,
    /// The linked cluster.
    pub peer: String,
    /// Which way the bytes went.
    pub direction: Way,
    /// Where the streams were.
    pub tunnels: Vec<MeasuredTunnel>,
    /// Bytes that have arrived, whichever side they arrived at.
    pub bytes: u64,
    /// From the first of them to the last, in seconds.
    pub seconds: f64,
    /// How fast they came behind the first piece of each stream; `None` where that took less than 100 ms.
    pub bytes_per_second: Option<f64>,
    /// How many of them arrived in each second since the load began.
    pub bytes_by_second: Vec<u64>,
    /// Whether the bytes were moved before the time was over.
    pub all_bytes: bool,
    /// Streams that broke or were ended by the peer, by what happened.
    pub faults: BTreeMap<String, u64>,
    /// Round trips before the load, in microseconds.
    pub idle_us: Vec<u64>,
    /// Round trips under it.
    pub loaded_us: Vec<u64>,
}

/// Streams of a core to one of the peer's gateways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredTunnel {
    /// The core.
    pub core: usize,
    /// The transport.
    pub transport: String,
    /// The peer's gateway, in 16 hexadecimal digits; zeros: one that does not say which it is.
    pub gateway: String,
    /// How many streams.
    pub streams: usize,
    /// What has arrived of them.
    pub bytes: u64,
}

impl LinkMeasure {
    /// One answer of what the cores have found.
    pub fn merge(cluster: &str, query: &MeasureQuery, cores: Vec<(usize, CoreMeasured)>) -> Self {
        let mut found = Self {
            cluster: cluster.to_owned(),
            peer: query.cluster.to_string(),
            direction: query.way,
            ..Self::default()
        };
        let mut arrived = Arrived::default();
        for (core, measured) in cores {
            let micros = |times: Vec<Duration>| times.into_iter().map(|time| time.as_micros() as u64);
            found.idle_us.extend(micros(measured.idle));
            found.loaded_us.extend(micros(measured.loaded));
            if measured.lost > 0 {
                *found.faults.entry(LOST.to_owned()).or_default() += measured.lost as u64;
            }
            for stream in measured.streams {
                arrived.add(&stream.arrived);
                found.on_tunnel(core, &stream);
                match stream.end {
                    End::Time => {}
                    End::Bytes => found.all_bytes = true,
                    End::Failed(fault) => *found.faults.entry(fault).or_default() += 1,
                }
            }
        }
        found.tunnels.sort_by(|a, b| (a.core, &a.transport, &a.gateway).cmp(&(b.core, &b.transport, &b.gateway)));
        found.bytes = arrived.bytes;
        found.bytes_per_second = arrived.rate();
        found.seconds = arrived.between.map_or(0.0, |(from, to)| to.saturating_sub(from).as_secs_f64());
        found.bytes_by_second = arrived.by_second;
        found
    }

    fn on_tunnel(&mut self, core: usize, stream: &StreamMeasured) {
        let StreamMeasured { transport, gateway, arrived, .. } = stream;
        let is_its = |tunnel: &&mut MeasuredTunnel| {
            tunnel.core == core && tunnel.transport == *transport && tunnel.gateway == *gateway
        };
        if let Some(tunnel) = self.tunnels.iter_mut().find(is_its) {
            tunnel.streams += 1;
            tunnel.bytes += arrived.bytes;
            return;
        }
        let (transport, gateway) = ((*transport).to_owned(), gateway.clone());
        self.tunnels.push(MeasuredTunnel { core, transport, gateway, streams: 1, bytes: arrived.bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(gateway: &str, pieces: &[(u64, u64)], end: End) -> StreamMeasured {
        let mut arrived = Arrived::default();
        for &(bytes, millis) in pieces {
            arrived.note(bytes, Duration::from_millis(millis), Duration::from_millis(millis));
        }
        StreamMeasured { transport: "tls", gateway: gateway.into(), arrived, end }
    }

    #[test]
    fn what_cores_have_found_is_one_answer() {
        let query = MeasureQuery {
            cluster: "east".parse().unwrap(),
            id: 1,
            way: Way::Up,
            streams: 2,
            begins: Instant::now(),
            ends: Instant::now(),
            allowance: Arc::new(Allowance::new(1)),
        };
        let first = CoreMeasured {
            streams: vec![stream("1", &[(10, 500), (20, 1500)], End::Time), stream("1", &[(5, 1900)], End::Bytes)],
            idle: vec![Duration::from_millis(2)],
            loaded: vec![Duration::from_millis(9)],
            lost: 2,
        };
        let lost = End::Failed("the tunnel ended".into());
        let second = CoreMeasured { streams: vec![stream("2", &[(1, 100)], lost)], ..CoreMeasured::default() };
        let found = LinkMeasure::merge("west", &query, vec![(3, first), (0, second)]);
        assert_eq!((found.bytes, found.seconds, &*found.bytes_by_second), (36, 1.8, &[11, 25][..]));
        let tunnels: Vec<_> = found.tunnels.iter().map(|of| (of.core, of.streams, of.bytes)).collect();
        assert_eq!(tunnels, [(0, 1, 1), (3, 2, 35)]);
        assert_eq!(found.bytes_per_second, Some(20.0 / 1.8), "each stream's first piece is left out");
        assert!(found.all_bytes);
        let faults: Vec<_> = found.faults.iter().map(|(fault, count)| (fault.as_str(), *count)).collect();
        assert_eq!(faults, [("the tunnel ended", 1), (LOST, 2)]);
        assert_eq!((&*found.idle_us, &*found.loaded_us), (&[2000][..], &[9000][..]));
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!((&json["direction"], &json["peer"]), (&"up".into(), &"east".into()));
    }

    #[test]
    fn an_allowance_ends_at_nothing() {
        let allowance = Allowance::new(10);
        allowance.take(7);
        assert_eq!(allowance.left(), 3);
        allowance.take(7);
        assert_eq!(allowance.left(), 0);
    }
}

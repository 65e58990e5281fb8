//! The messages as they are on the wire: docs/push.proto in prost's attributes, so that building needs no protoc.

mod access;

pub(crate) use access::*;

use serde::Serialize;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FromGateway {
    #[prost(oneof = "Said", tags = "1, 2, 3, 4, 5")]
    pub(crate) said: Option<Said>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Said {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Answer(Answer),
    #[prost(message, tag = "3")]
    Reached(ReachedAll),
    #[prost(message, tag = "4")]
    Links(Links),
    #[prost(message, tag = "5")]
    NotOpened(NotOpened),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) protocol: u32,
    #[prost(fixed64, tag = "2")]
    pub(crate) gateway: u64,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, tag = "4")]
    pub(crate) version: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) has: Option<At>,
    #[prost(message, optional, tag = "6")]
    pub(crate) reached: Option<ReachedAll>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct At {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) version: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) digest: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answer {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) version: u64,
    #[prost(enumeration = "Outcome", tag = "3")]
    pub(crate) outcome: i32,
    #[prost(string, tag = "4")]
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Outcome {
    Unspecified = 0,
    Taken = 1,
    NeedsAll = 2,
    Rejected = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReachedAll {
    #[prost(message, repeated, tag = "1")]
    pub(crate) clusters: Vec<ReachedOne>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReachedOne {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    #[prost(fixed64, repeated, tag = "2")]
    pub(crate) gateways: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Links {
    #[prost(message, repeated, tag = "1")]
    pub(crate) links: Vec<LinkReport>,
}

/// How a gateway's link with a cluster fares, in its own words.
#[derive(Clone, PartialEq, prost::Message, Serialize)]
pub struct LinkReport {
    /// The linked cluster.
    #[prost(string, tag = "1")]
    pub cluster: String,
    /// `up`, `down` and so on, as `isthmus status` has it.
    #[prost(string, tag = "2")]
    pub state: String,
    /// The transports of its tunnels, joined by `+`; empty: there is none.
    #[prost(string, tag = "3")]
    pub transport: String,
    /// Who dialled them: `dialled`, `accepted` or both.
    #[prost(string, tag = "4")]
    pub direction: String,
    /// The shortest round trip in microseconds; 0: not measured.
    #[prost(uint64, tag = "5")]
    pub rtt_micros: u64,
    /// What is wrong, in one line.
    #[prost(string, tag = "6")]
    pub message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NotOpened {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FromControl {
    #[prost(oneof = "Told", tags = "1, 2, 3")]
    pub(crate) told: Option<Told>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Told {
    #[prost(message, tag = "1")]
    Part(Part),
    #[prost(message, tag = "2")]
    Open(Open),
    #[prost(message, tag = "3")]
    Newest(Newest),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Part {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) from: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) to: Option<At>,
    #[prost(bool, tag = "3")]
    pub(crate) last: bool,
    #[prost(message, repeated, tag = "4")]
    pub(crate) imports: Vec<Import>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) exports: Vec<Export>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) links: Vec<Link>,
    #[prost(message, optional, tag = "7")]
    pub(crate) relay: Option<Relaying>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) sources: Vec<Source>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) policies: Vec<Policy>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Open {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) cluster: String,
    #[prost(fixed64, tag = "3")]
    pub(crate) gateway: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Newest {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) version: u64,
    #[prost(string, tag = "3")]
    pub(crate) waits_for: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Import {
    #[prost(string, tag = "1")]
    pub(crate) listen: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<ImportValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ImportValue {
    #[prost(message, optional, tag = "1")]
    pub(crate) service: Option<ServicePort>,
    #[prost(enumeration = "Affinity", tag = "2")]
    pub(crate) affinity: i32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) clusters: Vec<ClusterReady>,
    #[prost(message, optional, tag = "4")]
    pub(crate) weights: Option<Weights>,
    #[prost(bool, tag = "5")]
    pub(crate) sticky: bool,
    #[prost(string, tag = "6")]
    pub(crate) policy: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Weights {
    #[prost(uint32, tag = "1")]
    pub(crate) local: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) clusters: Vec<ClusterWeight>,
    #[prost(bool, tag = "3")]
    pub(crate) others: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClusterWeight {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    #[prost(uint32, tag = "2")]
    pub(crate) weight: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClusterReady {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    #[prost(uint32, tag = "2")]
    pub(crate) ready: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ServicePort {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
    #[prost(enumeration = "Protocol", tag = "3")]
    pub(crate) protocol: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Export {
    #[prost(message, optional, tag = "1")]
    pub(crate) service: Option<ServicePort>,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<ExportValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExportValue {
    #[prost(string, tag = "1")]
    pub(crate) port_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) endpoints: Vec<Endpoint>,
    #[prost(string, tag = "3")]
    pub(crate) policy: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Endpoint {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) ip: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(crate) port: u32,
    #[prost(string, tag = "3")]
    pub(crate) zone: String,
    #[prost(string, tag = "4")]
    pub(crate) node: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Link {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) value: Option<LinkValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LinkValue {
    #[prost(string, repeated, tag = "1")]
    pub(crate) endpoints: Vec<String>,
    #[prost(enumeration = "Transport", tag = "2")]
    pub(crate) transport: i32,
    #[prost(string, tag = "3")]
    pub(crate) relay: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) exports: Option<Namespaces>,
    #[prost(message, optional, tag = "5")]
    pub(crate) limits: Option<Limits>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Limits {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) streams: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    pub(crate) pending: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) opens_per_second: Option<u32>,
    #[prost(uint64, optional, tag = "4")]
    pub(crate) bytes_per_second: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Namespaces {
    #[prost(string, repeated, tag = "1")]
    pub(crate) only: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Relaying {
    #[prost(string, repeated, tag = "1")]
    pub(crate) allow: Vec<String>,
    #[prost(uint64, tag = "2")]
    pub(crate) tunnels: u64,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) bytes_per_second: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Affinity {
    Unspecified = 0,
    Local = 1,
    Remote = 2,
    None = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Protocol {
    Unspecified = 0,
    Tcp = 1,
    Udp = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Transport {
    Unspecified = 0,
    Auto = 1,
    Tls = 2,
    Quic = 3,
    H2 = 4,
}

/// Bytes of a stream of the exchange. The gateway's first one says which stream.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Piece {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) bytes: bytes::Bytes,
    #[prost(oneof = "Head", tags = "2, 3")]
    pub(crate) head: Option<Head>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Head {
    /// It was asked for by this number.
    #[prost(uint64, tag = "2")]
    Opened(u64),
    /// A peer has opened it.
    #[prost(message, tag = "3")]
    Incoming(Incoming),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Incoming {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    #[prost(fixed64, tag = "2")]
    pub(crate) gateway: u64,
}

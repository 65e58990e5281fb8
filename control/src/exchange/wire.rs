//! The messages as they are on the wire: docs/exchange.proto in prost's attributes, so that building needs no protoc.

use std::collections::BTreeMap;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Frame {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6")]
    pub(super) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Snapshot(Snapshot),
    #[prost(message, tag = "3")]
    Delta(Delta),
    #[prost(message, tag = "4")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "5")]
    Ack(Ack),
    #[prost(message, tag = "6")]
    Nack(Nack),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(super) protocol: u32,
    #[prost(string, tag = "2")]
    pub(super) cluster: String,
    #[prost(uint64, tag = "3")]
    pub(super) epoch: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Snapshot {
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) services: Vec<ServiceSummary>,
    #[prost(string, repeated, tag = "3")]
    pub(super) lacking: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Delta {
    #[prost(uint64, tag = "1")]
    pub(super) from: u64,
    #[prost(uint64, tag = "2")]
    pub(super) to: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) upserts: Vec<ServiceSummary>,
    #[prost(string, repeated, tag = "4")]
    pub(super) removed: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub(super) lacking: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Heartbeat {
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Ack {
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Nack {
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
    #[prost(string, tag = "2")]
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServiceSummary {
    #[prost(string, tag = "1")]
    pub(super) service: String,
    #[prost(uint64, tag = "2")]
    pub(super) since_ms: u64,
    #[prost(bool, tag = "3")]
    pub(super) headless: bool,
    #[prost(message, repeated, tag = "4")]
    pub(super) ports: Vec<PortSummary>,
    #[prost(uint32, tag = "5")]
    pub(super) affinity_seconds: u32,
    #[prost(bool, tag = "6")]
    pub(super) node_local: bool,
    #[prost(string, tag = "7")]
    pub(super) traffic_distribution: String,
    #[prost(enumeration = "Family", repeated, tag = "8")]
    pub(super) families: Vec<i32>,
    #[prost(btree_map = "string, uint32", tag = "9")]
    pub(super) zones: BTreeMap<String, u32>,
    #[prost(btree_map = "string, string", tag = "10")]
    pub(super) labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "11")]
    pub(super) annotations: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "12")]
    pub(super) members: Vec<Member>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PortSummary {
    #[prost(uint32, tag = "1")]
    pub(super) number: u32,
    #[prost(enumeration = "Protocol", tag = "2")]
    pub(super) protocol: i32,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) app_protocol: String,
    #[prost(uint32, tag = "5")]
    pub(super) ready: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Member {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(bool, tag = "2")]
    pub(super) is_hostname: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Protocol {
    Unspecified = 0,
    Tcp = 1,
    Udp = 2,
    Sctp = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Family {
    Unspecified = 0,
    Ipv4 = 1,
    Ipv6 = 2,
}

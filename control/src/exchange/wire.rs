//! The messages as they are on the wire: docs/exchange.proto in prost's attributes, so that building needs no protoc.

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
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Delta {
    #[prost(uint64, tag = "1")]
    pub(super) from: u64,
    #[prost(uint64, tag = "2")]
    pub(super) to: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) upserts: Vec<ServiceSummary>,
    #[prost(message, repeated, tag = "4")]
    pub(super) removed: Vec<ServiceKey>,
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
pub(super) struct ServiceKey {
    #[prost(string, tag = "1")]
    pub(super) service: String,
    #[prost(uint32, tag = "2")]
    pub(super) port: u32,
    #[prost(enumeration = "Protocol", tag = "3")]
    pub(super) protocol: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServiceSummary {
    #[prost(message, optional, tag = "1")]
    pub(super) key: Option<ServiceKey>,
    #[prost(string, tag = "2")]
    pub(super) port_name: String,
    #[prost(uint32, tag = "3")]
    pub(super) ready: u32,
    #[prost(uint64, tag = "4")]
    pub(super) since_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Protocol {
    Unspecified = 0,
    Tcp = 1,
    Udp = 2,
}

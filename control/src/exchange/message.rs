//! Messages with every field checked, and their bytes.

use super::{Summaries, Summary, wire};
use crate::MAX_SERVICE_PORTS;
use isthmus_control_api::{ClusterName, InvalidName, Protocol, ServiceName, ServicePort};
use prost::Message as _;

/// Fields of a frame and of what it holds: a delta that replaces everything, and room for fields not yet known.
const MAX_FIELDS: usize = 2 * MAX_SERVICE_PORTS + 64;
/// The messages of a frame that hold lists: snapshot and delta.
const LISTS: [u64; 2] = [2, 3];
/// A port's name is a DNS label.
const MAX_PORT_NAME: usize = 63;
/// A refusal is one line.
const MAX_REASON: usize = 200;

/// One message of the exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Sender, first: who it is.
    Hello(Hello),
    /// Sender: all that it exports.
    Snapshot {
        /// The state's version.
        version: u64,
        /// All of it.
        services: Summaries,
    },
    /// Sender: what changed.
    Delta(Delta),
    /// Sender: nothing changed.
    Heartbeat {
        /// The state's version.
        version: u64,
    },
    /// Receiver: it has that version.
    Ack {
        /// Which.
        version: u64,
    },
    /// Receiver: it does not, and why.
    Nack {
        /// Which was refused; 0: the stream as a whole.
        version: u64,
        /// One line.
        reason: String,
    },
}

/// Who opened the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The protocol's version.
    pub protocol: u32,
    /// The cluster; it must be the one that its certificate names.
    pub cluster: ClusterName,
    /// Grows with every start of the sender. For people who compare logs: nothing depends on it.
    pub epoch: u64,
}

/// A change from one version to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// What it changes.
    pub from: u64,
    /// What comes of it.
    pub to: u64,
    /// What is new or different.
    pub upserts: Summaries,
    /// What is gone.
    pub removed: Vec<ServicePort>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf, or not that message.
    #[error("{0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A name against the rules of its kind.
    #[error("{0}")]
    Name(#[from] InvalidName),
    /// More than a peer may send.
    #[error("more than {MAX_SERVICE_PORTS} service ports")]
    TooMany,
    /// A field that is missing or out of its range.
    #[error("{0}")]
    Field(&'static str),
}

/// The message in a frame's `bytes`. A service port of a protocol that this side does not know is left out.
///
/// # Errors
/// It is none, or one of its values is outside its bounds.
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    check_fields(bytes)?;
    let body = wire::Frame::decode(bytes)?.body.ok_or(DecodeError::Field("a frame without a message"))?;
    Ok(match body {
        wire::Body::Hello(hello) => {
            let wire::Hello { protocol, cluster, epoch } = hello;
            Message::Hello(Hello { protocol, cluster: cluster.parse()?, epoch })
        }
        wire::Body::Snapshot(wire::Snapshot { version, services }) => {
            Message::Snapshot { version, services: summaries(services)? }
        }
        wire::Body::Delta(wire::Delta { from, to, upserts, removed }) => {
            let removed = removed.into_iter().filter_map(|removed| key(&removed).transpose());
            Message::Delta(Delta {
                from,
                to,
                upserts: summaries(upserts)?,
                removed: removed.collect::<Result<_, _>>()?,
            })
        }
        wire::Body::Heartbeat(wire::Heartbeat { version }) => Message::Heartbeat { version },
        wire::Body::Ack(wire::Ack { version }) => Message::Ack { version },
        wire::Body::Nack(wire::Nack { version, reason }) => Message::Nack { version, reason: one_line(&reason) },
    })
}

impl Message {
    /// Its bytes, without the frame's length.
    pub fn encode(&self) -> Vec<u8> {
        let body = match self.clone() {
            Self::Hello(Hello { protocol, cluster, epoch }) => {
                wire::Body::Hello(wire::Hello { protocol, cluster: cluster.into(), epoch })
            }
            Self::Snapshot { version, services } => {
                wire::Body::Snapshot(wire::Snapshot { version, services: to_wire(services) })
            }
            Self::Delta(Delta { from, to, upserts, removed }) => {
                let removed = removed.into_iter().map(key_to_wire).collect();
                wire::Body::Delta(wire::Delta { from, to, upserts: to_wire(upserts), removed })
            }
            Self::Heartbeat { version } => wire::Body::Heartbeat(wire::Heartbeat { version }),
            Self::Ack { version } => wire::Body::Ack(wire::Ack { version }),
            Self::Nack { version, reason } => wire::Body::Nack(wire::Nack { version, reason: one_line(&reason) }),
        };
        wire::Frame { body: Some(body) }.encode_to_vec()
    }
}

/// Counts the fields before prost makes structures of them: an empty one costs two bytes on the wire and a hundred in memory.
fn check_fields(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut left = MAX_FIELDS;
    for (number, body) in fields(bytes, &mut left)? {
        if LISTS.contains(&number) {
            fields(body, &mut left)?;
        }
    }
    Ok(())
}

/// The length-delimited fields of a message: numbers and contents. All its fields are taken off `left`.
fn fields<'a>(mut bytes: &'a [u8], left: &mut usize) -> Result<Vec<(u64, &'a [u8])>, DecodeError> {
    let cut = |bytes: &'a [u8], at: usize| {
        bytes.split_at_checked(at).ok_or(DecodeError::Field("a field longer than its message"))
    };
    let mut delimited = Vec::new();
    while !bytes.is_empty() {
        *left = left.checked_sub(1).ok_or(DecodeError::TooMany)?;
        let key = prost::encoding::decode_varint(&mut bytes)?;
        let length = match key & 7 {
            0 => {
                prost::encoding::decode_varint(&mut bytes)?;
                0
            }
            1 => 8,
            2 => usize::try_from(prost::encoding::decode_varint(&mut bytes)?).unwrap_or(usize::MAX),
            5 => 4,
            _ => return Err(DecodeError::Field("a group, which no message has")),
        };
        let (content, rest) = cut(bytes, length)?;
        bytes = rest;
        if key & 7 == 2 {
            delimited.push((key >> 3, content));
        }
    }
    Ok(delimited)
}

fn summaries(listed: Vec<wire::ServiceSummary>) -> Result<Summaries, DecodeError> {
    if listed.len() > MAX_SERVICE_PORTS {
        return Err(DecodeError::TooMany);
    }
    let mut summaries = Summaries::new();
    for wire::ServiceSummary { key: of, port_name, ready, since_ms } in listed {
        let Some(of) = key(&of.ok_or(DecodeError::Field("a summary without its key"))?)? else { continue };
        if port_name.len() > MAX_PORT_NAME {
            return Err(DecodeError::Field("a port's name of more than 63 bytes"));
        }
        let port_name = Some(port_name).filter(|name| !name.is_empty());
        if summaries.insert(of, Summary { port_name, ready, since: since_ms }).is_some() {
            return Err(DecodeError::Field("a service port twice"));
        }
    }
    Ok(summaries)
}

/// `None`: of a protocol that this side does not know.
fn key(key: &wire::ServiceKey) -> Result<Option<ServicePort>, DecodeError> {
    let service: ServiceName = key.service.parse()?;
    let port = u16::try_from(key.port).ok().filter(|&port| port != 0);
    let port = port.ok_or(DecodeError::Field("a port that is not 1 to 65535"))?;
    let protocol = match wire::Protocol::try_from(key.protocol) {
        Ok(wire::Protocol::Tcp) => Protocol::Tcp,
        Ok(wire::Protocol::Udp) => Protocol::Udp,
        Ok(wire::Protocol::Unspecified) | Err(_) => return Ok(None),
    };
    Ok(Some(ServicePort { service, port, protocol }))
}

fn to_wire(summaries: Summaries) -> Vec<wire::ServiceSummary> {
    let summary = |(key, summary): (ServicePort, Summary)| wire::ServiceSummary {
        key: Some(key_to_wire(key)),
        port_name: summary.port_name.unwrap_or_default(),
        ready: summary.ready,
        since_ms: summary.since,
    };
    summaries.into_iter().map(summary).collect()
}

fn key_to_wire(key: ServicePort) -> wire::ServiceKey {
    let protocol = match key.protocol {
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
    };
    wire::ServiceKey { service: key.service.into(), port: key.port.into(), protocol: protocol as i32 }
}

/// A peer's words as they may stand in a log: one line of bounded length.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}

#[cfg(test)]
pub(super) mod tests;

//! Messages with every field checked, and their bytes.

use super::{Services, Summaries, convert, fields, summary::bounds, wire};
use crate::MAX_SERVICE_PORTS;
use isthmus_control_api::{ClusterName, InvalidName, ServiceName};
use prost::Message as _;
use std::{collections::BTreeSet, sync::Arc};

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
    pub upserts: Services,
    /// What is gone.
    pub removed: Vec<ServiceName>,
    /// All namespaces that are lacking now.
    pub lacking: BTreeSet<Arc<str>>,
}

impl Delta {
    /// What it weighs, as [`Summaries::weight`] does.
    pub fn weight(&self) -> usize {
        let upserts = self.upserts.iter().map(|(name, summary)| bounds::weight(name.as_str(), summary));
        let removed = self.removed.iter().map(|name| bounds::FIELD + name.as_str().len());
        let lacking = self.lacking.iter().map(|namespace| bounds::FIELD + namespace.len());
        upserts.sum::<usize>() + removed.sum::<usize>() + lacking.sum::<usize>()
    }
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
    #[error("more than {MAX_SERVICE_PORTS} service ports, or more than fits a frame")]
    TooMany,
    /// A field that is missing or out of its range.
    #[error("{0}")]
    Field(&'static str),
}

/// The message in a frame's `bytes`. A port of a protocol that this side does not know is left out.
///
/// # Errors
/// It is none, or one of its values is outside its bounds.
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    fields::check(bytes)?;
    let body = wire::Frame::decode(bytes)?.body.ok_or(DecodeError::Field("a frame without a message"))?;
    Ok(match body {
        wire::Body::Hello(hello) => {
            let wire::Hello { protocol, cluster, epoch } = hello;
            Message::Hello(Hello { protocol, cluster: cluster.parse()?, epoch })
        }
        wire::Body::Snapshot(wire::Snapshot { version, services, lacking }) => {
            let services = Summaries { services: convert::services(services)?, lacking: convert::namespaces(lacking)? };
            if !services.fits() {
                return Err(DecodeError::TooMany);
            }
            Message::Snapshot { version, services }
        }
        wire::Body::Delta(wire::Delta { from, to, upserts, removed, lacking }) => Message::Delta(Delta {
            from,
            to,
            upserts: convert::services(upserts)?,
            removed: convert::names(&removed)?,
            lacking: convert::namespaces(lacking)?,
        }),
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
            Self::Snapshot { version, services } => wire::Body::Snapshot(wire::Snapshot {
                version,
                services: convert::to_wire(&services.services),
                lacking: texts(&services.lacking),
            }),
            Self::Delta(Delta { from, to, upserts, removed, lacking }) => wire::Body::Delta(wire::Delta {
                from,
                to,
                upserts: convert::to_wire(&upserts),
                removed: removed.into_iter().map(String::from).collect(),
                lacking: texts(&lacking),
            }),
            Self::Heartbeat { version } => wire::Body::Heartbeat(wire::Heartbeat { version }),
            Self::Ack { version } => wire::Body::Ack(wire::Ack { version }),
            Self::Nack { version, reason } => wire::Body::Nack(wire::Nack { version, reason: one_line(&reason) }),
        };
        wire::Frame { body: Some(body) }.encode_to_vec()
    }
}

fn texts(of: &BTreeSet<Arc<str>>) -> Vec<String> {
    of.iter().map(|text| (**text).to_owned()).collect()
}

/// A peer's words as they may stand in a log: one line of bounded length.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests;

//! Why a tunnel was not set up, and what that counts as.

use crate::{
    metrics::reasons::DialFailure,
    tunnel::{Refusal, driver::TunnelEnd, tls::HandshakeError},
};
use isthmus_certs::HandshakeRefusal;
use std::{io, time::Duration};

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// The address cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The handshake failed.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// It is connected, and then nothing got through.
    #[error("connected, but the handshake does not get through: large packets may vanish on the path")]
    Stalled,
    /// The peer's certificate does not say who it is. The verifier lets none such through.
    #[error("{0}")]
    Identity(String),
    /// Neither of our protocols was agreed on.
    #[error("the peer does not speak isthmus/1: it is of a newer or older version, or something else answers there")]
    Protocol,
    /// The peer agreed on HTTP/2 and does not speak it.
    #[error(transparent)]
    Http2(#[from] TunnelEnd),
    /// QUIC has no connection.
    #[error("QUIC: {0}")]
    Quic(#[from] quinn::ConnectionError),
    /// TLS cannot be configured.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// No relay, or it refused.
    #[error("{0}")]
    Relay(#[from] Refusal),
    /// The connection broke behind the handshake.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl SetupError {
    /// Which refusal of a handshake it is; `None` where it never came to one.
    pub(crate) fn refusal(&self) -> Option<HandshakeRefusal> {
        Some(match self {
            Self::Handshake(HandshakeError::Tls(error)) => HandshakeRefusal::from(error),
            Self::Handshake(HandshakeError::TooLong) => HandshakeRefusal::Malformed,
            Self::Handshake(HandshakeError::Keys(_) | HandshakeError::Io(_)) | Self::Io(_) => HandshakeRefusal::Other,
            Self::Timeout(_) | Self::Stalled => HandshakeRefusal::Timeout,
            Self::Identity(_) => HandshakeRefusal::BadSvid,
            Self::Protocol => HandshakeRefusal::Alpn,
            Self::Http2(_) => HandshakeRefusal::Other,
            Self::Tls(_) => HandshakeRefusal::Other,
            Self::Quic(error) => return crate::peer::quic::refusal(error),
            Self::Connect(_) | Self::Relay(_) => return None,
        })
    }

    /// Whether it may be because large packets vanish.
    pub(crate) fn is_stall(&self) -> bool {
        matches!(self, Self::Stalled)
    }

    /// Why dialling failed.
    pub(crate) fn dial_failure(&self) -> DialFailure {
        match self {
            Self::Connect(_) => DialFailure::Connect,
            Self::Timeout(_) | Self::Stalled | Self::Quic(quinn::ConnectionError::TimedOut) => DialFailure::Timeout,
            Self::Quic(_) if self.refusal().is_none() => DialFailure::Connect,
            Self::Io(_) | Self::Handshake(HandshakeError::Io(_)) => DialFailure::Closed,
            Self::Relay(_) => DialFailure::Relay,
            _ => DialFailure::Handshake,
        }
    }
}

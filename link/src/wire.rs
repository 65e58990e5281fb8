//! The conversation's messages, each behind its length: protobuf by prost's attributes, as the exchange has it.
//!
//! ```text
//! joiner   ─ Hello   (invitation, proof)          ─▶ inviter
//!          ◀─ Welcome (proof, CA certificates)     ─
//!          ─ Offer   (name, CA certificates, …)   ─▶
//!          ◀─ Accepted                             ─      or Refused, in place of either answer
//! ```

use crate::{MOST_ENDPOINTS, Refusal};
use isthmus_certs::{TrustAnchors, TrustDomain};
use isthmus_control_api::PeerAddress;
use prost::Message;
use rustls_pki_types::CertificateDer;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version of the conversation.
pub(crate) const VERSION: u32 = 1;
/// The longest first message: nothing is proven before it.
pub(crate) const SHORT: u32 = 256;
/// The longest of the others: sixteen certificates, and addresses.
pub(crate) const LONG: u32 = 128 * 1024;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Frame {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5")]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Body {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Welcome(Welcome),
    #[prost(message, tag = "3")]
    Offer(Offer),
    #[prost(message, tag = "4")]
    Accepted(Accepted),
    #[prost(message, tag = "5")]
    Refused(Refused),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) invite: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) proof: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Welcome {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) proof: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) bundle: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Offer {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    #[prost(string, tag = "2")]
    pub(crate) clusterset: String,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(crate) bundle: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) endpoints: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Accepted {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Refused {
    #[prost(uint32, tag = "1")]
    pub(crate) reason: u32,
    #[prost(string, tag = "2")]
    pub(crate) detail: String,
    /// The inviter's clock, in seconds since 1970; 0 where the joiner has proven nothing.
    #[prost(uint64, tag = "3")]
    pub(crate) now: u64,
}

/// Sends one message.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), body: Body) -> io::Result<()> {
    let frame = Frame { body: Some(body) }.encode_to_vec();
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&frame);
    to.write_all(&bytes).await?;
    to.flush().await
}

/// Receives one message of at most `longest` bytes; `None` if the other side ended before it.
pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin), longest: u32) -> io::Result<Option<Body>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut length = [0; 4];
    match from.read(&mut length).await? {
        0 => return Ok(None),
        n => from.read_exact(&mut length[n..]).await?,
    };
    let length = u32::from_be_bytes(length);
    if length > longest {
        return Err(invalid("a message that is too long"));
    }
    let mut frame = vec![0; length as usize];
    from.read_exact(&mut frame).await?;
    decode(&frame).map(Some).ok_or_else(|| invalid("a message that makes no sense"))
}

impl Offer {
    /// Whose it is. Cheap: no certificate is looked at.
    pub(crate) fn domain(&self) -> Result<TrustDomain, String> {
        let cluster = self.cluster.parse().map_err(|e| format!("{e}"))?;
        Ok(TrustDomain::new(cluster, self.clusterset.parse().map_err(|e| format!("{e}"))?))
    }

    /// What is offered: CA certificates of its cluster, and where that can be dialled.
    pub(crate) fn content(&self) -> Result<(TrustAnchors, Vec<PeerAddress>), String> {
        if self.endpoints.len() > MOST_ENDPOINTS {
            return Err(format!("found {} addresses, expected at most {MOST_ENDPOINTS}", self.endpoints.len()));
        }
        let endpoints: Result<_, _> = self.endpoints.iter().map(|endpoint| endpoint.parse()).collect();
        let certificates = self.bundle.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let bundle = TrustAnchors::new(self.domain()?, certificates).map_err(|e| e.to_string())?;
        Ok((bundle, endpoints.map_err(|e: isthmus_control_api::InvalidName| e.to_string())?))
    }
}

/// Why a frame is no message of the conversation, or one with content that is none: all that a stranger's bytes go through.
///
/// # Errors
/// What is wrong with it, in a line.
pub fn check(frame: &[u8]) -> Result<(), String> {
    match decode(frame) {
        Some(Body::Offer(offer)) => {
            offer.content().map(drop).map_err(|e| crate::Refused::new(Refusal::Malformed, e).to_string())
        }
        Some(_) => Ok(()),
        None => Err("a message that makes no sense".into()),
    }
}

/// Reads one message.
pub(crate) fn decode(frame: &[u8]) -> Option<Body> {
    Frame::decode(frame).ok()?.body
}

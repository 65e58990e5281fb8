//! The conversation's messages, each behind its length: protobuf by prost's attributes, as the exchange has it.
//!
//! ```text
//! joiner   ─ Hello   (invitation, proof)          ─▶ inviter
//!          ◀─ Welcome (proof, CA certificates)     ─
//!          ─ Offer   (name, CA certificates, …)   ─▶
//!          ◀─ Accepted                             ─      or Refused, in place of either answer
//! ```

use prost::Message;
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

/// Reads one message.
pub(crate) fn decode(frame: &[u8]) -> Option<Body> {
    Frame::decode(frame).ok()?.body
}

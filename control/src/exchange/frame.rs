//! Frames on a byte stream: a length of four bytes, most significant first, and the message.

use super::{ExchangeError, MAX_FRAME, Message, decode};
use bytes::{Buf as _, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const HEADER: usize = 4;
/// Read at once, and kept between frames. A longer frame's memory grows with what arrives, not with what its length claims.
const CHUNK: usize = 16 << 10;

/// Reads messages from a stream.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next message. Cancel safe: what has arrived is kept.
    ///
    /// # Errors
    /// The stream ended or failed, or this is no message.
    pub(crate) async fn next(&mut self) -> Result<Message, ExchangeError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.buffer.reserve(CHUNK);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    fn take(&mut self) -> Result<Option<Message>, ExchangeError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(ExchangeError::OutOfPlace("a frame of more than 4 MiB"));
        }
        let Some(bytes) = rest.get(..length) else { return Ok(None) };
        let message = decode(bytes)?;
        self.buffer.advance(HEADER + length);
        if self.buffer.is_empty() {
            // A large snapshot comes once; its buffer need not stay for the heartbeats.
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }
}

/// Writes one message.
///
/// # Errors
/// The stream failed.
pub(crate) async fn write<W: AsyncWrite + Unpin>(stream: &mut W, message: &Message) -> io::Result<()> {
    let bytes = message.encode();
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a message of more than 4 MiB"))?;
    let frame = [length.to_be_bytes().as_slice(), &bytes].concat();
    stream.write_all(&frame).await
}

//! Reading what stands before a stream's bytes.

use super::{CUT, head};
use quinn::{ReadError, RecvStream};
use std::task::{Context, Poll, ready};

/// Why a head cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tunnel::quic) enum HeadError {
    /// The stream ended within it, or it is too long.
    Cut,
    /// The stream was reset behind it.
    Reset,
    /// The tunnel ended.
    Lost,
}

/// Reads a head, and not a byte more.
pub(in crate::tunnel::quic) fn poll_head(
    receive: &mut RecvStream,
    reading: &mut head::Reading,
    cx: &mut Context<'_>,
) -> Poll<Result<(), HeadError>> {
    let mut bytes = [0; 512];
    loop {
        let missing = match reading.missing() {
            None => return Poll::Ready(Err(HeadError::Cut)),
            Some(0) => return Poll::Ready(Ok(())),
            Some(missing) => missing.min(bytes.len()),
        };
        match ready!(receive.poll_read(cx, &mut bytes[..missing])) {
            Ok(0) => return Poll::Ready(Err(HeadError::Cut)),
            Ok(n) => reading.add(&bytes[..n]),
            Err(ReadError::ConnectionLost(_)) => return Poll::Ready(Err(HeadError::Lost)),
            Err(ReadError::Reset(CUT)) => return Poll::Ready(Err(HeadError::Reset)),
            Err(_) => return Poll::Ready(Err(HeadError::Cut)),
        }
    }
}

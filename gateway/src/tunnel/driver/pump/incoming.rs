//! The incoming half's buffer: as large as what the peer sends makes it, so that an idle tunnel holds little memory.

use crate::{socket::Socket, tunnel::tls::record};
use std::{
    io,
    ops::Range,
    task::{Context, Poll},
};

/// Bytes of the buffer to begin with: behind the beginning of a record there is room for its rest, and for more.
const LEAST: usize = 2 * record::MAX_RECORD;
/// Bytes of the buffer up to which it grows.
const MOST: usize = 256 * 1024;

/// Bytes of the peer: whole records are opened where they lie.
#[derive(Debug)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    /// Begins with what came behind the handshake.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { start: 0, end: bytes.len(), bytes }
    }

    /// Reads once; how many bytes, 0 at the connection's end. A read that fills the buffer doubles it for the next one.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<io::Result<usize>> {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let least = LEAST.max(2 * self.end);
        if self.bytes.len() < least {
            self.bytes.resize(least, 0);
        }
        let read = socket.poll_recv(cx, &mut self.bytes[self.end..]);
        if let Poll::Ready(Ok(n)) = read {
            self.end += n;
            if self.end == self.bytes.len() && self.end < MOST {
                self.bytes.resize(MOST.min(2 * self.end), 0);
            }
        }
        read
    }

    /// Takes the next whole record, if there is one: where it lies.
    ///
    /// # Errors
    /// What came is not a record.
    pub(super) fn next_record(&mut self) -> Result<Option<Range<usize>>, record::RecordError> {
        let length = record::whole_record(&self.bytes[self.start..self.end])?;
        Ok(length.map(|length| {
            let at = self.start;
            self.start += length;
            at..self.start
        }))
    }

    /// Bytes that have been read; a range is one of [`Self::next_record`], or part of it.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// The same, to be opened in place.
    pub(super) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        &mut self.bytes[range]
    }

    /// Gives the memory back if nothing is in it.
    pub(super) fn release_if_empty(&mut self) {
        if self.start == self.end {
            *self = Self::new(Vec::new());
        }
    }
}

#[cfg(test)]
mod tests;

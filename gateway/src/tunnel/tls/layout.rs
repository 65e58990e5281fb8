//! Records under construction: plain payloads laid out in one buffer with room for each record's header and tail, so that sockets
//! are read straight into them and they are sealed where they lie.
//!
//! ```text
//! | header | payload ... | tail | header | payload ... | tail | header | payload (open)
//!   5        <= 16384      17
//! ```
//!
//! Until a record is sealed its header holds the content type and the payload's length.

use super::record::{ContentType, HEADER, MAX_PAYLOAD, TAIL};
use std::io::IoSliceMut;

/// A gathering buffer of records. It grows as it must; its owner stops filling at a limit.
#[derive(Debug, Default)]
pub struct RecordBuffer {
    /// Initialised throughout, so that sockets can be read into it safely; `end` says how much of it is used.
    bytes: Vec<u8>,
    end: usize,
    /// Where the record begins that is still being added to.
    open: Option<usize>,
}

impl RecordBuffer {
    /// Takes over an allocation from earlier use.
    pub fn reuse(bytes: Vec<u8>) -> Self {
        Self { bytes, end: 0, open: None }
    }

    /// Gives the allocation back.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes laid out so far, headers and tails included.
    pub fn len(&self) -> usize {
        self.end
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Forgets what it holds.
    pub fn clear(&mut self) {
        self.end = 0;
        self.open = None;
    }

    /// What is sealed, or laid out: the first `to` bytes from `from` on.
    pub fn slice(&self, from: usize, to: usize) -> &[u8] {
        &self.bytes[from..to]
    }

    /// A record of its own.
    pub fn push(&mut self, content: ContentType, payload: &[u8]) {
        self.close();
        self.start();
        self.append(payload);
        self.close_as(content);
    }

    /// Appends to the open record `parts` that must lie in one record together.
    pub fn gather(&mut self, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum();
        debug_assert!(length <= MAX_PAYLOAD, "the parts must fit a record");
        if self.room() < length {
            self.close();
        }
        if self.open.is_none() {
            self.start();
        }
        for part in parts {
            self.append(part);
        }
    }

    /// Appends bytes that may be split over records anywhere.
    pub fn append_split(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.room() == 0 {
                self.close();
                self.start();
            }
            let (part, rest) = bytes.split_at(bytes.len().min(self.room()));
            self.append(part);
            bytes = rest;
        }
    }

    /// Lets `read` fill up to `want` bytes, spread over records, each stretch behind `prefix` bytes that `stamp` fills in
    /// afterwards with the stretch's length. Returns what `read` returned.
    ///
    /// # Errors
    /// Whatever `read` fails with; nothing is added then.
    pub fn fill<E>(
        &mut self,
        want: usize,
        prefix: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<usize, E>,
        mut stamp: impl FnMut(&mut [u8], usize),
    ) -> Result<usize, E> {
        // A stretch of a few bytes at a record's end costs more than it brings.
        const LEAST: usize = 1024;
        if self.room() < prefix + LEAST.min(want) {
            self.close();
        }
        let first = if self.open.is_some() { self.room() - prefix } else { MAX_PAYLOAD - prefix };
        let start = self.end + if self.open.is_some() { prefix } else { HEADER + prefix };
        let lengths = stretches(want, first, MAX_PAYLOAD - prefix);
        let used = lengths.iter().take_while(|&&length| length > 0).count();
        let gap = TAIL + HEADER + prefix;
        self.reserve(start + lengths.iter().sum::<usize>() + STRETCHES * gap);

        let mut slices: [IoSliceMut<'_>; STRETCHES] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut rest = &mut self.bytes[start..];
        for (slice, &length) in slices.iter_mut().zip(&lengths[..used]) {
            let (stretch, behind) = rest.split_at_mut(length);
            *slice = IoSliceMut::new(stretch);
            rest = &mut behind[gap..];
        }
        let filled = read(&mut slices[..used])?;

        let mut left = filled;
        for &length in &lengths[..used] {
            let stretch = left.min(length);
            if stretch == 0 {
                break;
            }
            if self.open.is_none() {
                self.start();
            }
            stamp(&mut self.bytes[self.end..self.end + prefix], stretch);
            self.end += prefix + stretch;
            left -= stretch;
            if left > 0 {
                self.close();
            }
        }
        Ok(filled)
    }

    /// Ends the open record, so that it can be sealed.
    pub fn close(&mut self) {
        self.close_as(ContentType::Data);
    }

    /// The closed record that begins at `at`, for sealing.
    pub fn closed_record(&mut self, at: usize) -> Option<(&mut [u8], ContentType)> {
        if at >= self.end || self.open == Some(at) {
            return None;
        }
        let [kind, high, low] = [self.bytes[at], self.bytes[at + 3], self.bytes[at + 4]];
        let length = HEADER + usize::from(u16::from_be_bytes([high, low])) + TAIL;
        let content = ContentType::from_byte(kind).ok()?;
        Some((&mut self.bytes[at..at + length], content))
    }

    fn room(&self) -> usize {
        self.open.map_or(0, |start| MAX_PAYLOAD - (self.end - start - HEADER))
    }

    fn start(&mut self) {
        self.open = Some(self.end);
        self.reserve(self.end + HEADER);
        self.end += HEADER;
    }

    fn append(&mut self, bytes: &[u8]) {
        self.reserve(self.end + bytes.len());
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn close_as(&mut self, content: ContentType) {
        let Some(start) = self.open.take() else { return };
        let payload = self.end - start - HEADER;
        let [.., high, low] = payload.to_be_bytes();
        self.bytes[start..start + HEADER].copy_from_slice(&[content.byte(), 3, 3, high, low]);
        self.reserve(self.end + TAIL);
        self.end += TAIL;
    }

    fn reserve(&mut self, total: usize) {
        if self.bytes.len() < total {
            self.bytes.resize(total.next_power_of_two().max(4096), 0);
        }
    }
}

/// How many records one read may span.
const STRETCHES: usize = 8;

/// Splits `want` into a first stretch and further ones; unused ones are 0.
fn stretches(want: usize, first: usize, further: usize) -> [usize; STRETCHES] {
    let mut left = want;
    std::array::from_fn(|i| {
        let stretch = left.min(if i == 0 { first } else { further });
        left -= stretch;
        stretch
    })
}

#[cfg(test)]
mod tests;

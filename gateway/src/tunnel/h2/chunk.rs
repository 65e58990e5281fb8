//! Bytes on their way from a local socket into the connection.
//!
//! A socket is read into a block of the tunnel's pool. Much is sent from there and the block comes back when it is sent; little is
//! copied out, so that a few bytes that wait never hold a whole block.

use bytes::Buf;
use std::{cell::RefCell, rc::Rc};

/// A block's size for small messages, and at first.
pub(super) const SMALL: usize = 16 * 1024;
/// A block's size once a stream fills small ones.
pub(super) const LARGE: usize = 64 * 1024;
/// Blocks of each size that are kept for the next read; more are freed.
const KEPT: usize = 16;

/// Spare blocks of one tunnel.
#[derive(Debug, Default)]
pub(super) struct Pool {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
}

/// A block to be read into. It goes back to the pool when dropped.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Box<[u8]>,
    pool: Rc<Pool>,
}

/// Bytes to be sent, as `h2` takes them.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Bytes,
    start: usize,
    end: usize,
}

#[derive(Debug)]
enum Bytes {
    Owned(Box<[u8]>),
    Pooled(Block),
}

impl Pool {
    /// A block of at least `want` bytes, [`LARGE`] at most.
    pub(super) fn take(self: &Rc<Self>, want: usize) -> Block {
        let size = if want <= SMALL { SMALL } else { LARGE };
        let spare = self.spare(size).borrow_mut().pop();
        Block { bytes: spare.unwrap_or_else(|| vec![0; size].into()), pool: self.clone() }
    }

    /// Frees what is not in use: for a tunnel that idles.
    pub(super) fn shrink(&self) {
        self.small.take();
        self.large.take();
    }

    fn spare(&self, size: usize) -> &RefCell<Vec<Box<[u8]>>> {
        if size == SMALL { &self.small } else { &self.large }
    }
}

impl Block {
    /// Where to read into.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The first `length` bytes, which were read.
    pub(super) fn into_chunk(self, length: usize) -> Chunk {
        if length <= self.bytes.len() / 4 {
            return Chunk::copy_of(&self.bytes[..length]);
        }
        Chunk { bytes: Bytes::Pooled(self), start: 0, end: length }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut spare = self.pool.spare(bytes.len()).borrow_mut();
        if spare.len() < KEPT {
            spare.push(bytes);
        }
    }
}

impl Chunk {
    /// A copy of some bytes.
    pub(super) fn copy_of(bytes: &[u8]) -> Self {
        Self { bytes: Bytes::Owned(bytes.into()), start: 0, end: bytes.len() }
    }

    fn all(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Owned(bytes) => bytes,
            Bytes::Pooled(block) => &block.bytes,
        }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.end - self.start
    }

    fn chunk(&self) -> &[u8] {
        &self.all()[self.start..self.end]
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "a caller of Buf::advance must stay within remaining()");
        self.start += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_when_its_bytes_are_sent_and_little_is_copied_out() {
        let pool = Rc::new(Pool::default());
        let mut block = pool.take(1);
        block.space()[..3].copy_from_slice(b"abc");
        let little = block.into_chunk(3);
        assert_eq!((little.chunk(), pool.small.borrow().len()), (&b"abc"[..], 1));

        let mut much = pool.take(SMALL).into_chunk(SMALL);
        assert_eq!(pool.small.borrow().len(), 0);
        much.advance(SMALL - 1);
        assert_eq!(much.remaining(), 1);
        drop(much);
        assert_eq!(pool.small.borrow().len(), 1);
    }

    #[test]
    fn the_pool_keeps_so_many_and_no_more() {
        let pool = Rc::new(Pool::default());
        drop((0..2 * KEPT).map(|_| pool.take(LARGE)).collect::<Vec<_>>());
        assert_eq!(pool.large.borrow().len(), KEPT);
        pool.shrink();
        assert_eq!(pool.large.borrow().len(), 0);
    }
}

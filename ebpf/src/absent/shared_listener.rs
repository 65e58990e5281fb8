//! In the place of the shared listener's program where it is not in this binary.

use crate::LoadError;
use std::{io, net::SocketAddr, os::fd::BorrowedFd};

/// There is none.
#[derive(Debug)]
pub enum SharedListener {}

impl SharedListener {
    /// As the real one.
    pub const MOST: usize = 65_536;

    /// Says that there is none.
    ///
    /// # Errors
    /// Always [`LoadError::Absent`].
    pub fn load(_v4: &[BorrowedFd<'_>], _v6: &[BorrowedFd<'_>]) -> Result<Self, LoadError> {
        Err(LoadError::Absent)
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn open(&self, _address: SocketAddr) -> io::Result<()> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn close(&self, _address: SocketAddr) -> io::Result<bool> {
        match *self {}
    }
}

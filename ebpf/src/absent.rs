//! In the place of the programs where they are not in this binary.

use crate::{Counts, LoadError, Noted, Room, Withdrawal};
use std::{io, net::SocketAddr, os::fd::BorrowedFd, path::Path};

/// There are none.
#[derive(Debug)]
pub enum Programs {}

impl Programs {
    /// Says that there are none.
    ///
    /// # Errors
    /// Always [`LoadError::Absent`].
    pub fn load(_cgroup: &Path) -> Result<Self, LoadError> {
        Err(LoadError::Absent)
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn enable(&self, _on: bool) -> io::Result<()> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn mark(&self, _socket: BorrowedFd<'_>) -> io::Result<()> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn open_door(&self, _listener: BorrowedFd<'_>) -> io::Result<()> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn close_door(&self, _listener: BorrowedFd<'_>) -> io::Result<()> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn open_door_at(&self, _listener: BorrowedFd<'_>, _address: SocketAddr) -> io::Result<()> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn close_door_at(&self, _listener: BorrowedFd<'_>, _address: SocketAddr) -> io::Result<()> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn room(&self, _socket: BorrowedFd<'_>, _leave: bool) -> io::Result<Room> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn unread(&self, _socket: BorrowedFd<'_>) -> io::Result<u32> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn withdraw(&self, _socket: BorrowedFd<'_>, _read: u64) -> io::Result<Withdrawal> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn noted(&self, _socket: BorrowedFd<'_>) -> io::Result<Noted> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn counts(&self) -> io::Result<Counts> {
        match *self {}
    }

    /// As the real one.
    ///
    /// # Errors
    /// Never.
    pub fn ends(&self) -> io::Result<usize> {
        match *self {}
    }
}

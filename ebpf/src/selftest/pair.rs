//! A connection with itself, as the gateway has them with others.

use super::{LOST, PATIENCE, Wrong};
use crate::Programs;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{AddressFamily, SocketType},
};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    time::Instant,
};

/// Which end is the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that accepts.
    Accepts,
    /// The one that connects.
    Connects,
    /// None.
    Nobodys,
}

/// Both ends of a connection.
#[derive(Debug)]
pub(super) struct Pair {
    /// The end that has connected.
    pub(super) client: TcpStream,
    /// The end that has accepted.
    pub(super) server: TcpStream,
}

impl Pair {
    pub(super) fn make(programs: &Programs, address: IpAddr, ours: Side) -> Result<Self, Wrong> {
        let listener = TcpListener::bind((address, 0))?;
        let door = (ours == Side::Accepts).then(|| Door::open(programs, &listener)).transpose()?;
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let client = rustix::net::socket(family, SocketType::STREAM, None).map_err(io::Error::from)?;
        if ours == Side::Connects {
            programs.mark(client.as_fd())?;
        }
        let to: SocketAddr = listener.local_addr()?;
        rustix::net::connect(&client, &to).map_err(io::Error::from)?;
        let (server, _) = listener.accept()?;
        drop(door);
        let pair = Self { client: client.into(), server };
        for end in [&pair.client, &pair.server] {
            end.set_nodelay(true)?;
            // As the gateway's are, and those of all who can be redirected to.
            end.set_nonblocking(true)?;
        }
        Ok(pair)
    }

    /// Whether both ends take part.
    pub(super) fn joined(&self, programs: &Programs) -> io::Result<(bool, bool)> {
        Ok((programs.noted(self.client.as_fd())?.joined, programs.noted(self.server.as_fd())?.joined))
    }

    pub(super) fn check_joined(&self, programs: &Programs) -> Result<(), Wrong> {
        if self.joined(programs)? == (true, true) { Ok(()) } else { Err(Wrong::NotJoined) }
    }
}

/// A door for as long as this lives.
struct Door<'a>(&'a Programs, &'a TcpListener);

impl<'a> Door<'a> {
    fn open(programs: &'a Programs, listener: &'a TcpListener) -> io::Result<Self> {
        programs.open_door(listener.as_fd())?;
        Ok(Self(programs, listener))
    }
}

impl Drop for Door<'_> {
    fn drop(&mut self) {
        // The listener is closed next, and with it all that can come through.
        let _ = self.0.close_door(self.1.as_fd());
    }
}

/// The byte at this place: so that no piece looks like another one, or like itself moved.
pub(super) fn byte(at: u64) -> u8 {
    let mixed = at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 56) as u8
}

/// Writes the first `bytes` of them, `piece` at a time.
pub(super) fn write(to: &TcpStream, bytes: u64, piece: usize) -> Result<(), Wrong> {
    let (mut at, mut buffer) = (0, vec![0; piece]);
    while at < bytes {
        let length = piece.min(usize::try_from(bytes - at).unwrap_or(piece));
        (at..).zip(&mut buffer[..length]).for_each(|(at, to)| *to = byte(at));
        send(to, &buffer[..length])?;
        at += length as u64;
    }
    Ok(())
}

/// Writes all of it.
pub(super) fn send(mut to: &TcpStream, mut bytes: &[u8]) -> Result<(), Wrong> {
    while !bytes.is_empty() {
        let written = patiently(to, PollFlags::OUT, || to.write(bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Reads once; 0 is the end.
pub(super) fn receive(mut from: &TcpStream, buffer: &mut [u8]) -> Result<usize, Wrong> {
    patiently(from, PollFlags::IN, || from.read(buffer))
}

/// Tries until it has worked, or failed, or nothing comes any more. What came late is slow, and what did not come is lost.
fn patiently(
    socket: &TcpStream,
    event: PollFlags,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> Result<usize, Wrong> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) if begun.elapsed() > PATIENCE => return Err(Wrong::Slow(begun.elapsed())),
            result => return Ok(result?),
        }
        let left = LOST.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(io::Error::from(ErrorKind::TimedOut).into());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        poll(&mut [PollFd::new(socket, event)], Some(&left)).map_err(io::Error::from)?;
    }
}

/// Reads on from `at` until there are `until`, and compares.
pub(super) fn read(from: &TcpStream, at: u64, until: u64) -> Result<(), Wrong> {
    let (mut at, mut buffer) = (at, vec![0; 64 * 1024]);
    while at < until {
        let most = buffer.len().min(usize::try_from(until - at).unwrap_or(usize::MAX));
        let length = receive(from, &mut buffer[..most])?;
        if length == 0 {
            return Err(Wrong::Length { found: at, expected: until });
        }
        if let Some((at, found)) = (at..).zip(&buffer[..length]).find(|(at, found)| **found != byte(*at)) {
            return Err(Wrong::Byte { at, found: *found, expected: byte(at) });
        }
        at += length as u64;
    }
    Ok(())
}

/// Reads the end, and nothing before it; `at` bytes were read.
pub(super) fn read_end(from: &TcpStream, at: u64) -> Result<(), Wrong> {
    let mut buffer = [0; 64];
    match receive(from, &mut buffer)? {
        0 => Ok(()),
        more => Err(Wrong::Length { found: at + more as u64, expected: at }),
    }
}

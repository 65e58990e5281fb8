//! A reader that has stopped must stop its sender.

use super::{
    Kind, Wrong,
    pair::{byte, read},
};
use std::{
    io::{self, ErrorKind, Write},
    net::TcpStream,
    os::fd::{AsFd, AsRawFd},
};

/// More than the kernel gives the two sockets of a connection: its largest send buffer and receive buffer, and what is redirected.
const MOST: u64 = 64 << 20;
/// What one message may have, and bookkeeping, beyond the buffer.
const MESSAGE: u64 = 1 << 20;

/// Writes until it would wait; then everything written arrives.
pub(super) fn stopped_reader(kind: Kind<'_>) -> Result<(), Wrong> {
    let pair = kind.pair()?;
    for (from, to) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let written = fill(from)?;
        let (held, buffer) = memory(to)?;
        if held > MESSAGE + 2 * buffer {
            return Err(Wrong::TooMuchHeld(held));
        }
        read(to, 0, written)?;
    }
    Ok(())
}

fn fill(mut to: &TcpStream) -> Result<u64, Wrong> {
    let (mut at, mut buffer) = (0, vec![0; 32 * 1024]);
    loop {
        (at..).zip(&mut buffer).for_each(|(at, to)| *to = byte(at));
        match to.write(&buffer) {
            Ok(length) => at += length as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(at),
            Err(error) => return Err(error.into()),
        }
        if at > MOST {
            return Err(Wrong::NotBound(at));
        }
    }
}

/// What the kernel holds for who reads this socket, and how much it means to hold at most.
fn memory(socket: &TcpStream) -> io::Result<(u64, u64)> {
    let mut numbers = [0u32; 9];
    let mut length = libc::socklen_t::try_from(size_of_val(&numbers)).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes to `numbers`, which has that many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok((numbers[0].into(), numbers[1].into())) } else { Err(io::Error::last_os_error()) }
}

const SO_MEMINFO: i32 = 55;

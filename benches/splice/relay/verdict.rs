//! A stream verdict (sk_skb): the kernel hands what comes to one socket to the other one, and the relay only sees ends.
//!
//! It does what can be done from outside about what the plain form gets wrong: bytes that lay there before are moved by hand, and an end
//! is passed on only when the other side has confirmed all bytes before it.

use super::{Turn, Way, finish};
use crate::kernel::{Program, SockHash};
use rustix::net::sockopt;
use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    os::fd::{AsFd, AsRawFd},
};

/// The map and the program on it.
pub(super) struct Redirects {
    sockets: SockHash,
    _program: Program,
}

impl Redirects {
    pub(super) fn new() -> io::Result<Self> {
        let sockets = SockHash::new(1024)?;
        let program = Program::redirecting_by(&sockets)?;
        program.attach(&sockets)?;
        Ok(Self { sockets, _program: program })
    }

    /// What comes to one of the two goes out at the other, from now on.
    pub(super) fn join(&self, left: &TcpStream, right: &TcpStream) -> io::Result<()> {
        self.sockets.insert(sockopt::socket_cookie(left)?, right.as_fd())?;
        self.sockets.insert(sockopt::socket_cookie(right)?, left.as_fd())
    }
}

/// One way, of which only ends are seen here.
#[derive(Debug)]
pub(super) struct Verdict {
    /// What the socket that is written to had confirmed before.
    confirmed: u64,
    waiting: Vec<u8>,
    ended: bool,
}

impl Verdict {
    pub(super) fn new(_: &TcpStream, to: &TcpStream) -> io::Result<Self> {
        Ok(Self { confirmed: counters(to)?.0, waiting: Vec::new(), ended: false })
    }
}

impl Way for Verdict {
    fn turn(&mut self, mut from: &TcpStream, mut to: &TcpStream, scratch: &mut [u8], _: bool) -> io::Result<Turn> {
        while !self.ended {
            if !self.waiting.is_empty() {
                match to.write(&self.waiting) {
                    Ok(n) => drop(self.waiting.drain(..n)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Waits),
                    Err(error) => return Err(error),
                }
                continue;
            }
            match from.read(scratch) {
                Ok(0) => self.ended = true,
                Ok(n) => self.waiting.extend_from_slice(&scratch[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Waits),
                Err(error) => return Err(error),
            }
        }
        let ((confirmed, _), (_, came)) = (counters(to)?, counters(from)?);
        // TCP counts an end as a byte.
        Ok(if confirmed - self.confirmed >= came.saturating_sub(1) { finish(to) } else { Turn::Soon })
    }
}

/// Bytes that the other end has confirmed, and bytes that it has sent (TCP_INFO).
fn counters(socket: &TcpStream) -> io::Result<(u64, u64)> {
    let mut info = [0u64; 32];
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has that many.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // tcpi_bytes_acked and tcpi_bytes_received, of struct tcp_info.
    Ok((info[120 / 8], info[128 / 8]))
}

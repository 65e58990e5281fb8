//! splice(2): from a socket into a pipe, from there into the other socket, without looking at the bytes.

use super::{ROUNDS, SCRATCH, Turn, Way, copy::Copy, finish};
use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use std::{io, net::TcpStream, os::fd::OwnedFd};

/// Bytes that a pipe may hold. The kernel counts in pages, each of which may hold less than it could.
const PIPE: usize = 256 << 10;

/// One way.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes in it.
    holds: usize,
    /// Bytes of the last move into it.
    last: usize,
    ended: bool,
}

impl Pipe {
    pub(super) fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&write, PIPE)?;
        Ok(Self { read, write, holds: 0, last: 0, ended: false })
    }
}

impl Way for Pipe {
    fn turn(&mut self, from: &TcpStream, to: &TcpStream, _: &mut [u8], _: bool) -> io::Result<Turn> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        for _ in 0..ROUNDS {
            while self.holds > 0 {
                match splice(&self.read, None, to, None, self.holds, flags) {
                    Ok(n) => self.holds -= n,
                    Err(Errno::AGAIN) => return Ok(Turn::Waits),
                    Err(error) => return Err(error.into()),
                }
            }
            if self.ended {
                return Ok(finish(to));
            }
            // The pipe is empty: it is the socket that would wait.
            match splice(from, None, &self.write, None, PIPE, flags) {
                Ok(n) => (self.holds, self.last, self.ended) = (n, n, n == 0),
                Err(Errno::AGAIN) => return Ok(Turn::Waits),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Turn::More)
    }
}

/// Fewer bytes at once are copied again.
const LITTLE: usize = SCRATCH / 4;

/// Copies what is little and splices what is much. Many streams never have a pipe.
#[derive(Debug, Default)]
pub(super) struct Auto {
    copy: Copy,
    pipe: Option<Pipe>,
}

impl Way for Auto {
    fn turn(&mut self, from: &TcpStream, to: &TcpStream, scratch: &mut [u8], ends: bool) -> io::Result<Turn> {
        if self.pipe.is_none() && self.copy.is_empty() && self.copy.last == scratch.len() {
            self.pipe = Some(Pipe::new()?);
        }
        let Some(pipe) = &mut self.pipe else { return self.copy.turn(from, to, scratch, ends) };
        let turn = pipe.turn(from, to, scratch, ends)?;
        if pipe.holds == 0 && !pipe.ended && pipe.last < LITTLE {
            self.pipe = None;
            self.copy.last = 0;
        }
        Ok(turn)
    }
}

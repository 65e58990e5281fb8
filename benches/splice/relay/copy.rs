//! The gateway's loop (gateway/src/stream/local.rs), with its buffer and its rounds.

use super::{ROUNDS, Turn, Way, finish};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
};

/// One way: what was read and not taken yet.
#[derive(Debug, Default)]
pub(super) struct Copy {
    waiting: Vec<u8>,
    at: usize,
    /// Bytes of the last read.
    pub(super) last: usize,
    ended: bool,
}

impl Copy {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.at == self.waiting.len()
    }
}

impl Way for Copy {
    fn turn(&mut self, mut from: &TcpStream, mut to: &TcpStream, scratch: &mut [u8], ends: bool) -> io::Result<Turn> {
        for _ in 0..ROUNDS {
            while !self.is_empty() {
                match to.write(&self.waiting[self.at..]) {
                    Ok(n) => self.at += n,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Waits),
                    Err(error) => return Err(error),
                }
            }
            (self.waiting, self.at) = (Vec::new(), 0);
            if self.ended {
                return Ok(finish(to));
            }
            let n = match from.read(scratch) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Waits),
                Err(error) => return Err(error),
            };
            (self.ended, self.last) = (n == 0, n);
            let sent = match if n > 0 { to.write(&scratch[..n]) } else { Ok(0) } {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            self.waiting.extend_from_slice(&scratch[sent..n]);
            // A short read has emptied the socket: what comes next raises an edge.
            if n > 0 && n < scratch.len() && self.is_empty() && !ends {
                return Ok(Turn::Waits);
            }
        }
        Ok(Turn::More)
    }
}

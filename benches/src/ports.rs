//! Ports of the run: on loopback, free when handed out, never handed out twice.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::error::{Error, Result};

/// Below the kernel's default range for outgoing connections (32768 and up), so that no client of ours takes one by
/// chance while its server is being started.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// Hands out free ports. Starts at a place that depends on the process, so that two runs seldom collide.
#[derive(Debug)]
pub struct Ports {
    next: AtomicU16,
}

impl Ports {
    /// A pool for the process `pid`.
    pub fn new(pid: u32) -> Self {
        let offset = pid.wrapping_mul(97) % u32::from(LAST - FIRST);
        Self { next: AtomicU16::new(FIRST + u16::try_from(offset).unwrap_or(0)) }
    }

    /// A port that nothing listens on, for TCP and on loopback.
    pub fn take(&self) -> Result<u16> {
        for _ in FIRST..=LAST {
            let port = self.next.fetch_add(1, Ordering::Relaxed);
            if port >= LAST {
                self.next.store(FIRST, Ordering::Relaxed);
            }
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        Err(Error::Load(format!("no free TCP port on 127.0.0.1 between {FIRST} and {LAST}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_handed_out_once_and_never_while_taken() {
        let ports = Ports::new(7);
        let first = ports.take().unwrap();
        let _held = TcpListener::bind(("127.0.0.1", first + 1)).ok();
        let second = ports.take().unwrap();
        assert!(second != first && second != first + 1);
    }

    #[test]
    fn the_pool_wraps_at_its_end() {
        let ports = Ports { next: AtomicU16::new(LAST) };
        let taken: Vec<u16> = (0..3).map(|_| ports.take().unwrap()).collect();
        assert!(taken.iter().all(|port| (FIRST..=LAST).contains(port)), "{taken:?}");
    }
}

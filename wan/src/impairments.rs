//! How bad one direction of a path is.

use std::time::Duration;

/// What happens to packets on their way in one direction. The default is a wire: nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Impairments {
    /// How long each packet takes, on top of what the rate costs.
    pub delay: Duration,
    /// Up to how much longer it takes, all times alike.
    pub jitter: Duration,
    /// Whether jitter may let packets overtake each other. Otherwise a later one waits for an earlier one.
    pub unordered: bool,
    /// The probability that a packet is lost, of each packet by itself.
    pub loss: f64,
    /// The probability that a packet is held back by [`HELD_BACK`], so that later ones overtake it.
    pub reorder: f64,
    /// Bits a second; none is no limit. What counts is the IP packet, without any link layer.
    pub rate: Option<u64>,
    /// Bytes that may wait for the rate before packets are dropped at the tail; none is 100 ms of the rate, and at least 32 KiB.
    pub queue: Option<u64>,
    /// Which packets are too large.
    pub mtu: Option<Mtu>,
    /// Which UDP is dropped, silently.
    pub udp: Option<UdpBlock>,
    /// Whether everything is dropped, silently.
    pub black_hole: bool,
}

/// By how much more a reordered packet is late.
pub const HELD_BACK: Duration = Duration::from_millis(5);

/// The largest packet that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtu {
    /// Its size, IP header included.
    pub bytes: u16,
    /// Whether the sender of a larger one is told nothing: a black hole of path MTU discovery. Otherwise it gets an ICMP message.
    pub silent: bool,
}

/// Which UDP does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpBlock {
    /// None does.
    All,
    /// None from or to this port.
    Port(u16),
}

impl Impairments {
    /// How many bytes may wait for a rate of `rate` bits a second.
    pub(crate) fn queue_for(&self, rate: u64) -> u64 {
        self.queue.unwrap_or_else(|| (rate / 8 / 10).max(32 * 1024))
    }
}

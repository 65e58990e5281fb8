//! One direction between two attachments: what becomes of a packet, and when. No sockets, no clock.

use crate::{
    impairments::{HELD_BACK, Impairments, UdpBlock},
    packet::{Header, UDP},
    random::Random,
};
use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::{Duration, Instant},
};

#[cfg(test)]
mod tests;

/// Bytes that may be under way at once; what comes on top is dropped, as if the queue had overflowed.
pub const IN_FLIGHT: u64 = 64 << 20;

/// A direction's state.
#[derive(Debug)]
pub struct Path {
    impairments: Impairments,
    random: Random,
    /// When the line has sent everything that waits for it.
    free: Option<Instant>,
    /// When the last packet leaves that no other may overtake.
    last: Option<Instant>,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    bytes: u64,
    admitted: u64,
    counters: Counters,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It will leave in its time.
    Taken,
    /// It is gone.
    Dropped,
    /// It is gone, and its sender is to be told that this many bytes would have passed.
    TooBig(u16),
}

/// What became of all packets so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets that have left.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Packets lost by chance.
    pub lost: u64,
    /// Packets held back so that others overtook them.
    pub reordered: u64,
    /// Packets dropped because too much waited.
    pub overflowed: u64,
    /// Packets dropped because they were larger than the MTU.
    pub too_big: u64,
    /// Packets dropped because they were UDP.
    pub udp_blocked: u64,
    /// Packets dropped by a black hole.
    pub black_holed: u64,
    /// How much later than they should the packets left, all together: the emulator's own error.
    pub late: Duration,
    /// The most that one of them was late.
    pub latest: Duration,
}

#[derive(Debug)]
struct UnderWay {
    at: Instant,
    number: u64,
    packet: Vec<u8>,
}

impl Path {
    /// A path, with dice of its own.
    pub fn new(impairments: Impairments, seed: u64) -> Self {
        Self {
            impairments,
            random: Random::new(seed),
            free: None,
            last: None,
            under_way: BinaryHeap::new(),
            bytes: 0,
            admitted: 0,
            counters: Counters::default(),
        }
    }

    /// How bad it is.
    pub fn impairments(&self) -> &Impairments {
        &self.impairments
    }

    /// Makes it as bad as that, for packets that come from now on. What is under way is not overtaken, unless it may be.
    pub fn set(&mut self, now: Instant, impairments: Impairments) {
        let waiting = self.impairments.rate.map_or(0, |rate| self.waiting(now, rate));
        self.free = impairments.rate.filter(|_| waiting > 0).map(|rate| now + time_for(waiting, rate));
        self.impairments = impairments;
    }

    /// Takes a packet in, or drops it.
    pub fn admit(&mut self, now: Instant, header: &Header, packet: Vec<u8>) -> Verdict {
        let length = packet.len() as u64;
        if let Some(verdict) = self.drop_or_not(header) {
            return verdict;
        }
        let Some(sent) = self.send(now, length) else {
            self.counters.overflowed += 1;
            return Verdict::Dropped;
        };
        let at = self.arrival(sent);
        self.bytes += length;
        self.admitted += 1;
        self.under_way.push(Reverse(UnderWay { at, number: self.admitted, packet }));
        Verdict::Taken
    }

    /// Drops a packet as a black hole does.
    pub fn swallow(&mut self) -> Verdict {
        self.counters.black_holed += 1;
        Verdict::Dropped
    }

    /// When the next packet leaves.
    pub fn next_departure(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse(next)| next.at)
    }

    /// A packet that leaves at `now`, or should have left before.
    pub fn depart(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.next_departure().filter(|at| *at <= now)?;
        let Reverse(UnderWay { at, packet, .. }) = self.under_way.pop()?;
        let late = now.saturating_duration_since(at);
        self.bytes -= packet.len() as u64;
        self.counters.packets += 1;
        self.counters.bytes += packet.len() as u64;
        self.counters.late += late;
        self.counters.latest = self.counters.latest.max(late);
        Some(packet)
    }

    /// What became of all packets so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn drop_or_not(&mut self, header: &Header) -> Option<Verdict> {
        if self.impairments.black_hole {
            return Some(self.swallow());
        }
        if self.impairments.udp.is_some_and(|block| blocks(block, header)) {
            self.counters.udp_blocked += 1;
            return Some(Verdict::Dropped);
        }
        if let Some(mtu) = self.impairments.mtu.filter(|mtu| header.length > usize::from(mtu.bytes)) {
            self.counters.too_big += 1;
            return Some(if mtu.silent { Verdict::Dropped } else { Verdict::TooBig(mtu.bytes) });
        }
        if self.random.chance(self.impairments.loss) {
            self.counters.lost += 1;
            return Some(Verdict::Dropped);
        }
        None
    }

    /// When the line has sent `length` further bytes; nothing if there is no room for them.
    fn send(&mut self, now: Instant, length: u64) -> Option<Instant> {
        if self.bytes + length > IN_FLIGHT {
            return None;
        }
        let Some(rate) = self.impairments.rate else { return Some(now) };
        let waiting = self.waiting(now, rate);
        // An idle line takes any packet, however small its queue.
        if waiting > 0 && waiting.saturating_add(length) > self.impairments.queue_for(rate) {
            return None;
        }
        let sent = self.free.map_or(now, |free| free.max(now)) + time_for(length, rate);
        self.free = Some(sent);
        Some(sent)
    }

    /// When a packet that was sent at `sent` arrives.
    fn arrival(&mut self, sent: Instant) -> Instant {
        let mut at = sent + self.impairments.delay + self.random.up_to(self.impairments.jitter);
        if !self.impairments.unordered {
            at = self.last.map_or(at, |last| last.max(at));
        }
        if self.random.chance(self.impairments.reorder) {
            self.counters.reordered += 1;
            return at + HELD_BACK;
        }
        self.last = Some(at);
        at
    }

    /// Bytes that wait for the line.
    fn waiting(&self, now: Instant, rate: u64) -> u64 {
        let busy = self.free.map_or(Duration::ZERO, |free| free.saturating_duration_since(now));
        let bytes = busy.as_nanos() * u128::from(rate) / 8 / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

fn blocks(block: UdpBlock, header: &Header) -> bool {
    let is_udp = header.protocol == UDP;
    is_udp
        && match block {
            UdpBlock::All => true,
            UdpBlock::Port(port) => header.ports.is_some_and(|ports| ports.contains(&port)),
        }
}

/// How long `bytes` take at `rate` bits a second, rounded up so that the rate is never exceeded.
fn time_for(bytes: u64, rate: u64) -> Duration {
    let nanoseconds = (u128::from(bytes) * 8 * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for UnderWay {}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for UnderWay {
    /// By time; those of one moment in the order in which they came.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

//! The thread between the devices: reads what they send, asks the paths, writes what is due.

use crate::{
    icmp,
    impairments::Impairments,
    packet::Header,
    path::{Counters, Path, Verdict},
    prefix::Prefix,
    tun::Tun,
    wan::Attachment,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    net::IpAddr,
    num::NonZeroU64,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender},
    },
    time::{Duration, Instant},
};

/// Packets read from a device before the others have their turn, and what is due leaves.
const BATCH: usize = 64;
/// The highest priority of the ordinary scheduler.
const HIGHEST: i32 = -20;
/// The largest IP packet, and so the largest read.
const LARGEST: usize = 65_536;

/// What the owner wants; each is acknowledged once it is done.
#[derive(Debug)]
pub(crate) enum Order {
    /// Sets one direction, or all.
    Set(Option<Direction>, Impairments, SyncSender<()>),
    /// Lets packets in, or none.
    Open(bool, SyncSender<()>),
    /// Tells what became of a direction's packets.
    Count(Direction, SyncSender<Counters>),
    /// Tells how many packets had no destination here.
    Unrouted(SyncSender<u64>),
}

/// From one attachment to another, by their places in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Direction {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// Everything that the thread has.
pub(crate) struct Relay {
    attachments: Vec<Attachment>,
    /// Whether each attachment's device is still there.
    alive: Vec<bool>,
    /// From each attachment to each, in rows.
    paths: Vec<Path>,
    open: bool,
    unrouted: u64,
    orders: Receiver<Order>,
    bell: Arc<OwnedFd>,
}

impl Relay {
    /// Between `attachments`; `bell` is an eventfd that says that there are orders, or that they have ended.
    pub(crate) fn new(
        attachments: Vec<Attachment>,
        each_way: Impairments,
        seed: u64,
        orders: Receiver<Order>,
        bell: Arc<OwnedFd>,
    ) -> Self {
        let count = attachments.len();
        // Seeds far apart: sequences of SplitMix64 that begin near each other would overlap.
        let seed_of = |n: usize| seed ^ (n as u64).wrapping_mul(0xd134_2543_de82_ef95);
        let paths = (0..count * count).map(|n| Path::new(each_way, seed_of(n))).collect();
        Self { attachments, alive: vec![true; count], paths, open: true, unrouted: 0, orders, bell }
    }

    /// Relays until the orders' sender is gone.
    pub(crate) fn run(mut self) -> Result<(), Errno> {
        // Otherwise the kernel may let us sleep 50 us longer than we asked for.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        // A wire does not wait for hosts that are busy. Who may not ask for that gets a WAN that is late more often.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), HIGHEST);
        let mut buffer = vec![0; LARGEST];
        loop {
            let (rang, readable) = self.wait()?;
            for from in readable {
                self.take_in(from, &mut buffer);
            }
            if rang && !self.obey()? {
                return Ok(());
            }
            self.let_out();
        }
    }

    /// Waits for packets, orders or the next departure; returns whether the bell rang, and the attachments that have packets.
    fn wait(&self) -> Result<(bool, Vec<usize>), Errno> {
        let next = self.paths.iter().filter_map(Path::next_departure).min();
        let timeout = next.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        let living: Vec<_> = (0..self.attachments.len()).filter(|n| self.alive[*n]).collect();
        let mut fds = vec![PollFd::new(&self.bell, PollFlags::IN)];
        fds.extend(living.iter().map(|n| PollFd::from_borrowed_fd(self.attachments[*n].tun.as_fd(), PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let readable = living.into_iter().zip(&fds[1..]).filter(|(_, fd)| is_ready(fd)).map(|(n, _)| n);
        Ok((is_ready(&fds[0]), readable.collect()))
    }

    fn take_in(&mut self, from: usize, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            match self.attachments[from].tun.read(buffer) {
                Ok(Some(n)) => self.route(from, &buffer[..n]),
                Ok(None) => return,
                Err(_) => {
                    // The device is gone, with its namespace. It must not be polled: it would always be ready.
                    self.alive[from] = false;
                    return;
                }
            }
        }
    }

    fn route(&mut self, from: usize, packet: &[u8]) {
        let Some(header) = Header::parse(packet) else {
            self.unrouted += 1;
            return;
        };
        let Some(to) = self.to(header.destination).filter(|to| *to != from) else {
            self.unrouted += 1;
            tell(&self.attachments[from].tun, icmp::no_route(packet));
            return;
        };
        let path = &mut self.paths[from * self.attachments.len() + to];
        let verdict = if self.open { path.admit(Instant::now(), &header, packet.to_vec()) } else { path.swallow() };
        if let Verdict::TooBig(mtu) = verdict {
            tell(&self.attachments[from].tun, icmp::too_big(packet, mtu));
        }
    }

    /// The attachment with the longest prefix that `address` is in.
    fn to(&self, address: IpAddr) -> Option<usize> {
        let length = |attachment: &Attachment| {
            let fitting = attachment.prefixes.iter().filter(|prefix| prefix.contains(address));
            fitting.map(Prefix::length).max()
        };
        let lengths = self.attachments.iter().enumerate().filter_map(|(n, attachment)| Some((length(attachment)?, n)));
        lengths.max_by_key(|(length, _)| *length).map(|(_, n)| n)
    }

    /// Whether to go on.
    fn obey(&mut self) -> Result<bool, Errno> {
        // Silences the bell before it looks: who rings later is heard the next time.
        match rustix::io::read(&self.bell, &mut [0; 8]) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(e) => return Err(e),
        }
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.carry_out(order),
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(true),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    /// Who has stopped waiting for an answer needs none.
    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Set(direction, impairments, done) => {
                let (now, chosen) = (Instant::now(), direction.map(|direction| self.place(direction)));
                let paths = self.paths.iter_mut().enumerate();
                paths
                    .filter(|(n, _)| chosen.is_none_or(|chosen| chosen == *n))
                    .for_each(|(_, path)| path.set(now, impairments));
                let _ = done.send(());
            }
            Order::Open(open, done) => {
                self.open = open;
                let _ = done.send(());
            }
            Order::Count(direction, reply) => {
                let _ = reply.send(self.paths[self.place(direction)].counters());
            }
            Order::Unrouted(reply) => {
                let _ = reply.send(self.unrouted);
            }
        }
    }

    fn place(&self, direction: Direction) -> usize {
        direction.from * self.attachments.len() + direction.to
    }

    fn let_out(&mut self) {
        let count = self.attachments.len();
        for (n, path) in self.paths.iter_mut().enumerate() {
            while let Some(packet) = path.depart(Instant::now()) {
                // A device that is down takes nothing: as with a cable that is not plugged in, the packet is lost.
                let _ = self.attachments[n % count].tun.write(&packet);
            }
        }
    }
}

fn tell(tun: &Tun, answer: Option<Vec<u8>>) {
    if let Some(answer) = answer {
        // As above; and nobody waits for an ICMP message.
        let _ = tun.write(&answer);
    }
}

fn timespec(duration: Duration) -> Timespec {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

//! A running WAN, and the handle by which it is changed.

use crate::{
    Error, Impairments, Prefix, Tun,
    path::Counters,
    relay::{Direction, Order, Relay},
};
use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
};
use std::{
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

/// A place that the WAN joins with the others: a cluster's edge, a relay, or a NAT in front of one.
#[derive(Debug)]
pub struct Attachment {
    /// Its name, for [`Wan::set`] and messages.
    pub name: String,
    /// The uplink, made inside the place's namespace.
    pub tun: Tun,
    /// The addresses that are behind it.
    pub prefixes: Vec<Prefix>,
}

/// A WAN that runs until this is dropped.
#[derive(Debug)]
pub struct Wan {
    names: Vec<String>,
    prefixes: Vec<Vec<Prefix>>,
    orders: Option<SyncSender<Order>>,
    bell: Arc<OwnedFd>,
    thread: Option<JoinHandle<Result<(), Errno>>>,
}

impl Wan {
    /// Joins `attachments`, with every direction as bad as `each_way`. The same `seed` gives the same dice.
    ///
    /// # Errors
    /// If there is no thread or no eventfd to be had.
    pub fn start(attachments: Vec<Attachment>, each_way: Impairments, seed: u64) -> Result<Self, Error> {
        let names = attachments.iter().map(|attachment| attachment.name.clone()).collect();
        let prefixes = attachments.iter().map(|attachment| attachment.prefixes.clone()).collect();
        let (orders, queue) = sync_channel(16);
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let bell = Arc::new(bell);
        let relay = Relay::new(attachments, each_way, seed, queue, Arc::clone(&bell));
        // Its end, expected or not, closes the queue, and every later call says so.
        let thread = std::thread::Builder::new().name("wan".into()).spawn(move || relay.run())?;
        Ok(Self { names, prefixes, orders: Some(orders), bell, thread: Some(thread) })
    }

    /// Makes the direction from one attachment to another as bad as that, from now on.
    ///
    /// # Errors
    /// If there is no such attachment, or the WAN has ended.
    pub fn set(&self, from: &str, to: &str, impairments: Impairments) -> Result<(), Error> {
        let direction = self.direction(from, to)?;
        self.order(|done| Order::Set(Some(direction), impairments, done))
    }

    /// Makes every direction as bad as that, from now on.
    ///
    /// # Errors
    /// If the WAN has ended.
    pub fn set_all(&self, impairments: Impairments) -> Result<(), Error> {
        self.order(|done| Order::Set(None, impairments, done))
    }

    /// Lets no packet in any more, and tells nobody. What is under way arrives.
    ///
    /// # Errors
    /// If the WAN has ended.
    pub fn cut(&self) -> Result<(), Error> {
        self.order(|done| Order::Open(false, done))
    }

    /// Ends the cut. Everything is as bad as before.
    ///
    /// # Errors
    /// If the WAN has ended.
    pub fn restore(&self) -> Result<(), Error> {
        self.order(|done| Order::Open(true, done))
    }

    /// What became of the packets from one attachment to another.
    ///
    /// # Errors
    /// As [`Wan::set`].
    pub fn counters(&self, from: &str, to: &str) -> Result<Counters, Error> {
        let direction = self.direction(from, to)?;
        self.order(|reply| Order::Count(direction, reply))
    }

    /// How many packets were dropped because their destination is behind no other attachment.
    ///
    /// # Errors
    /// If the WAN has ended.
    pub fn unrouted(&self) -> Result<u64, Error> {
        self.order(Order::Unrouted)
    }

    /// The attachments that have `address` behind them.
    pub fn routes(&self, address: IpAddr) -> Vec<&str> {
        let has = |prefixes: &&Vec<Prefix>| prefixes.iter().any(|prefix| prefix.contains(address));
        let named = self.names.iter().zip(&self.prefixes);
        named.filter(|(_, prefixes)| has(prefixes)).map(|(name, _)| name.as_str()).collect()
    }

    fn direction(&self, from: &str, to: &str) -> Result<Direction, Error> {
        let find = |name: &str| {
            let unknown = || Error::Unknown { found: name.to_owned(), expected: self.names.clone() };
            self.names.iter().position(|own| own == name).ok_or_else(unknown)
        };
        Ok(Direction { from: find(from)?, to: find(to)? })
    }

    /// Gives an order and waits until it is carried out.
    fn order<T>(&self, order: impl FnOnce(SyncSender<T>) -> Order) -> Result<T, Error> {
        let (reply, answer) = sync_channel(1);
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order(reply)).is_ok());
        if !sent {
            return Err(Error::Ended);
        }
        self.ring();
        answer.recv().map_err(|_| Error::Ended)
    }

    fn ring(&self) {
        // It fails only when the counter is full: then the thread is to wake up anyhow.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.orders = None;
        self.ring();
        if let Some(thread) = self.thread.take() {
            // How it ended is of no use to anybody here.
            let _ = thread.join();
        }
    }
}

//! The local hop in the kernel (docs/local-hop.md), as the gateway has it: off until a service asks for it and this kernel has shown
//! that it does it right, and off again as soon as anything looks wrong.
//!
//! ```text
//! table asks ─▶ driver (core 0): load, self-test ─▶ State (watch) ─▶ each core: doors at listeners, marks at sockets to endpoints
//!                    ▲ counts, every second                              │ sockets of services that ask
//!                    ├────────── distrust ◀── part ● ◀───────────────────┤ bytes, on a sample of those that joined
//!                    └────────── is it worth it ◀── worth ● ◀────────────┘ messages and bytes of all
//! ```
//!
//! Services that are left out cost as little as can be: while all are, the programs let no connection join (`rest`), and the kernel is asked
//! of no socket that cannot have joined (`ports` ●, `entrance` ●).

mod driver;
pub(crate) mod entrance;
mod looks;
pub(crate) mod part;
mod ports;
mod room;
mod share;
pub(crate) mod unread;
mod worth;

pub use unread::Unread;
pub(crate) use {
    driver::run,
    share::{Held, Sample, Share, is_wanted_of, mark, may_have_joined, take_part},
};

use crate::metrics::streams::Side;
use isthmus_control_api::{ServicePort, Table};
use isthmus_ebpf::{Counts, Programs, Room, Withdrawal};
use ports::Ports;
use rustix::net::getsockname;
use serde::{Deserialize, Serialize};
use std::{
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;
use worth::Worths;

/// Whether there is a local hop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// No service has asked for it.
    #[default]
    Unused,
    /// It is being loaded and tested.
    Starting,
    /// It works.
    On,
    /// There is none, and why.
    Off(Arc<str>),
    /// It was on, and something was wrong.
    Distrusted(Arc<str>),
}

/// The words of [`State::word`].
pub(crate) const STATES: [&str; 5] = ["unused", "starting", "on", "off", "distrusted"];

impl State {
    const fn word(&self) -> &'static str {
        STATES[match self {
            Self::Unused => 0,
            Self::Starting => 1,
            Self::On => 2,
            Self::Off(_) => 3,
            Self::Distrusted(_) => 4,
        }]
    }
}

/// What `/status` says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalHopStatus {
    /// `unused`, `starting`, `on`, `off` or `distrusted`.
    pub state: String,
    /// Why it is off or distrusted.
    pub reason: Option<String>,
    /// Ends of connections that take part or did.
    pub joined: u64,
    /// Ends that could not.
    pub refused: u64,
    /// Messages that were redirected.
    pub redirected: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages of such ends that went by TCP.
    pub by_tcp: u64,
    /// Ends that went back to TCP for good, because their reader was late.
    pub late: u64,
    /// Ends that went back to TCP for good, because of kTLS.
    pub encrypted: u64,
    /// Ends that were taken out for good, because they moved bulk by TCP.
    #[serde(default)]
    pub withdrawn: u64,
    /// Exports and imports that asked for it and go by TCP for now: their connections are short, or much is moved.
    #[serde(default)]
    pub left_out: u64,
    /// Who has left bytes of streams that are looked at unread for seconds.
    #[serde(default)]
    pub unread: Vec<Unread>,
}

/// The process's local hop.
#[derive(Debug, Default)]
pub(crate) struct LocalHop {
    state: watch::Sender<State>,
    /// Whether the state is [`State::On`], for who asks for each connection.
    on: AtomicBool,
    /// There once the self-test has passed, and then for good: what has joined goes on.
    programs: OnceLock<Programs>,
    /// Whether services' connections gain by it.
    worths: Worths,
    /// Whether the programs let no connection join, as every service that asks is left out.
    rests: AtomicBool,
    /// Where doors have ever been open: whoever connects there may join.
    door_ports: Ports,
    /// Where marked sockets have ever connected to: whoever accepts there may join.
    marked_ports: Ports,
    /// Whether it was said that a door cannot be opened or closed.
    said_full: AtomicBool,
}

impl LocalHop {
    /// The state, and every change of it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The programs, if connections may join.
    pub(crate) fn on(&self) -> Option<&Programs> {
        self.programs.get().filter(|_| self.on.load(Ordering::Relaxed))
    }

    /// The programs, if connections ever could.
    fn ever_on(&self) -> Option<&Programs> {
        self.programs.get()
    }

    /// No connection joins any more. The first reason stays.
    pub(crate) fn distrust(&self, reason: &str) {
        if self.on.swap(false, Ordering::Relaxed) {
            if let Some(Err(error)) = self.programs.get().map(|programs| programs.enable(false)) {
                tracing::error!(%error, "the local hop cannot be turned off in the kernel: nothing is marked for it any more");
            }
            tracing::error!(reason, "the local hop is off until the next start: new streams go by TCP");
            self.state.send_replace(State::Distrusted(reason.into()));
        }
    }

    /// How much may be redirected from a socket of ours to its other end, or that it goes by TCP: with `leave`, from when all is read.
    fn room(&self, socket: BorrowedFd<'_>, leave: bool) -> io::Result<Room> {
        self.ever_on().map_or(Ok(Room::ByTcp), |programs| programs.room(socket, leave))
    }

    /// Takes a connection out of it, a socket of ours from which so many bytes were read, if it goes by TCP.
    fn withdraw(&self, socket: BorrowedFd<'_>, read: u64) -> Withdrawal {
        let Some(programs) = self.ever_on() else { return Withdrawal::Never };
        programs.withdraw(socket, read).unwrap_or_else(|error| {
            self.distrust(&format!("a connection cannot be taken out of the kernel's maps: {error}"));
            Withdrawal::Never
        })
    }

    /// What the other end of a socket of ours has unread.
    fn unread(&self, socket: BorrowedFd<'_>) -> u32 {
        // Of one that is closing nothing is known, which is no news.
        self.ever_on().and_then(|programs| programs.unread(socket).ok()).unwrap_or(0)
    }

    /// How many bytes were delivered to a socket, by TCP and past it: its end counts as one.
    fn delivered(&self, socket: BorrowedFd<'_>) -> Option<u64> {
        let programs = self.ever_on()?;
        let by_tcp = crate::socket::info::bytes_received(&socket).ok()?;
        Some(programs.noted(socket).ok()?.delivered + by_tcp)
    }

    /// What there is to say of it.
    pub(crate) fn status(&self) -> LocalHopStatus {
        let state = self.state.borrow().clone();
        let reason = match &state {
            State::Off(reason) | State::Distrusted(reason) => Some(reason.to_string()),
            _ => None,
        };
        let counts = self.ever_on().and_then(|programs| programs.counts().ok()).unwrap_or_default();
        let Counts { joined, refused, full, redirected, bytes, alone, behind, waits, unread, encrypted, withdrawn } =
            counts;
        LocalHopStatus {
            state: state.word().into(),
            reason,
            joined,
            refused: refused + full,
            redirected,
            bytes,
            by_tcp: alone + behind + waits,
            late: unread,
            encrypted,
            withdrawn,
            left_out: self.worths.left_out(),
            // The cores know.
            unread: Vec::new(),
        }
    }

    /// Looks again at which services gain by it, every second.
    fn decide(&self) {
        if self.worths.decide() {
            // Nothing of the state has changed: who waits for that looks at the doors again.
            self.state.send_modify(|_| {});
        }
    }

    /// Has the programs let connections join only while some service of the table that asks for it is not left out. What has joined goes on.
    fn rest(&self, table: &Table) {
        let rests = self.worths.are_left_out(asking(table));
        let Some(programs) = self.on().filter(|_| self.rests.load(Ordering::Relaxed) != rests) else { return };
        if let Err(error) = programs.enable(!rests) {
            return self.distrust(&format!("the programs' settings cannot be changed: {error}"));
        }
        self.rests.store(rests, Ordering::Relaxed);
        if self.on().is_none() {
            // Another core has turned it off meanwhile, and may have been overtaken.
            let _ = programs.enable(false);
        }
    }

    /// Makes the connection take part that `socket` is about to make to `endpoint`.
    fn mark(&self, socket: BorrowedFd<'_>, endpoint: SocketAddr) {
        self.marked_ports.add(endpoint.port());
        // Without a mark it goes by TCP, as all do by default.
        if let Some(Err(error)) = self.on().map(|programs| programs.mark(socket)) {
            tracing::debug!(%error, "cannot mark a socket for the local hop");
        }
    }

    /// Opens or closes a listener's door, as it is wanted ([`is_wanted_of`]); whether it is open now. `at`: where the listener takes
    /// connections, if not only at its own address.
    pub(crate) fn door(&self, listener: BorrowedFd<'_>, at: Option<SocketAddr>, wanted: bool, is_open: bool) -> bool {
        let Some(programs) = self.ever_on() else { return false };
        if wanted && !is_open {
            // Of a listener that does not say where it is nothing is known: then all may be where it is.
            let own = || SocketAddr::try_from(getsockname(listener).ok()?).ok();
            at.or_else(own).map_or_else(|| self.door_ports.add_all(), |at| self.door_ports.add(at.port()));
        }
        let result = match (wanted, is_open, at) {
            (true, false, None) => programs.open_door(listener),
            (true, false, Some(at)) => programs.open_door_at(listener, at),
            (false, true, None) => programs.close_door(listener),
            (false, true, Some(at)) => programs.close_door_at(listener, at),
            _ => return is_open,
        };
        match result {
            Ok(()) => wanted,
            Err(error) => {
                // Thousands may meet the same bound, again and again.
                if !self.said_full.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the local hop: a listener's door stays as it is, and perhaps others' do");
                }
                is_open
            }
        }
    }
}

/// Whether a service of the table asks for it.
fn is_wanted(table: &Table) -> bool {
    asking(table).next().is_some()
}

/// The services of the table that ask for it, and at which side.
fn asking(table: &Table) -> impl Iterator<Item = (&ServicePort, Side)> {
    let exports = table.exports.iter().filter(|(port, export)| port.protocol.is_tcp() && export.policy.local_hop);
    let imports = table.imports.iter().filter(|(listen, import)| listen.protocol.is_tcp() && import.policy.local_hop);
    let exports = exports.map(|(service, _)| (service, Side::Ingress));
    exports.chain(imports.map(|(_, import)| (&import.service, Side::Egress)))
}

#[cfg(test)]
mod tests;

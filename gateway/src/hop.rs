//! The local hop in the kernel (docs/local-hop.md), as the gateway has it: off until a service asks for it and this kernel has shown
//! that it does it right, and off again as soon as anything looks wrong.
//!
//! ```text
//! table asks ─▶ driver (core 0): load, self-test ─▶ State (watch) ─▶ each core: doors at listeners, marks at sockets to endpoints
//!                    ▲ counts, every second                              │ sockets of services that ask
//!                    ├────────── distrust ◀── part ● ◀───────────────────┤ bytes, on a sample of those that joined
//!                    └────────── is it worth it ◀── worth ● ◀────────────┘ messages and bytes of all
//! ```

mod driver;
pub(crate) mod part;
mod room;
pub(crate) mod unread;
mod worth;

pub(crate) use driver::run;
pub use unread::Unread;

use crate::{core::Core, metrics::streams::Side, socket::Socket};
use isthmus_control_api::{ServicePolicy, ServicePort, Table};
use isthmus_ebpf::{Counts, Programs, Room};
use part::Part;
use serde::{Deserialize, Serialize};
use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    rc::{Rc, Weak},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;
use worth::{Tally, Worth, Worths};

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

    /// What the other end of a socket of ours has unread.
    fn unread(&self, socket: BorrowedFd<'_>) -> u32 {
        // Of one that is closing nothing is known, which is no news.
        self.ever_on().and_then(|programs| programs.unread(socket).ok()).unwrap_or(0)
    }

    /// What there is to say of it.
    pub(crate) fn status(&self) -> LocalHopStatus {
        let state = self.state.borrow().clone();
        let reason = match &state {
            State::Off(reason) | State::Distrusted(reason) => Some(reason.to_string()),
            _ => None,
        };
        let counts = self.ever_on().and_then(|programs| programs.counts().ok()).unwrap_or_default();
        let Counts { joined, refused, full, redirected, bytes, alone, behind, waits, unread, encrypted } = counts;
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

    /// Makes the connection take part that `socket` is about to make.
    fn mark(&self, socket: BorrowedFd<'_>) {
        // Without a mark it goes by TCP, as all do by default.
        if let Some(Err(error)) = self.on().map(|programs| programs.mark(socket)) {
            tracing::debug!(%error, "cannot mark a socket for the local hop");
        }
    }

    /// Opens or closes a listener's door, as it is wanted ([`is_wanted_of`]); whether it is open now. `at`: where the listener takes
    /// connections, if not only at its own address.
    pub(crate) fn door(&self, listener: BorrowedFd<'_>, at: Option<SocketAddr>, wanted: bool, is_open: bool) -> bool {
        let Some(programs) = self.ever_on() else { return false };
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
    table.exports.iter().any(|(port, export)| port.protocol.is_tcp() && export.policy.local_hop)
        || table.imports.iter().any(|(listen, import)| listen.protocol.is_tcp() && import.policy.local_hop)
}

/// Sockets of one core that are looked at every second.
#[derive(Debug, Default)]
pub(crate) struct Sample(RefCell<Vec<Weak<Socket>>>);

/// Of so many sockets that take part, one is looked at.
const ONE_OF: u64 = 16;
/// Sockets of a core that are looked at at once.
const MOST: usize = 64;

/// What a local socket of a service that asks for the local hop has to do with it.
#[derive(Debug)]
pub(crate) struct Share {
    tally: Tally,
    /// There if it takes part.
    part: Option<Part>,
}

impl Share {
    /// Its part, if it takes one.
    pub(crate) const fn part(&self) -> Option<&Part> {
        self.part.as_ref()
    }

    /// So many bytes were read or written at once.
    pub(crate) fn moved(&self, bytes: usize) {
        self.tally.moved(bytes);
    }
}

/// A core's hold on what services gain, by [`Side`].
#[derive(Debug, Default)]
pub(crate) struct Held(RefCell<[HashMap<ServicePort, Arc<Worth>>; 2]>);

impl Held {
    fn worth(&self, hop: &LocalHop, service: &ServicePort, side: Side) -> Arc<Worth> {
        let held = &mut self.0.borrow_mut()[side as usize];
        match held.get(service) {
            Some(worth) => worth.clone(),
            None => held.entry(service.clone()).or_insert(hop.worths.get(service, side)).clone(),
        }
    }

    /// Forgets those of services that do not ask any more: nothing is known of one that asks again.
    pub(crate) fn keep_asking(&self, table: &Table) {
        let [egress, ingress] = &mut *self.0.borrow_mut();
        let import_asks: HashSet<_> =
            table.imports.values().filter(|import| import.policy.local_hop).map(|import| &import.service).collect();
        egress.retain(|service, _| import_asks.contains(service));
        ingress.retain(|service, _| table.exports.get(service).is_some_and(|export| export.policy.local_hop));
    }
}

/// Whether connections of a service are to take part, at one side. There is something to be asked for only once there are programs.
pub(crate) fn is_wanted_of(core: &Core, (service, side): (&ServicePort, Side), policy: &ServicePolicy) -> bool {
    let hop = &core.common.local_hop;
    policy.local_hop && hop.on().is_some() && core.hop_held.worth(hop, service, side).is_worth_it()
}

/// Makes the connection to an endpoint take part that `socket` is about to make, if it is to.
pub(crate) fn mark(core: &Core, socket: BorrowedFd<'_>, service: &ServicePort, policy: &ServicePolicy) {
    if is_wanted_of(core, (service, Side::Ingress), policy) {
        core.common.local_hop.mark(socket);
    }
}

/// Has a connected socket read as one that takes part, if it does, and looks at it if its turn has come. What it moves is counted for
/// its service in any case, if that asks for the local hop. `endpoint`: where it leads, if it is no client's.
pub(crate) fn take_part(
    core: &Core,
    socket: &Rc<Socket>,
    (service, policy): (&ServicePort, &ServicePolicy),
    endpoint: Option<SocketAddr>,
) {
    let hop = &core.common.local_hop;
    let Some(programs) = hop.ever_on() else { return };
    // One that has joined takes part whatever the policy says by now.
    let joined = programs.noted(socket.as_fd()).is_ok_and(|noted| noted.joined);
    if !joined && !policy.local_hop {
        return;
    }
    let mut sample = core.hop_sample.0.borrow_mut();
    let looked_at = joined && core.random().is_multiple_of(ONE_OF) && sample.len() < MOST;
    let part = joined.then(|| Part::new(hop.clone(), looked_at.then_some(endpoint)));
    let side = if endpoint.is_some() { Side::Ingress } else { Side::Egress };
    socket.take_part(Share { tally: Tally::new(core.hop_held.worth(hop, service, side)), part });
    if looked_at {
        sample.push(Rc::downgrade(socket));
    }
}

impl Sample {
    /// What is done every second.
    pub(crate) fn beat(&self) {
        self.0.borrow_mut().retain(|socket| socket.upgrade().inspect(|socket| socket.check_part()).is_some());
    }

    /// Who has left bytes unread for seconds.
    pub(crate) fn unread(&self) -> Vec<Unread> {
        let sockets = self.0.borrow();
        unread::sum(sockets.iter().filter_map(|socket| socket.upgrade()?.unread_part()))
    }
}

/// Compares what came with what the kernel says that it delivered: to a socket that has read its end.
pub(crate) fn delivered(hop: &LocalHop, socket: BorrowedFd<'_>) -> Option<u64> {
    let programs = hop.ever_on()?;
    let by_tcp = crate::socket::info::bytes_received(&socket).ok()?;
    Some(programs.noted(socket).ok()?.delivered + by_tcp)
}

#[cfg(test)]
mod tests;

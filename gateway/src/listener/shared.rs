//! One listening socket a core for the ports of all services (docs/shared-listener.md), where the kernel's program for it is there.
//!
//! ```text
//! each core: table ─▶ take ─▶ Claims ● ── all cores have asked ─▶ the program's places
//!                                     connections there ─▶ any core's shared socket ─▶ asked_for ─▶ the core's table
//! ```
//!
//! The kernel spreads connections over all cores' sockets, and the program knows the first ones only. So all cores have theirs, or there is
//! no shared listener: a core that cannot take its own turns it off for all, before any address is open.

mod claims;

use crate::socket;
use claims::{Claims, Places};
use isthmus_control_api::{Listen, Table};
use isthmus_ebpf::SharedListener;
use rustix::net::{SocketAddrAny, getsockname};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Debug,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What `/status` says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedListenerStatus {
    /// `unused`, `on` or `off`.
    pub state: String,
    /// Why it is off.
    pub reason: Option<String>,
    /// Places, an address and port each, whose connections it takes.
    pub places: u64,
}

/// The words of [`SharedListenerStatus::state`].
pub(crate) const STATES: [&str; 3] = ["unused", "on", "off"];

/// The process's.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Nobody wants it.
    #[default]
    Unused,
    On(On),
    /// It is wanted, and why it is not there.
    Off(String),
}

#[derive(Debug)]
struct On {
    program: Box<dyn Program>,
    claims: Claims,
    /// Those of each core, until it takes them.
    sockets: Vec<Vec<OwnedFd>>,
    has_v6: bool,
    /// Where the sockets themselves listen: whoever joined them there would get what is others'.
    own: Vec<SocketAddr>,
}

/// What gives connections to the shared sockets, until it is dropped.
pub(crate) trait Program: Debug + Send {
    /// As [`SharedListener::open`].
    fn open(&self, place: SocketAddr) -> io::Result<()>;

    /// As [`SharedListener::close`].
    fn close(&self, place: SocketAddr) -> io::Result<bool>;
}

impl Program for SharedListener {
    fn open(&self, place: SocketAddr) -> io::Result<()> {
        Self::open(self, place)
    }

    fn close(&self, place: SocketAddr) -> io::Result<bool> {
        Self::close(self, place)
    }
}

impl Shared {
    /// Makes a socket of each family for each core, and loads the program, where it is wanted.
    pub(crate) fn start(wanted: bool, cores: usize) -> Self {
        if !wanted {
            return Self::default();
        }
        let state = match On::start(cores) {
            Ok(on) => {
                let ipv6 = on.has_v6;
                tracing::info!(ipv6, "the shared listener is on: one socket a core takes every service port");
                State::On(on)
            }
            Err(reason) => off(reason),
        };
        Self(Mutex::new(state))
    }

    /// A core's sockets: once.
    pub(super) fn take_sockets(&self, core: usize) -> Vec<OwnedFd> {
        match &mut *self.lock() {
            State::On(on) => on.sockets.get_mut(core).map(std::mem::take).unwrap_or_default(),
            State::Unused | State::Off(_) => Vec::new(),
        }
    }

    /// A core cannot take the connections of its sockets: nobody's get any from now on. The first reason stays.
    pub(super) fn turn_off(&self, reason: String) {
        let mut state = self.lock();
        if let State::On(_) = &*state {
            *state = off(reason);
        }
    }

    /// Whether it is there. What was taken while it was has to be listened for otherwise.
    pub(super) fn is_on(&self) -> bool {
        matches!(&*self.lock(), State::On(_))
    }

    /// A core asks for the connections to `address`. Once all have, they come to the shared sockets. `None`: they never will, because there
    /// are none, somebody else has the address, or the bound is met; an ordinary listener is the way then, and says what is wrong.
    ///
    /// # Errors
    /// The kernel has no memory for it, or it is where the shared sockets are: an ordinary listener would be one of them.
    pub(super) fn take(&self, address: SocketAddr) -> io::Result<Option<Places>> {
        let State::On(on) = &mut *self.lock() else { return Ok(None) };
        if is_own(&on.own, address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if !on.can_take(address) {
            return Ok(None);
        }
        let Some((places, all)) = on.claims.claim(address, || socket::free(address).ok()) else { return Ok(None) };
        if all && let Err(error) = places.iter().try_for_each(|place| on.program.open(*place)) {
            on.claims.release(address);
            on.close(&places);
            return Err(error);
        }
        Ok(Some(places))
    }

    /// A core does not ask for them any more: nobody gets them from now on.
    pub(super) fn release(&self, address: SocketAddr) {
        let State::On(on) = &mut *self.lock() else { return };
        if let Some(places) = on.claims.release(address) {
            on.close(&places);
        }
    }

    /// What there is to say of it.
    pub(crate) fn status(&self) -> SharedListenerStatus {
        let (state, reason, places) = match &*self.lock() {
            State::Unused => (STATES[0], None, 0),
            State::On(on) => (STATES[1], None, on.claims.open_places() as u64),
            State::Off(reason) => (STATES[2], Some(reason.clone()), 0),
        };
        SharedListenerStatus { state: state.into(), reason, places }
    }

    /// Nothing that is done under it leaves things half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says so.
fn off(reason: String) -> State {
    tracing::warn!(reason, "the shared listener is off: each service port has listeners of its own");
    State::Off(reason)
}

impl On {
    fn start(cores: usize) -> Result<Self, String> {
        let loopback = |error: io::Error| format!("the loopback address: {error}");
        let v4 = group(Ipv4Addr::LOCALHOST.into(), cores).map_err(loopback)?;
        // Where there is no IPv6, nobody connects by it.
        let v6 = group(Ipv6Addr::LOCALHOST.into(), cores).unwrap_or_default();
        let program = SharedListener::load(&borrowed(&v4), &borrowed(&v6)).map_err(|error| error.to_string())?;
        Self::new(Box::new(program), v4, v6).map_err(loopback)
    }

    /// `v4`: a socket for each core, and `v6`, too, or none.
    fn new(program: Box<dyn Program>, v4: Vec<OwnedFd>, v6: Vec<OwnedFd>) -> io::Result<Self> {
        let has_v6 = !v6.is_empty();
        let own = v4.iter().chain(&v6).map(bound_to).collect::<io::Result<_>>()?;
        let claims = Claims::new(v4.len(), SharedListener::MOST);
        let mut sockets: Vec<_> = v4.into_iter().map(|socket| vec![socket]).collect();
        sockets.iter_mut().zip(v6).for_each(|(of_core, socket)| of_core.push(socket));
        Ok(Self { program, claims, sockets, has_v6, own })
    }

    /// An address of one link is ambiguous without the link, which the program does not look at.
    fn can_take(&self, address: SocketAddr) -> bool {
        match address.ip() {
            IpAddr::V4(_) => true,
            IpAddr::V6(ip) => self.has_v6 && !ip.is_unicast_link_local() && ip.to_ipv4_mapped().is_none(),
        }
    }

    fn close(&self, places: &[SocketAddr]) {
        for place in places {
            if let Err(error) = self.program.close(*place) {
                tracing::error!(%place, %error, "cannot stop taking connections there: they are reset");
            }
        }
    }
}

/// As many sockets at one port, which the kernel picks: nobody is to know it.
fn group(host: IpAddr, cores: usize) -> io::Result<Vec<OwnedFd>> {
    let first = socket::listen(SocketAddr::new(host, 0))?;
    let address = bound_to(&first)?;
    let others = (1..cores).map(|_| socket::listen(address));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// ● Whether a listener there would be one of the shared sockets, which have connections to all places, or get what comes to them.
fn is_own(own: &[SocketAddr], address: SocketAddr) -> bool {
    own.iter().any(|own| own.port() == address.port() && (own.ip() == address.ip() || address.ip().is_unspecified()))
}

fn bound_to(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(SocketAddrAny::try_into(getsockname(socket)?)?)
}

fn borrowed(sockets: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    sockets.iter().map(AsFd::as_fd).collect()
}

/// The address of the table that a connection to `local` is for: its own, or the unspecified one, which for IPv4 may be IPv6's. `local` itself
/// if there is none any more.
pub(super) fn asked_for(table: &Table, local: SocketAddr) -> SocketAddr {
    let any = |host: IpAddr| SocketAddr::new(host, local.port());
    let candidates = match local {
        SocketAddr::V4(_) => [local, any(Ipv4Addr::UNSPECIFIED.into()), any(Ipv6Addr::UNSPECIFIED.into())],
        SocketAddr::V6(_) => [local, any(Ipv6Addr::UNSPECIFIED.into()), local],
    };
    let has = |address: &SocketAddr| table.imports_at(&Listen::tcp(*address)).next().is_some();
    candidates.into_iter().find(has).unwrap_or(local)
}

#[cfg(test)]
mod tests;

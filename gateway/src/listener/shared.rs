//! One listening socket a core for the ports of all services (docs/shared-listener.md), where the kernel's program for it is there.
//!
//! ```text
//! each core: table ─▶ take ─▶ Claims ● ── all cores have asked ─▶ the program's places
//!                                     connections there ─▶ any core's shared socket ─▶ asked_for ─▶ the core's table
//! ```

mod claims;

use crate::socket;
use claims::{Claims, Places};
use isthmus_control_api::{Listen, Table};
use isthmus_ebpf::SharedListener;
use rustix::net::{SocketAddrAny, getsockname};
use serde::{Deserialize, Serialize};
use std::{
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
pub(crate) struct Shared {
    on: Option<On>,
    /// Why it is off, if it was wanted.
    reason: Option<String>,
}

#[derive(Debug)]
struct On {
    program: SharedListener,
    claims: Mutex<Claims>,
    /// Those of each core, until it takes them.
    sockets: Mutex<Vec<Vec<OwnedFd>>>,
    has_v6: bool,
    /// Where the sockets themselves listen: whoever joined them there would get what is others'.
    own: Vec<SocketAddr>,
}

impl Shared {
    /// Makes a socket of each family for each core, and loads the program, where it is wanted.
    pub(crate) fn start(wanted: bool, cores: usize) -> Self {
        if !wanted {
            return Self::default();
        }
        match On::start(cores) {
            Ok(on) => {
                tracing::info!(
                    ipv6 = on.has_v6,
                    "the shared listener is on: one socket a core takes every service port"
                );
                Self { on: Some(on), reason: None }
            }
            Err(reason) => {
                tracing::warn!(reason, "the shared listener is off: each service port has listeners of its own");
                Self { on: None, reason: Some(reason) }
            }
        }
    }

    /// A core's sockets: once.
    pub(super) fn take_sockets(&self, core: usize) -> Vec<OwnedFd> {
        self.on.as_ref().and_then(|on| lock(&on.sockets).get_mut(core).map(std::mem::take)).unwrap_or_default()
    }

    /// A core asks for the connections to `address`. Once all have, they come to the shared sockets. `None`: they never will, because there
    /// are none, somebody else has the address, or the bound is met; an ordinary listener is the way then, and says what is wrong.
    ///
    /// # Errors
    /// The kernel has no memory for it, or it is where the shared sockets are: an ordinary listener would be one of them.
    pub(super) fn take(&self, address: SocketAddr) -> io::Result<Option<Places>> {
        let Some(on) = &self.on else { return Ok(None) };
        if is_own(&on.own, address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if !on.can_take(address) {
            return Ok(None);
        }
        let mut claims = lock(&on.claims);
        let Some((places, all)) = claims.claim(address, || socket::free(address).ok()) else { return Ok(None) };
        if all && let Err(error) = places.iter().try_for_each(|place| on.program.open(*place)) {
            claims.release(address);
            on.close(&places);
            return Err(error);
        }
        Ok(Some(places))
    }

    /// A core does not ask for them any more: nobody gets them from now on.
    pub(super) fn release(&self, address: SocketAddr) {
        let Some(on) = &self.on else { return };
        let mut claims = lock(&on.claims);
        if let Some(places) = claims.release(address) {
            on.close(&places);
        }
    }

    /// What there is to say of it.
    pub(crate) fn status(&self) -> SharedListenerStatus {
        let state = match (&self.on, &self.reason) {
            (Some(_), _) => STATES[1],
            (None, Some(_)) => STATES[2],
            (None, None) => STATES[0],
        };
        let places = self.on.as_ref().map_or(0, |on| lock(&on.claims).open_places() as u64);
        SharedListenerStatus { state: state.into(), reason: self.reason.clone(), places }
    }
}

impl On {
    fn start(cores: usize) -> Result<Self, String> {
        let loopback = "the loopback address";
        let v4 = group(Ipv4Addr::LOCALHOST.into(), cores).map_err(|error| format!("{loopback}: {error}"))?;
        // Where there is no IPv6, nobody connects by it.
        let v6 = group(Ipv6Addr::LOCALHOST.into(), cores).unwrap_or_default();
        let program = SharedListener::load(&borrowed(&v4), &borrowed(&v6)).map_err(|error| error.to_string())?;
        let has_v6 = !v6.is_empty();
        let own = v4
            .iter()
            .chain(&v6)
            .map(bound_to)
            .collect::<io::Result<_>>()
            .map_err(|error| format!("{loopback}: {error}"))?;
        let mut sockets: Vec<_> = v4.into_iter().map(|socket| vec![socket]).collect();
        sockets.iter_mut().zip(v6).for_each(|(of_core, socket)| of_core.push(socket));
        let claims = Mutex::new(Claims::new(cores, SharedListener::MOST));
        Ok(Self { program, claims, sockets: Mutex::new(sockets), has_v6, own })
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

/// Nothing that is done under these locks leaves things half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::importing;
    use std::sync::Arc;

    #[test]
    fn a_connection_is_for_the_address_that_the_table_has() {
        let mut table = importing(&["west"]);
        let import: Arc<_> = table.imports.values().next().unwrap().clone();
        table.imports.clear();
        for listen in ["10.0.0.1:1", "0.0.0.0:2", "[::]:3", "[fd00::1]:4", "[::]:5/udp"] {
            table.imports.insert(listen.parse().unwrap(), import.clone());
        }
        for (local, expected) in [
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("10.0.0.2:1", "10.0.0.2:1"),
            ("10.0.0.2:2", "0.0.0.0:2"),
            ("10.0.0.2:3", "[::]:3"),
            ("[fd00::2]:3", "[::]:3"),
            ("[fd00::1]:4", "[fd00::1]:4"),
            ("[fd00::1]:2", "[fd00::1]:2"),
            ("10.0.0.2:5", "10.0.0.2:5"),
        ] {
            let found = asked_for(&table, local.parse().unwrap());
            assert_eq!(found, expected.parse().unwrap(), "{local}");
        }
    }

    #[test]
    fn where_the_shared_sockets_are_nobody_else_listens() {
        let own = ["127.0.0.1:40000", "[::1]:40001"].map(|own| own.parse().unwrap());
        let is_own = |address: &str| is_own(&own, address.parse().unwrap());
        assert!(
            ["127.0.0.1:40000", "0.0.0.0:40000", "[::]:40000", "[::1]:40001", "[::]:40001"]
                .iter()
                .all(|own| is_own(own))
        );
        assert!(
            !["127.0.0.1:40001", "127.0.0.2:40000", "10.0.0.1:40000", "[::1]:40000"].iter().any(|other| is_own(other))
        );
    }

    #[test]
    fn unless_it_is_wanted_it_takes_nothing() {
        let shared = Shared::start(false, 2);
        assert_eq!(shared.take("127.0.0.1:18080".parse().unwrap()).unwrap(), None);
        assert!(shared.take_sockets(0).is_empty());
        assert_eq!(shared.status(), SharedListenerStatus { state: "unused".into(), ..Default::default() });
    }
}

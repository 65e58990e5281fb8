//! A listening socket of one core, and the task that takes its connections.

use super::shared;
use crate::{
    core::{Core, said::Line},
    hop::{self, entrance::Entrance},
    socket, stream,
};
use rustix::{
    io::Errno,
    net::{Shutdown, SocketFlags, acceptfrom_with, getsockname},
};
use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::AbortHandle,
};

/// Connections taken before the other tasks of the core have their turn.
const BURST: usize = 64;

/// A socket that connections come to.
#[derive(Debug)]
pub(super) struct Acceptor {
    entry: Rc<Entry>,
    /// Whether its connections take part in the local hop.
    door: Cell<bool>,
    task: AbortHandle,
}

/// What its task knows of it, too.
#[derive(Debug)]
struct Entry {
    socket: AsyncFd<OwnedFd>,
    at: At,
    entrance: Entrance,
}

/// What the connections of a socket are for.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    /// One address of the table.
    One(SocketAddr),
    /// Many: each connection says it.
    Many,
}

impl Acceptor {
    /// Begins to take connections.
    ///
    /// # Errors
    /// The reactor cannot take the socket.
    pub(super) fn start(core: &Rc<Core>, at: At, socket: OwnedFd) -> io::Result<Self> {
        let socket = socket::register(socket, Interest::READABLE)?;
        let entry = Rc::new(Entry { socket, at, entrance: Entrance::default() });
        let task = core.tasks.spawn_local(serve(core.clone(), entry.clone())).abort_handle();
        Ok(Self { entry, door: Cell::default(), task })
    }

    /// Opens or closes a door of the local hop at `place`, which is one of many for this socket; whether it is open now.
    pub(super) fn set_door_at(&self, core: &Core, place: SocketAddr, wanted: bool, is_open: bool) -> bool {
        // The socket stays marked, for others of its places.
        self.entry.entrance.open_if(wanted);
        core.common.local_hop.door(self.entry.fd(), Some(place), wanted, is_open)
    }

    /// Has its connections take part in the local hop, or not.
    pub(super) fn set_door(&self, core: &Core, wanted: bool) {
        self.entry.entrance.open_if(wanted);
        let is_open = core.common.local_hop.door(self.entry.fd(), None, wanted, self.door.get());
        self.door.set(is_open);
        if !is_open {
            self.entry.entrance.shut(Instant::now());
        }
    }

    pub(super) fn begin_no_more(&self) {
        if let Err(error) = socket::begin_no_more(self.entry.socket.get_ref()) {
            tracing::debug!(at = ?self.entry.at, %error, "clients that connect now may be reset");
        }
    }

    /// Takes what the kernel has accepted already, so that no client that was let in is turned away, and closes.
    pub(super) fn close(&self, core: &Rc<Core>) {
        self.task.abort();
        self.set_door(core, false);
        while let Ok(client) = self.entry.accept(core) {
            stream::start(core, client);
        }
        // The task that was ended holds the listener until it is dropped: what came in meanwhile would be reset.
        let _ = rustix::net::shutdown(self.entry.socket.get_ref(), Shutdown::Both);
    }
}

async fn serve(core: Rc<Core>, entry: Rc<Entry>) {
    loop {
        let Ok(mut guard) = entry.socket.readable().await else { return };
        for _ in 0..BURST {
            match entry.accept(&core) {
                Ok(client) => stream::start(&core, client),
                Err(Errno::AGAIN) => {
                    entry.entrance.found_empty(Instant::now);
                    guard.clear_ready();
                    break;
                }
                // Out of descriptors or memory: clients wait in the kernel's queue meanwhile.
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    core.counters.accept_errors.add(1);
                    if core.may_say(Line::CannotAccept, Instant::now()) {
                        tracing::warn!(at = ?entry.at, %error, "cannot accept");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    break;
                }
                // That connection failed before it was accepted: the next may do.
                Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

impl Entry {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }

    fn accept(&self, core: &Core) -> Result<stream::Client, Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, from) = acceptfrom_with(self.fd(), flags)?;
        let listen = match self.at {
            At::One(address) => address,
            At::Many => shared::asked_for(&core.table.borrow(), getsockname(&socket)?.try_into()?),
        };
        let from = from.and_then(|from| SocketAddr::try_from(from).ok());
        let may_have_joined = hop::may_have_joined(core, self.entrance.may_have_been_used(), listen);
        Ok(stream::Client { socket, listen, from, may_have_joined, moved: false, greeting: None })
    }
}

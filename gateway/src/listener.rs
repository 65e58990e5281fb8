//! Listeners of local clients, reconciled to the table on every core.

pub(crate) mod tunnel;

use crate::{core::Core, flow, hop, metrics::streams::Side, socket, status::ListenerReport, stream};
use isthmus_control_api::{Listen, Protocol, ServicePort, Table};
use rustix::{
    io::Errno,
    net::{Shutdown, SocketFlags, acceptfrom_with},
};
use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::Duration,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::AbortHandle,
};

/// Connections taken before the other tasks of the core have their turn.
const BURST: usize = 64;

/// One core's listeners.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    open: BTreeMap<Listen, Open>,
    /// Those that could not be opened, and why.
    failed: BTreeMap<Listen, String>,
}

#[derive(Debug)]
enum Open {
    Tcp(Acceptor),
    Udp(flow::listener::Listener),
}

/// A listener for connections.
#[derive(Debug)]
struct Acceptor {
    socket: Rc<AsyncFd<OwnedFd>>,
    /// Whether its connections take part in the local hop.
    door: Cell<bool>,
    task: AbortHandle,
}

impl Listeners {
    /// Opens what the table has and closes what it has not. Connections that were accepted go on; flows end with their listener.
    pub(crate) fn reconcile(&mut self, core: &Rc<Core>, table: &Table) {
        self.open.retain(|listen, open| {
            let import = table.imports_at(listen).map(|(_, import)| import).next();
            // A connection ends, and the next one is for the new service. A flow would go on.
            let stays = match open {
                Open::Tcp(_) => import.is_some(),
                Open::Udp(listener) => import.is_some_and(|import| import.service == *listener.service()),
            };
            if !stays {
                open.close(core, listen);
            }
            stays
        });
        self.failed.clear();
        for (listen, import) in &table.imports {
            self.open(core, listen.socket(), &import.service);
        }
        self.set_doors(core);
    }

    /// Has the connections of those listeners take part in the local hop whose imports say so, if there is one.
    pub(crate) fn set_doors(&self, core: &Core) {
        let table = core.table.borrow();
        for (listen, open) in &self.open {
            if let (Open::Tcp(acceptor), Some(import)) = (open, table.imports.get(listen)) {
                acceptor.set_door(core, hop::is_wanted_of(core, (&import.service, Side::Egress), &import.policy));
            }
        }
    }

    /// Tries again what could not be opened; whether there was anything.
    pub(crate) fn retry(&mut self, core: &Rc<Core>) -> bool {
        let failed: Vec<_> = self.failed.keys().cloned().collect();
        let table = core.table.borrow().clone();
        for listen in &failed {
            if let Some((_, import)) = table.imports_at(listen).next() {
                self.open(core, listen.clone(), &import.service);
            }
        }
        !failed.is_empty()
    }

    /// What is done every second.
    pub(crate) fn beat(&self, core: &Core) {
        for open in self.open.values() {
            if let Open::Udp(listener) = open {
                listener.beat(core);
            }
        }
        flow::listener::forget_silent(core);
    }

    /// Takes a datagram that came in on another core. One whose listener has gone meanwhile is dropped, as it would be there.
    pub(crate) fn take(&self, core: &Rc<Core>, datagram: &flow::listener::Moved) {
        if let Some(Open::Udp(listener)) = self.open.get(&datagram.listen()) {
            listener.take(core, datagram);
        }
    }

    /// Whether all of them are there.
    pub(crate) fn are_bound(&self) -> bool {
        self.failed.is_empty()
    }

    /// What `/status` says of them.
    pub(crate) fn report(&self) -> Vec<ListenerReport> {
        let open = self.open.keys().map(|listen| ListenerReport { listen: listen.clone(), error: None });
        let failed = self.failed.iter();
        let failed = failed.map(|(listen, why)| ListenerReport { listen: listen.clone(), error: Some(why.clone()) });
        open.chain(failed).collect()
    }

    /// Begins no more connections, and goes on accepting those that have begun. Takes no more datagrams.
    pub(crate) fn begin_no_more(&self) {
        for (listen, open) in &self.open {
            match open {
                Open::Udp(listener) => listener.begin_no_more(),
                Open::Tcp(acceptor) => {
                    if let Err(error) = socket::begin_no_more(acceptor.socket.get_ref()) {
                        tracing::debug!(%listen, %error, "clients that connect now may be reset");
                    }
                }
            }
        }
    }

    /// Closes all of them, to drain: flows go on until they fall silent.
    pub(crate) fn close(self, core: &Rc<Core>) {
        for (listen, open) in &self.open {
            match open {
                Open::Tcp(acceptor) => acceptor.close(core, listen.address),
                Open::Udp(listener) => listener.leave(),
            }
        }
    }

    fn open(&mut self, core: &Rc<Core>, listen: Listen, service: &ServicePort) {
        if self.open.contains_key(&listen) {
            return;
        }
        let open = match listen.protocol {
            Protocol::Tcp => start(core, listen.address).map(Open::Tcp),
            Protocol::Udp => flow::listener::Listener::start(core, listen.address, service).map(Open::Udp),
        };
        match open {
            Ok(open) => {
                self.failed.remove(&listen);
                self.open.insert(listen, open);
            }
            Err(error) => {
                if core.id == 0 && !self.failed.contains_key(&listen) {
                    tracing::error!(%listen, %error, "cannot listen; trying again every second");
                }
                self.failed.insert(listen, error.to_string());
            }
        }
    }
}

impl Open {
    fn close(&self, core: &Rc<Core>, listen: &Listen) {
        match self {
            Self::Tcp(acceptor) => acceptor.close(core, listen.address),
            Self::Udp(listener) => listener.close(core),
        }
    }
}

impl Acceptor {
    fn set_door(&self, core: &Core, wanted: bool) {
        let is_open = core.common.local_hop.door(self.socket.get_ref().as_fd(), wanted, self.door.get());
        self.door.set(is_open);
    }

    /// Takes what the kernel has accepted already, so that no client that was let in is turned away, and closes.
    fn close(&self, core: &Rc<Core>, address: SocketAddr) {
        self.task.abort();
        self.set_door(core, false);
        while let Ok(client) = accept(&self.socket, address) {
            stream::start(core, client);
        }
        // The task that was ended holds the listener until it is dropped: what came in meanwhile would be reset.
        let _ = rustix::net::shutdown(self.socket.get_ref(), Shutdown::Both);
    }
}

fn start(core: &Rc<Core>, address: SocketAddr) -> io::Result<Acceptor> {
    let socket = Rc::new(socket::register(socket::listen(address)?, Interest::READABLE)?);
    let task = core.tasks.spawn_local(serve(core.clone(), socket.clone(), address)).abort_handle();
    Ok(Acceptor { socket, door: Cell::default(), task })
}

async fn serve(core: Rc<Core>, socket: Rc<AsyncFd<OwnedFd>>, address: SocketAddr) {
    loop {
        let Ok(mut guard) = socket.readable().await else { return };
        for _ in 0..BURST {
            match accept(&socket, address) {
                Ok(client) => stream::start(&core, client),
                Err(Errno::AGAIN) => {
                    guard.clear_ready();
                    break;
                }
                // Out of descriptors or memory: clients wait in the kernel's queue meanwhile.
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    core.counters.accept_errors.add(1);
                    tracing::warn!(%address, %error, "cannot accept");
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

fn accept(socket: &AsyncFd<OwnedFd>, listen: SocketAddr) -> Result<stream::Client, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, from) = acceptfrom_with(socket.get_ref().as_fd(), flags)?;
    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
    Ok(stream::Client { socket, listen, from, moved: false, greeting: None })
}

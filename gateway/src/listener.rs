//! Listeners of local clients, reconciled to the table on every core.

pub(crate) mod tunnel;

use crate::{core::Core, socket, status::ListenerReport, stream};
use isthmus_control_api::Table;
use rustix::{
    io::Errno,
    net::{Shutdown, SocketFlags, acceptfrom_with},
};
use std::{
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
    open: BTreeMap<SocketAddr, Open>,
    /// Those that could not be opened, and why.
    failed: BTreeMap<SocketAddr, String>,
}

#[derive(Debug)]
struct Open {
    socket: Rc<AsyncFd<OwnedFd>>,
    task: AbortHandle,
}

impl Listeners {
    /// Opens what the table has and closes what it has not. Connections that were accepted go on.
    pub(crate) fn reconcile(&mut self, core: &Rc<Core>, table: &Table) {
        self.open.retain(|address, open| {
            let stays = table.imports.contains_key(address);
            if !stays {
                open.close(core, *address);
            }
            stays
        });
        self.failed.clear();
        for &address in table.imports.keys() {
            self.open(core, address);
        }
    }

    /// Tries again what could not be opened; whether there was anything.
    pub(crate) fn retry(&mut self, core: &Rc<Core>) -> bool {
        let failed: Vec<_> = self.failed.keys().copied().collect();
        failed.iter().for_each(|&address| self.open(core, address));
        !failed.is_empty()
    }

    /// Whether all of them are there.
    pub(crate) fn are_bound(&self) -> bool {
        self.failed.is_empty()
    }

    /// What `/status` says of them.
    pub(crate) fn report(&self) -> Vec<ListenerReport> {
        let open = self.open.keys().map(|&address| ListenerReport { address, error: None });
        let failed = self.failed.iter();
        let failed = failed.map(|(&address, why)| ListenerReport { address, error: Some(why.clone()) });
        open.chain(failed).collect()
    }

    /// Begins no more connections, and goes on accepting those that have begun.
    pub(crate) fn begin_no_more(&self) {
        for (address, open) in &self.open {
            if let Err(error) = socket::begin_no_more(open.socket.get_ref()) {
                tracing::debug!(%address, %error, "clients that connect now may be reset");
            }
        }
    }

    /// Closes all of them.
    pub(crate) fn close(self, core: &Rc<Core>) {
        for (address, open) in &self.open {
            open.close(core, *address);
        }
    }

    fn open(&mut self, core: &Rc<Core>, address: SocketAddr) {
        if self.open.contains_key(&address) {
            return;
        }
        match start(core, address) {
            Ok(open) => {
                self.failed.remove(&address);
                self.open.insert(address, open);
            }
            Err(error) => {
                if core.id == 0 && !self.failed.contains_key(&address) {
                    tracing::error!(%address, %error, "cannot listen; trying again every second");
                }
                self.failed.insert(address, error.to_string());
            }
        }
    }
}

impl Open {
    /// Takes what the kernel has accepted already, so that no client that was let in is turned away, and closes.
    fn close(&self, core: &Rc<Core>, address: SocketAddr) {
        self.task.abort();
        while let Ok(client) = accept(&self.socket, address) {
            stream::start(core, client);
        }
        // The task that was ended holds the listener until it is dropped: what came in meanwhile would be reset.
        let _ = rustix::net::shutdown(self.socket.get_ref(), Shutdown::Both);
    }
}

fn start(core: &Rc<Core>, address: SocketAddr) -> io::Result<Open> {
    let socket = Rc::new(socket::register(socket::listen(address)?, Interest::READABLE)?);
    let task = core.tasks.spawn_local(serve(core.clone(), socket.clone(), address)).abort_handle();
    Ok(Open { socket, task })
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
    Ok(stream::Client { socket, listen, from, moved: false })
}

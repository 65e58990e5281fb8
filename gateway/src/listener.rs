//! Listeners of local clients, reconciled to the table on every core.

mod acceptor;
pub(crate) mod shared;
pub(crate) mod tunnel;

use crate::{core::Core, flow, hop, metrics::streams::Side, socket, status::ListenerReport};
use acceptor::{Acceptor, At};
use isthmus_control_api::{Listen, Protocol, ServicePort, Table};
use std::{cell::Cell, collections::BTreeMap, io, net::SocketAddr, rc::Rc, sync::Arc};

/// One core's listeners.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// The core's shared sockets, if there are any, for all that is [`Open::Shared`].
    shared: Vec<Acceptor>,
    open: BTreeMap<Listen, Open>,
    /// Those that could not be opened, and why.
    failed: BTreeMap<Listen, String>,
}

#[derive(Debug)]
enum Open {
    Tcp(Acceptor),
    /// Its connections come to the shared sockets.
    Shared(Place),
    Udp(flow::listener::Listener),
}

/// An address of the table whose connections come to shared sockets.
#[derive(Debug)]
struct Place {
    places: Arc<[SocketAddr]>,
    /// Whether they take part in the local hop.
    door: Cell<bool>,
}

impl Listeners {
    /// Those of a core that has no table yet.
    pub(crate) fn start(core: &Rc<Core>) -> Self {
        let mut listeners = Self::default();
        for socket in core.common.shared_listener.take_sockets(core.id) {
            match Acceptor::start(core, At::Many, socket) {
                Ok(acceptor) => listeners.shared.push(acceptor),
                Err(error) => {
                    let reason = format!("core {} cannot take connections at its socket: {error}", core.id);
                    core.common.shared_listener.turn_off(reason);
                }
            }
        }
        listeners.leave_shared(core);
        listeners
    }

    /// Opens what the table has and closes what it has not. Connections that were accepted go on; flows end with their listener.
    pub(crate) fn reconcile(&mut self, core: &Rc<Core>, table: &Table) {
        self.leave_shared(core);
        self.open.retain(|listen, open| {
            let import = table.imports_at(listen).map(|(_, import)| import).next();
            // A connection ends, and the next one is for the new service. A flow would go on.
            let stays = match open {
                Open::Tcp(_) | Open::Shared(_) => import.is_some(),
                Open::Udp(listener) => import.is_some_and(|import| import.service == *listener.service()),
            };
            if !stays {
                open.close(core, listen, &self.shared);
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
            let wanted = table
                .imports
                .get(listen)
                .is_some_and(|import| hop::is_wanted_of(core, (&import.service, Side::Egress), &import.policy));
            match open {
                Open::Tcp(acceptor) => acceptor.set_door(core, wanted),
                Open::Shared(place) => place.set_door(core, &self.shared, wanted),
                Open::Udp(_) => {}
            }
        }
    }

    /// Where the shared listener has been turned off, whatever came by it has to be listened for: by [`Self::retry`], or with the next
    /// table.
    fn leave_shared(&mut self, core: &Rc<Core>) {
        if self.shared.is_empty() || core.common.shared_listener.is_on() {
            return;
        }
        for (listen, open) in self.open.extract_if(.., |_, open| matches!(open, Open::Shared(_))) {
            open.close(core, &listen, &self.shared);
            self.failed.insert(listen, "the shared listener is off".to_owned());
        }
        self.shared.drain(..).for_each(|acceptor| acceptor.close(core));
    }

    /// Tries again what could not be opened; whether there was anything.
    pub(crate) fn retry(&mut self, core: &Rc<Core>) -> bool {
        self.leave_shared(core);
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
        self.shared.iter().for_each(Acceptor::begin_no_more);
        for open in self.open.values() {
            match open {
                Open::Udp(listener) => listener.begin_no_more(),
                Open::Tcp(acceptor) => acceptor.begin_no_more(),
                Open::Shared(_) => {}
            }
        }
    }

    /// Closes all of them, to drain: flows go on until they fall silent.
    pub(crate) fn close(self, core: &Rc<Core>) {
        for open in self.open.values() {
            match open {
                Open::Tcp(acceptor) => acceptor.close(core),
                Open::Udp(listener) => listener.leave(),
                // Where there is no shared socket any more, the kernel refuses. Whoever listens there next has doors of its own.
                Open::Shared(place) => place.set_door(core, &self.shared, false),
            }
        }
        self.shared.iter().for_each(|acceptor| acceptor.close(core));
    }

    fn open(&mut self, core: &Rc<Core>, listen: Listen, service: &ServicePort) {
        if self.open.contains_key(&listen) {
            return;
        }
        let open = match listen.protocol {
            Protocol::Tcp => open_tcp(core, listen.address),
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

/// The shared sockets' part, where they can have it, or else a listener of its own.
fn open_tcp(core: &Rc<Core>, address: SocketAddr) -> io::Result<Open> {
    Ok(match core.common.shared_listener.take(address)? {
        Some(places) => Open::Shared(Place { places, door: Cell::default() }),
        None => Open::Tcp(Acceptor::start(core, At::One(address), socket::listen(address)?)?),
    })
}

impl Open {
    fn close(&self, core: &Rc<Core>, listen: &Listen, shared: &[Acceptor]) {
        match self {
            Self::Tcp(acceptor) => acceptor.close(core),
            Self::Shared(place) => {
                place.set_door(core, shared, false);
                core.common.shared_listener.release(listen.address);
            }
            Self::Udp(listener) => listener.close(core),
        }
    }
}

impl Place {
    /// Has what comes to the places take part, whichever of the core's sockets takes it.
    fn set_door(&self, core: &Core, shared: &[Acceptor], wanted: bool) {
        // Whether all are open then.
        let set = |wanted: bool, is_open: bool| {
            let doors = shared.iter().flat_map(|acceptor| self.places.iter().map(move |place| (acceptor, *place)));
            doors.fold(wanted, |all, (acceptor, place)| acceptor.set_door_at(core, place, wanted, is_open) && all)
        };
        let was_open = self.door.get();
        let opened = set(wanted, was_open);
        if wanted && !opened && !was_open {
            // All of them, or none.
            set(false, true);
        }
        self.door.set(opened);
    }
}

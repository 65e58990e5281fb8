//! A core's listener for clients' datagrams: to which flow each belongs, and which begins one.

use super::{
    copy::client::{ClientEnd, Flow},
    egress,
    table::{Full, Known, Table},
};
use crate::{
    close::Closed,
    core::{Core, Mail},
    meter,
    metrics::reasons::{Bound, Dropped},
    socket::datagram::{self, Arrived, BATCH},
    stream,
};
use bytes::Bytes;
use isthmus_control_api::{Import, Listen, ServicePort};
use std::{
    cell::Cell,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::AbortHandle;

/// Bytes of the core's room for datagrams that come in.
const ROOM: usize = BATCH * 64 * 1024;
/// Bytes that are read before the other tasks of the core, those of the flows among them, have their turn.
const TURN: usize = 64 * 1024;

/// The flows of one core, all listeners together.
pub(crate) type Flows = Table<Key, Entry>;

/// What a flow is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    listen: SocketAddr,
    client: SocketAddr,
    to: Option<IpAddr>,
}

/// A flow, as the table knows it.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It is served here.
    Here(Rc<Flow>),
    /// This core had no way to serve it, and another one has.
    There {
        /// Which.
        core: usize,
        /// When it last had a datagram.
        last: Cell<Instant>,
    },
}

impl Known for Entry {
    fn last(&self) -> Instant {
        match self {
            Self::Here(flow) => flow.last(),
            Self::There { last, .. } => last.get(),
        }
    }
}

/// A datagram that another core is to serve.
#[derive(Debug)]
pub(crate) struct Moved {
    key: Key,
    payload: Bytes,
}

impl Moved {
    /// The listener that it came in on.
    pub(crate) fn listen(&self) -> Listen {
        Listen::udp(self.key.listen)
    }
}

/// One listener of one core.
#[derive(Debug)]
pub(crate) struct Listener {
    shared: Rc<Shared>,
    task: AbortHandle,
    overflowed: Cell<u64>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    service: ServicePort,
    socket: Rc<datagram::Listener>,
}

impl Listener {
    /// Listens for `service`.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(crate) fn start(core: &Rc<Core>, address: SocketAddr, service: &ServicePort) -> io::Result<Self> {
        let socket = Rc::new(datagram::Listener::bind(address)?);
        let shared = Rc::new(Shared { address, service: service.clone(), socket });
        let task = core.tasks.spawn_local(serve(core.clone(), shared.clone())).abort_handle();
        Ok(Self { shared, task, overflowed: Cell::default() })
    }

    /// What it listens for.
    pub(crate) fn service(&self) -> &ServicePort {
        &self.shared.service
    }

    /// Takes a datagram that came in on another core.
    pub(crate) fn take(&self, core: &Rc<Core>, Moved { key, payload }: &Moved) {
        self.shared.take(core, *key, payload, true);
    }

    /// Counts what the kernel had no room for.
    pub(crate) fn beat(&self, core: &Core) {
        let now = self.shared.socket.overflowed();
        let before = self.overflowed.replace(now);
        meter::datagrams_dropped(core, &self.shared.service, Dropped::Overflow, now.saturating_sub(before));
    }

    /// Takes no more from clients. What endpoints still say goes to them.
    pub(crate) fn begin_no_more(&self) {
        if let Err(error) = self.shared.socket.take_no_more() {
            tracing::debug!(address = %self.shared.address, %error, "clients' datagrams still come in");
        }
    }

    /// Closes it; its flows end.
    pub(crate) fn close(&self, core: &Core) {
        self.task.abort();
        self.beat(core);
        // The socket is there as long as flows that have not ended yet: a successor is to get what clients send.
        self.begin_no_more();
        core.flows.borrow_mut().remove_if(|key, entry| {
            let goes = key.listen == self.shared.address;
            if let (true, Entry::Here(flow)) = (goes, entry) {
                flow.close(Closed::Fin);
            }
            goes
        });
    }

    /// Closes it, and lets its flows go on until they fall silent.
    pub(crate) fn leave(&self) {
        self.task.abort();
    }
}

impl Shared {
    fn take(&self, core: &Rc<Core>, key: Key, payload: &[u8], moved: bool) {
        let now = Instant::now();
        // A copy: the room is for the next ones.
        let datagram = Bytes::copy_from_slice(payload);
        match core.flows.borrow().get(&key) {
            Some(Entry::Here(flow)) => return flow.push(datagram, now),
            // Where that core has no tunnel any more, the flow is to find another way.
            Some(Entry::There { core: there, last }) if !moved && self.can_serve(core, *there) => {
                last.set(now);
                return self.hand_over(core, *there, Moved { key, payload: datagram });
            }
            _ => {}
        }
        let Some(import) = core.table.borrow().imports.get(&Listen::udp(self.address)).cloned() else {
            return self.drop_unopened(core);
        };
        let there = if moved { None } else { stream::better_core(core, &import) };
        let flow = Flow::new(&core.queued, now);
        let entry = match there {
            Some(core) => Entry::There { core, last: Cell::new(now) },
            None => Entry::Here(flow.clone()),
        };
        match core.flows.borrow_mut().insert(key, entry, now) {
            Ok(Some(Entry::Here(evicted))) => evicted.close(Closed::Evicted),
            Ok(_) => {}
            Err(Full) => {
                core.counters.refused(Bound::UdpFlows);
                return self.drop_unopened(core);
            }
        }
        match there {
            Some(there) => self.hand_over(core, there, Moved { key, payload: datagram }),
            None => {
                flow.push(datagram, now);
                self.begin(core, key, flow, import);
            }
        }
    }

    fn can_serve(&self, core: &Core, there: usize) -> bool {
        let table = core.table.borrow();
        let clusters =
            table.imports.get(&Listen::udp(self.address)).into_iter().flat_map(|import| import.clusters.keys());
        clusters.into_iter().any(|cluster| core.common.board.has(there, cluster))
    }

    fn begin(&self, core: &Rc<Core>, key: Key, flow: Rc<Flow>, import: Arc<Import>) {
        let mut client = ClientEnd { flow, listener: self.socket.clone(), address: key.client, to: key.to };
        let core_ = core.clone();
        core.streams.spawn_local(async move {
            let core = core_;
            let listen = Listen::udp(key.listen);
            egress::serve(&core, (&listen, &import), &mut client).await;
            let is_it = |entry: &Entry| matches!(entry, Entry::Here(flow) if Rc::ptr_eq(flow, &client.flow));
            core.flows.borrow_mut().remove(&key, is_it);
        });
    }

    fn hand_over(&self, core: &Core, there: usize, moved: Moved) {
        let mailbox = core.common.mailboxes.get(there);
        if mailbox.is_none_or(|mailbox| mailbox.try_send(Mail::Datagram(moved)).is_err()) {
            meter::datagrams_dropped(core, &self.service, Dropped::Overflow, 1);
        }
    }

    fn drop_unopened(&self, core: &Core) {
        meter::datagrams_dropped(core, &self.service, Dropped::Unopened, 1);
    }
}

/// Forgets the flows of other cores that have fallen silent.
pub(crate) fn forget_silent(core: &Core) {
    let (now, timeout, table) = (Instant::now(), core.common.config.udp_idle, core.table.borrow());
    let own = |key: &Key| table.imports.get(&Listen::udp(key.listen)).and_then(|import| import.policy.timeouts.idle);
    core.flows.borrow_mut().remove_if(|key, entry| {
        let Entry::There { last, .. } = entry else { return false };
        now.saturating_duration_since(last.get()) > own(key).unwrap_or(timeout)
    });
}

async fn serve(core: Rc<Core>, shared: Rc<Shared>) {
    loop {
        let mut bytes = 0;
        while bytes < TURN {
            match read(&core, &shared).await {
                Ok(read) => bytes += read.max(TURN / BATCH),
                Err(error) => {
                    core.counters.accept_errors.add(1);
                    tracing::warn!(address = %shared.address, %error, "cannot read datagrams");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn read(core: &Rc<Core>, shared: &Shared) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut room = core.datagrams.borrow_mut();
        room.resize(ROOM, 0);
        shared.socket.poll_read(cx, &mut room, |Arrived { from, to, payload }| {
            let key = Key { listen: shared.address, client: from, to };
            shared.take(core, key, payload, false);
        })
    })
    .await
}

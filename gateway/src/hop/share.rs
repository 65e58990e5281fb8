//! What one core's sockets have to do with the local hop: which of them may join, which have, and what is counted of them.

use super::{
    LocalHop,
    part::Part,
    unread::{self, Unread},
    worth::{Account, Tally},
};
use crate::{core::Core, metrics::streams::Side, socket::Socket};
use isthmus_control_api::{ServicePolicy, ServicePort, Table};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    rc::{Rc, Weak},
};

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
    /// There if it takes part, or did.
    part: Option<Box<Part>>,
    /// Whether it was counted that it does no more.
    has_left: Cell<bool>,
}

impl Share {
    /// Its part, as long as it takes one.
    pub(crate) fn part(&self) -> Option<&Part> {
        self.part.as_deref().filter(|part| !part.is_over())
    }

    /// So many bytes were read or written at once.
    pub(crate) fn moved(&self, bytes: usize) {
        // What would have to pass a device costs less past TCP, however much it is.
        let counts = if self.part().is_some_and(Part::spares_a_device) { 0 } else { bytes };
        self.tally.moved(counts);
        if self.part.as_ref().is_some_and(|part| part.is_over()) && !self.has_left.replace(true) {
            self.tally.left();
        }
    }
}

/// A core's hold on what services gain, by [`Side`].
#[derive(Debug, Default)]
pub(crate) struct Held(RefCell<[HashMap<ServicePort, Rc<Account>>; 2]>);

impl Held {
    fn account(&self, hop: &LocalHop, service: &ServicePort, side: Side) -> Rc<Account> {
        let held = &mut self.0.borrow_mut()[side as usize];
        match held.get(service) {
            Some(account) => account.clone(),
            None => held.entry(service.clone()).or_insert(Rc::new(Account::new(hop.worths.get(service, side)))).clone(),
        }
    }

    /// What is done every second: the other cores hear of what this one's sockets have moved.
    pub(crate) fn beat(&self) {
        self.0.borrow().iter().flat_map(HashMap::values).for_each(|account| account.pass_on());
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
    policy.local_hop && hop.on().is_some() && core.hop_held.account(hop, service, side).is_worth_it()
}

/// Makes the connection to an endpoint take part that `socket` is about to make, if it is to. Whether it may join: also without a mark,
/// where the endpoint is a listener of this gateway's.
pub(crate) fn mark(
    core: &Core,
    (socket, endpoint): (BorrowedFd<'_>, SocketAddr),
    service: &ServicePort,
    policy: &ServicePolicy,
) -> bool {
    let hop = &core.common.local_hop;
    let is_marked = is_wanted_of(core, (service, Side::Ingress), policy);
    if is_marked {
        hop.mark(socket, endpoint);
    }
    is_marked || hop.door_ports.has(endpoint.port())
}

/// Whether a client's connection to `listen` may have joined, whose listener's [`super::entrance::Entrance`] says so or not: where the client is
/// this gateway, its mark is enough.
pub(crate) fn may_have_joined(core: &Core, entered: bool, listen: SocketAddr) -> bool {
    entered || core.common.local_hop.marked_ports.has(listen.port())
}

/// Has a connected socket read as one that takes part, if it does, and looks at it if its turn has come. What it moves is counted for
/// its service in any case, if that asks for the local hop. `may_have_joined`: whether the kernel is asked; `is_fresh`: whether nothing was read from
/// it; `endpoint`: where it leads, if it is no client's.
pub(crate) fn take_part(
    core: &Core,
    (socket, may_have_joined, is_fresh): (&Rc<Socket>, bool, bool),
    (service, policy): (&ServicePort, &ServicePolicy),
    endpoint: Option<SocketAddr>,
) {
    let hop = &core.common.local_hop;
    let Some(programs) = hop.ever_on() else { return };
    // One that has joined takes part whatever the policy says by now.
    let joined = may_have_joined && programs.noted(socket.as_fd()).is_ok_and(|noted| noted.joined);
    if !joined && !policy.local_hop {
        return;
    }
    let mut sample = core.hop_sample.0.borrow_mut();
    // Of one that something was read from, what the kernel has delivered says nothing.
    let looked_at = joined && is_fresh && core.random().is_multiple_of(ONE_OF) && sample.len() < MOST;
    let part =
        joined.then(|| Box::new(Part::new(hop.clone(), (socket.as_fd(), is_fresh), looked_at.then_some(endpoint))));
    let side = if endpoint.is_some() { Side::Ingress } else { Side::Egress };
    let tally = Tally::new(core.hop_held.account(hop, service, side));
    socket.take_part(Share { tally, part, has_left: Cell::new(false) });
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

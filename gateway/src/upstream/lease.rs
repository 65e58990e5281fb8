//! An endpoint that was picked for a stream, as long as the stream has it.

use super::Asker;
use crate::{
    balance::{Balancer, Pick, PickId, Tried},
    core::Core,
    meter::StreamMeter,
    socket::Socket,
    stream::record::choice::{CANDIDATES, Candidate, Choice},
};
use isthmus_control_api::{ServicePolicy, ServicePort};
use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// A connection to an endpoint, or a flow's socket. Dropping it tells the balancer that its stream is over.
pub(crate) struct Connected {
    pub(crate) socket: Rc<Socket>,
    /// What the export says of its streams.
    pub(crate) policy: Arc<ServicePolicy>,
    lease: Lease,
}

impl Connected {
    pub(super) fn new(socket: Socket, policy: Arc<ServicePolicy>, lease: Lease) -> Self {
        Self { socket: Rc::new(socket), policy, lease }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.lease.pick.as_ref().map(|pick| pick.address)
    }

    /// A flow's endpoint has shown, after `took`, that it is there.
    pub(crate) fn answered(&self, took: Duration) {
        self.lease.connected(took);
    }

    /// A flow's endpoint has shown that it is there, at a time that says nothing of how long it takes to answer.
    pub(crate) fn heard(&self) {
        self.lease.tell(|balancer, pick| balancer.heard(pick, Instant::now()));
    }

    /// A flow's endpoint says nothing, not even that it is not there.
    pub(crate) fn silent(&self) {
        self.lease.tell(|balancer, pick| balancer.silent(pick, Instant::now()));
    }

    /// A flow's endpoint has shown that it is not.
    pub(crate) fn failed(self) {
        self.lease.failed();
    }
}

/// An endpoint that a stream has picked: in flight until this is dropped.
pub(super) struct Lease {
    core: Rc<Core>,
    service: ServicePort,
    pick: Option<Pick>,
    /// It has not answered within what it usually takes, and not since: if nobody waits for it any more, it has failed.
    late: Cell<bool>,
}

impl Lease {
    /// Picks an endpoint that is not in `tried`, and notes it there.
    pub(super) fn take(
        core: &Rc<Core>,
        service: &ServicePort,
        asker: Asker,
        tried: &mut Tried,
    ) -> Option<(Self, SocketAddr)> {
        let mut balancers = core.balancers.borrow_mut();
        let balancer = balancers.get_mut(service)?;
        let stays = asker.sticky || balancer.is_by_client();
        let draw = core.draw(asker.client.filter(|_| stays));
        let pick = balancer.pick(Instant::now(), draw, tried)?;
        tried.insert(&pick);
        let address = pick.address;
        let lease = Self { core: core.clone(), service: service.clone(), pick: Some(pick), late: Cell::new(false) };
        Some((lease, address))
    }

    /// What it serves.
    pub(super) fn service(&self) -> &ServicePort {
        &self.service
    }

    /// Which endpoint it is.
    pub(super) fn id(&self) -> Option<PickId> {
        self.pick.as_ref().map(Pick::id)
    }

    /// What connecting there usually takes, where that is known.
    pub(super) fn usual(&self) -> Option<Duration> {
        self.pick.as_ref().and_then(Pick::usual)
    }

    pub(super) fn connected(&self, took: Duration) {
        self.late.set(false);
        self.tell(|balancer, pick| balancer.connected(pick, took, Instant::now()));
    }

    /// It has not answered within what it usually takes.
    pub(super) fn late(&self) {
        self.late.set(true);
        self.tell(|balancer, pick| balancer.late(pick, Instant::now()));
    }

    /// Its stream does not wait for it any more, as it was late. It may still answer.
    pub(super) fn overtaken(&self) {
        self.late.set(false);
        self.tell(|balancer, pick| balancer.overtaken(pick, Instant::now()));
    }

    pub(super) fn failed(mut self) {
        self.end(Balancer::failed);
    }

    /// It has failed, and nobody knows by whose fault.
    pub(super) fn put_off(mut self) {
        self.end(Balancer::put_off);
    }

    fn tell(&self, tell: impl FnOnce(&mut Balancer, &Pick)) {
        if let (Some(pick), Some(balancer)) = (&self.pick, self.core.balancers.borrow_mut().get_mut(&self.service)) {
            tell(balancer, pick);
        }
    }

    fn end(&mut self, end: fn(&mut Balancer, Pick, Instant)) {
        if let (Some(pick), Some(balancer)) =
            (self.pick.take(), self.core.balancers.borrow_mut().get_mut(&self.service))
        {
            end(balancer, pick, Instant::now());
        }
    }
}

/// Whom there is to choose from, where somebody wants to know.
pub(super) struct Noted(Option<(Vec<Candidate>, usize)>);

impl Noted {
    /// Before an endpoint is picked.
    pub(super) fn before(core: &Core, service: &ServicePort, tried: &Tried, meter: &StreamMeter<'_>) -> Self {
        let balancers = core.balancers.borrow();
        let Some(balancer) = balancers.get(service).filter(|_| meter.notes_choices()) else { return Self(None) };
        let known = balancer.candidates(tried, CANDIDATES, Instant::now());
        let known = known.iter().map(|(status, tried)| Candidate::endpoint(status, *tried)).collect();
        Self(Some((known, balancer.len())))
    }

    /// The stream is sent there.
    pub(super) fn chose(self, address: SocketAddr, meter: &mut StreamMeter<'_>) {
        if let Some((candidates, total)) = self.0 {
            meter.chose(Choice::new(address.to_string(), candidates, total));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(if self.late.get() { Balancer::failed } else { Balancer::released });
    }
}

//! Who lets a service's streams in, and what each is let in as.

use super::{
    bucket::Bucket,
    budget,
    table::Table,
    usage::{Reached, Usage},
};
use crate::metrics::{reasons::Bound, streams::Side};
use isthmus_control_api::{ClusterName, Limits, ServicePolicy, ServicePort};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// Sets of eight places for sources of streams, all services together.
const SOURCES: usize = 8192;
/// The same for peers, of which there are at most 256 a service.
const PEERS: usize = 4096;

/// All gates of the process.
#[derive(Debug)]
pub(crate) struct Gates {
    born: Instant,
    next: AtomicU64,
    /// Looked into when a core first meets a service.
    all: Mutex<HashMap<(ServicePort, Side), Weak<Gate>>>,
    /// An address is one only within its cluster: others may have the same.
    sources: Table<(u64, Option<ClusterName>, IpAddr)>,
    peers: Table<(u64, ClusterName)>,
    /// Looked into when a core first meets a linked cluster.
    links: Mutex<HashMap<ClusterName, Weak<Usage>>>,
}

/// Of one service, at one side: how many streams it has in this process.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Tells it from others in the tables.
    number: u64,
    all: Arc<Usage>,
    retrying: AtomicU32,
    retries: Bucket,
}

/// Who a stream is of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Comer<'a> {
    pub(crate) peer: Option<&'a ClusterName>,
    pub(crate) source: Option<IpAddr>,
    /// What all streams of the peer take, whatever their service, and what they may; `None`: it is this cluster.
    pub(crate) link: Option<(&'a Arc<Usage>, &'a Limits)>,
}

/// A stream that was let in, until this is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    gate: Arc<Gate>,
    policy: Arc<ServicePolicy>,
    /// All streams of its peer: counted whether they are bounded or not, so that a bound that comes later is one from the beginning.
    link: Option<Arc<Usage>>,
    /// Its seats by source and peer, the narrower first, where these have limits: most have none, and keep no room for them.
    narrow: Option<Box<[Option<Seat>; 2]>>,
    /// How often it is being tried again.
    retrying: u32,
    /// No upstream has taken it.
    pending: bool,
}

/// A stream's place among those that are counted together.
#[derive(Debug)]
struct Seat {
    usage: Arc<Usage>,
    pending: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            next: AtomicU64::new(0),
            all: Mutex::default(),
            sources: Table::new(SOURCES),
            peers: Table::new(PEERS),
            links: Mutex::default(),
        }
    }
}

impl Gates {
    /// The gate of a service. It takes a lock: ask once and keep it.
    pub(crate) fn get(&self, service: &ServicePort, side: Side) -> Arc<Gate> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = all.get(&(service.clone(), side)).and_then(Weak::upgrade) {
            return gate;
        }
        // Services come and go: those that no core and no stream holds are over.
        all.retain(|_, gate| gate.strong_count() > 0);
        let number = self.next.fetch_add(1, Relaxed);
        let gate = Gate { number, all: Arc::default(), retrying: AtomicU32::new(0), retries: Bucket::default() };
        let gate = Arc::new(gate);
        all.insert((service.clone(), side), Arc::downgrade(&gate));
        gate
    }

    /// What streams of `cluster` take. It takes a lock: ask once and keep it.
    pub(crate) fn link(&self, cluster: &ClusterName) -> Arc<Usage> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = links.get(cluster).and_then(Weak::upgrade) {
            return usage;
        }
        links.retain(|_, usage| usage.strong_count() > 0);
        let usage = Arc::default();
        links.insert(cluster.clone(), Arc::downgrade(&usage));
        usage
    }

    /// What their times count from.
    pub(crate) fn born(&self) -> Instant {
        self.born
    }

    /// Nanoseconds since these gates were made.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Lets a stream in through `gate`, everywhere or nowhere. The narrowest bound is asked first, so that who is refused by it asks for
    /// nothing of the others'.
    ///
    /// # Errors
    /// The bound that does not let it in.
    pub(crate) fn enter(
        &self,
        gate: &Arc<Gate>,
        policy: &Arc<ServicePolicy>,
        comer: Comer<'_>,
    ) -> Result<Admission, Bound> {
        let (now, limits) = (self.now(), &policy.limits);
        let source = comer.source.filter(|_| !limits.per_source.is_none()).map(|ip| {
            let key = (gate.number, comer.peer.cloned(), ip.to_canonical());
            self.sources.get(key, now).ok_or(Bound::Sources)
        });
        let peer = comer.peer.filter(|_| !limits.per_peer.is_none());
        let peer = peer.map(|peer| self.peers.get((gate.number, peer.clone()), now).ok_or(Bound::Sources));
        let (source, peer) = (source.transpose()?, peer.transpose()?);
        let wanted = [
            source.as_ref().map(|usage| (usage, &limits.per_source, OF_SOURCE)),
            peer.as_ref().map(|usage| (usage, &limits.per_peer, OF_PEER)),
            comer.link.map(|(usage, limits)| (usage, limits, OF_LINK)),
            Some((&gate.all, &limits.all, OF_SERVICE)),
        ];
        for (index, (usage, limits, bounds)) in wanted.iter().enumerate().filter_map(|(n, of)| Some((n, of.as_ref()?)))
        {
            if let Err(reached) = usage.enter(limits, now) {
                wanted[..index].iter().flatten().for_each(|(usage, limits, _)| usage.undo(limits));
                return Err(bound(*bounds, reached));
            }
        }
        let seats = [source, peer].map(|usage| usage.map(|usage| Seat { usage, pending: true }));
        let narrow = seats.iter().any(Option::is_some).then(|| Box::new(seats));
        let link = comer.link.map(|(usage, _)| usage.clone());
        Ok(Admission { gate: gate.clone(), policy: policy.clone(), link, narrow, retrying: 0, pending: true })
    }
}

impl Gate {
    /// Streams, those of them that are pending, and how often those are being tried again.
    pub(crate) fn taken(&self) -> [u32; 3] {
        [self.all.streams(), self.all.pending(), self.retrying.load(Relaxed)]
    }
}

impl Admission {
    /// An upstream has taken it.
    pub(crate) fn taken(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.gate.all.taken();
            self.link.iter().for_each(|usage| usage.taken());
        }
        if let Some(seats) = self.narrow.as_deref_mut() {
            seats.iter_mut().flatten().for_each(Seat::taken);
        }
        self.tried();
    }

    /// Whether it may be tried again at another upstream. What is granted counts until it is taken or given up.
    pub(crate) fn may_retry(&mut self, now: u64) -> bool {
        let gate = &*self.gate;
        let retrying = gate.retrying.fetch_add(1, Relaxed);
        let allowed = budget::allows(&self.policy.retries, retrying, gate.all.streams(), &gate.retries, now);
        if allowed {
            self.retrying += 1;
        } else {
            gate.retrying.fetch_sub(1, Relaxed);
        }
        allowed
    }

    /// The rates that its bytes are held to, each with how many share it: 0 for a source's, 1 for a peer's, 2 for a link's, 3 for the
    /// service's.
    pub(super) fn rates(&self) -> impl Iterator<Item = (u8, &Arc<Usage>)> {
        let seats = self.narrow.iter().flat_map(|seats| (0..).zip(seats.iter()));
        let seats = seats.filter_map(|(width, seat)| Some((width, &seat.as_ref()?.usage)));
        let link = self.link.iter().map(|usage| (2, usage));
        seats.chain(link).chain([(3, &self.gate.all)]).filter(|(_, usage)| usage.rate().is_some())
    }

    fn tried(&mut self) {
        // Most never were.
        if self.retrying > 0 {
            self.gate.retrying.fetch_sub(std::mem::take(&mut self.retrying), Relaxed);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.taken();
        self.gate.all.leave();
        self.link.iter().for_each(|usage| usage.leave());
    }
}

impl Seat {
    fn taken(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.usage.taken();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken();
        self.usage.leave();
    }
}

const OF_SERVICE: [Bound; 3] = [Bound::ServiceStreams, Bound::ServicePending, Bound::ServiceOpens];
const OF_PEER: [Bound; 3] = [Bound::PeerStreams, Bound::PeerPending, Bound::PeerOpens];
const OF_LINK: [Bound; 3] = [Bound::LinkStreams, Bound::LinkPending, Bound::LinkOpens];
const OF_SOURCE: [Bound; 3] = [Bound::SourceStreams, Bound::SourcePending, Bound::SourceOpens];

fn bound([streams, pending, opens]: [Bound; 3], reached: Reached) -> Bound {
    match reached {
        Reached::Streams => streams,
        Reached::Pending => pending,
        Reached::Opens => opens,
    }
}

#[cfg(test)]
mod tests;

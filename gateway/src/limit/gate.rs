//! Who lets a service's streams in, and what each is let in as.

use super::{
    bucket::{Bucket, Rate},
    budget,
    table::Table,
    usage::{Reached, Usage, rate},
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
/// The same for links, of which there are at most 256: so that hardly ever nine share a set.
const LINKS: usize = 512;

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
    links: Table<ClusterName>,
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
    /// What all streams of the peer may take, whatever their service.
    pub(crate) link: Limits,
}

/// A stream that was let in, until this is dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    gate: Arc<Gate>,
    policy: Arc<ServicePolicy>,
    /// Its seats by source, peer and link, the narrowest first, where these have limits: most have none, and keep no room for them.
    narrow: Option<Box<[Option<Seat>; 3]>>,
    /// How often it is being tried again.
    retrying: u32,
    /// No upstream has taken it.
    pending: bool,
}

/// A stream's place among those that are counted together.
#[derive(Debug)]
struct Seat {
    usage: Arc<Usage>,
    /// What its bytes are held to.
    rate: Option<Rate>,
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
            links: Table::new(LINKS),
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

    /// What their times count from.
    pub(crate) fn born(&self) -> Instant {
        self.born
    }

    /// Nanoseconds since these gates were made.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Lets a stream in through `gate`. The narrowest bound is asked first, so that who is refused by it takes nothing of the others'.
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
            Seat::take(self.sources.get(key, now), &limits.per_source, now, OF_SOURCE)
        });
        let source = source.transpose()?;
        let peer = comer.peer.filter(|_| !limits.per_peer.is_none()).map(|peer| {
            let key = (gate.number, peer.clone());
            Seat::take(self.peers.get(key, now), &limits.per_peer, now, OF_PEER)
        });
        let peer = peer.transpose()?;
        let link = comer.peer.filter(|_| !comer.link.is_none());
        let link = link.map(|peer| Seat::take(self.links.get(peer.clone(), now), &comer.link, now, OF_LINK));
        let link = link.transpose()?;
        gate.all.enter(&limits.all, now).map_err(|reached| bound(OF_SERVICE, reached))?;
        let seats = [source, peer, link];
        let narrow = seats.iter().any(Option::is_some).then(|| Box::new(seats));
        Ok(Admission { gate: gate.clone(), policy: policy.clone(), narrow, retrying: 0, pending: true })
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
    pub(super) fn rates(&self) -> impl Iterator<Item = (u8, &Arc<Usage>, Rate)> {
        let seats = self.narrow.iter().flat_map(|seats| (0..).zip(seats.iter()));
        let seats = seats.filter_map(|(width, seat)| seat.as_ref().map(|seat| (width, &seat.usage, seat.rate)));
        let all = (3, &self.gate.all, rate(&self.policy.limits.all));
        seats.chain([all]).filter_map(|(width, usage, rate)| Some((width, usage, rate?)))
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
    }
}

impl Seat {
    /// One among those of `usage`, which is `None` where their table is full.
    fn take(usage: Option<Arc<Usage>>, limits: &Limits, now: u64, bounds: [Bound; 3]) -> Result<Self, Bound> {
        let usage = usage.ok_or(Bound::Sources)?;
        usage.enter(limits, now).map_err(|reached| bound(bounds, reached))?;
        Ok(Self { usage, rate: rate(limits), pending: true })
    }

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

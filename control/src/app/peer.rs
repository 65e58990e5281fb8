//! A linked cluster: the two tasks that exchange summaries with it, and the cell that they leave their news in.

use super::{
    Peers,
    status::{PeerStatus, SyncState, millis},
    told::{Common, Taken, Told, Untold},
    union::Union,
};
use crate::{
    MAX_SERVICE_PORTS,
    exchange::{ExchangeError, Hello, Receiver, Services, Summaries, driver},
    peers::PeerView,
    registry::DesiredLink,
};
use isthmus_control_api::{ClusterName, GatewayId};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    net::UnixStream,
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// For the gateway to open a stream of the exchange.
const OPEN: Duration = Duration::from_secs(10);
/// Before a stream that failed is opened again; doubled up to [`BACKOFF_MAX`] each time, until one works.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Gateways of one peer that summaries are sent to, and ways by which they come: each of these holds what was said.
const GATEWAYS: usize = 32;

/// What is wrong where the gateways of a peer together say more than there is room for.
fn too_many() -> String {
    format!(
        "its gateways together export more than {MAX_SERVICE_PORTS} service ports, or than fits a message: the last by name are left out"
    )
}

/// A linked cluster. Dropping it ends its tasks.
#[derive(Debug)]
pub(super) struct Peer {
    cluster: ClusterName,
    /// How it is to be linked.
    wanted: DesiredLink,
    up: bool,
    /// Whether it was known at the start what it exports.
    kept: bool,
    /// Whether any of its gateways has said since our start what it exports.
    heard: bool,
    /// What its gateways last said together, for as long as those that are there have said nothing.
    union: Union,
    /// That of it which is taken.
    taken: Taken,
    /// What it is told.
    told: Told,
    /// What is sent to each of its gateways that is reached: each may have a control of its own.
    sending: BTreeMap<GatewayId, Conversation<Outbound>>,
    /// What comes from them: a control sends to each of our gateways that it reaches.
    receiving: BTreeMap<Path, Conversation<Inbound>>,
    changed: Arc<Notify>,
}

/// One of the peer's gateways, and the one of ours that has a tunnel to it.
pub(super) type Path = (GatewayId, GatewayId);

/// By our gateways, those of the peer that each has live tunnels to.
pub(super) type Reached = BTreeMap<GatewayId, BTreeSet<GatewayId>>;

/// One direction of the exchange with one gateway.
#[derive(Debug)]
struct Conversation<T> {
    cell: Arc<Cell<T>>,
    task: Option<Task>,
}

/// What it takes to send our exports.
pub(super) struct Offer {
    pub(super) peers: Arc<dyn Peers>,
    pub(super) hello: Hello,
}

/// What a task knows: written by it, read by control's one writer.
#[derive(Debug)]
struct Cell<T> {
    news: watch::Sender<T>,
    changed: Arc<Notify>,
    /// There is a way to the gateway again: what failed is tried again at once.
    again: Notify,
}

/// What the gateway told us.
#[derive(Debug, Default)]
struct Inbound {
    /// `None`: nothing yet.
    exports: Option<Arc<Summaries>>,
    synced: bool,
    heard: Option<SystemTime>,
    error: Option<String>,
}

/// What we told the gateway.
#[derive(Debug, Default)]
struct Outbound {
    synced: bool,
    answered: Option<SystemTime>,
    error: Option<String>,
}

/// A task that ends when this is dropped; the `JoinSet` that owns it hears of the end.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Peer {
    /// A peer that is down, with what is known of it from before, if anything is.
    pub(super) fn new(
        cluster: ClusterName,
        wanted: DesiredLink,
        kept: Option<Arc<Summaries>>,
        changed: Arc<Notify>,
    ) -> Self {
        Self {
            cluster,
            wanted,
            up: false,
            kept: kept.is_some(),
            heard: false,
            union: Union::new(kept.unwrap_or_default()),
            taken: Taken::default(),
            told: Told::default(),
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            changed,
        }
    }

    /// How it is to be linked now: `false` if it must be made anew for that.
    pub(super) fn adapt(&mut self, wanted: &DesiredLink) -> bool {
        let stays = self.wanted.services == wanted.services;
        self.wanted = wanted.clone();
        stays
    }

    /// Tells it what of the services it may hear of, and which namespaces of its services are missing among `namespaces`. Beside the
    /// services there are those that there was no room for.
    pub(super) fn tell(
        &mut self,
        services: (&Arc<Services>, &Arc<Untold>),
        common: &mut Common,
        namespaces: Option<&Arc<BTreeSet<Arc<str>>>>,
    ) {
        let exports = self.exports();
        self.told.tell(services, common, &self.wanted.link.exports, &exports, namespaces);
    }

    /// These of its gateways have live tunnels: our exports are sent to each, if there is an offer. What those that have gone said does not count any
    /// more, unless none is left that has said anything: that is kept for their return.
    pub(super) fn reached(&mut self, tasks: &mut JoinSet<()>, reached: &Reached, offer: Option<&Offer>) {
        self.exports();
        let gateways: BTreeSet<_> = reached.values().flatten().copied().collect();
        self.up = !gateways.is_empty();
        self.sending.retain(|gateway, _| gateways.contains(gateway));
        self.receiving.retain(|(theirs, ours), _| reached.get(ours).is_some_and(|reached| reached.contains(theirs)));
        let Some(offer) = offer.filter(|_| self.wanted.services.is_empty()) else { return };
        for gateway in gateways {
            let (to, exports) = ((self.cluster.clone(), gateway), self.told.subscribe());
            let Some(conversation) = conversation(&mut self.sending, gateway, &self.cluster, &self.changed) else {
                break;
            };
            let cell = conversation.cell.clone();
            if !cell.news.borrow().synced {
                cell.again.notify_one();
            }
            conversation.task.get_or_insert_with(|| {
                Task(tasks.spawn(keep_sending(to, cell, offer.peers.clone(), offer.hello.clone(), exports)))
            });
        }
    }

    /// A gateway opened a stream. It takes the place of an older one that came the same way: it would not have opened it if that were
    /// any good.
    pub(super) fn incoming(&mut self, tasks: &mut JoinSet<()>, path: Path, stream: UnixStream) {
        let (cluster, kept) = (self.cluster.clone(), self.exports());
        let Some(conversation) = conversation(&mut self.receiving, path, &self.cluster, &self.changed) else { return };
        let receiving = receive(cluster, conversation.cell.clone(), kept, stream);
        conversation.task = Some(Task(tasks.spawn(receiving)));
    }

    /// The peer as the rest of control sees it. `is_settled`: links have had their time to come up.
    pub(super) fn view(&mut self, is_settled: bool) -> PeerView {
        let exports = self.exports();
        PeerView {
            up: self.up,
            synced: self.heard,
            late: is_settled && !self.up,
            exports: self.taken.of(&exports, &self.wanted.imports),
            untold: self.told.untold().clone(),
            stated: self.wanted.services.clone(),
        }
    }

    /// What the peer's gateways last said that it exports: all of it.
    pub(super) fn exports(&mut self) -> Arc<Summaries> {
        let said = self.receiving.values().filter_map(|from| from.cell.news.borrow().exports.clone());
        let said: Vec<_> = said.collect();
        self.heard |= !said.is_empty();
        let was_cut = self.union.is_cut();
        self.union.say(said);
        if self.union.is_cut() && !was_cut {
            warn!(peer = %self.cluster, "{}", too_many());
        }
        self.union.all().clone()
    }

    /// Whether it has said what it exports, since our start or before.
    pub(super) fn is_heard(&self) -> bool {
        self.kept || self.heard
    }

    pub(super) fn report(&self) -> PeerStatus {
        let state = |synced| match (self.up, self.wanted.services.is_empty()) {
            (true, false) => SyncState::Stated,
            (up, _) => SyncState::of(up, synced),
        };
        let inbound = || self.receiving.values().map(|from| from.cell.news.borrow());
        let outbound = || self.sending.values().map(|to| to.cell.news.borrow());
        let error = self.union.is_cut().then(too_many);
        let error = error.or_else(|| inbound().find_map(|inbound| inbound.error.clone()));
        PeerStatus {
            up: self.up,
            known: self.is_heard() || !self.wanted.services.is_empty(),
            // Each of its gateways says what the whole cluster exports; ours is to be known to all of them.
            received: state(inbound().any(|inbound| inbound.synced)),
            sent: state(!self.sending.is_empty() && outbound().all(|outbound| outbound.synced)),
            last_received_ms: inbound().filter_map(|inbound| inbound.heard).max().map(millis),
            last_sent_ms: outbound().filter_map(|outbound| outbound.answered).max().map(millis),
            imported: self.union.all().services.len().max(self.wanted.services.len()),
            exported: if self.wanted.services.is_empty() { self.told.len() } else { 0 },
            error: error.or_else(|| outbound().find_map(|outbound| outbound.error.clone())),
        }
    }
}

impl<T> Cell<T> {
    fn note(&self, change: impl FnOnce(&mut T)) {
        self.news.send_modify(change);
        self.changed.notify_one();
    }
}

/// What is exchanged with one of `all`, if there is room for it.
fn conversation<'a, K: Ord, T: Default>(
    all: &'a mut BTreeMap<K, Conversation<T>>,
    key: K,
    cluster: &ClusterName,
    changed: &Arc<Notify>,
) -> Option<&'a mut Conversation<T>> {
    if !all.contains_key(&key) && all.len() >= GATEWAYS {
        warn!(peer = %cluster, limit = GATEWAYS, "too many gateways: nothing is exchanged with the others");
        return None;
    }
    let new = || {
        let cell = Cell { news: watch::Sender::default(), changed: changed.clone(), again: Notify::new() };
        Conversation { cell: Arc::new(cell), task: None }
    };
    Some(all.entry(key).or_insert_with(new))
}

/// Sends our exports on one stream after the other, for as long as the gateway is reached.
async fn keep_sending(
    (cluster, gateway): (ClusterName, GatewayId),
    cell: Arc<Cell<Outbound>>,
    peers: Arc<dyn Peers>,
    hello: Hello,
    exports: watch::Receiver<Arc<Summaries>>,
) {
    let mut backoff = BACKOFF;
    loop {
        let mut worked = false;
        let report = |synced| {
            worked = true;
            cell.note(|outbound| {
                *outbound = Outbound { synced, answered: Some(SystemTime::now()), error: None };
            });
        };
        let Err(error) = send_once((&cluster, gateway), &*peers, hello.clone(), exports.clone(), report).await else {
            return;
        };
        debug!(peer = %cluster, %error, "sending exports failed; trying again");
        if let ExchangeError::Refused(_) | ExchangeError::OutOfPlace(_) | ExchangeError::Malformed(_) = &error {
            warn!(peer = %cluster, %error, "the peer does not take our exports");
        }
        cell.note(|outbound| {
            outbound.synced = false;
            outbound.error = Some(format!("sending: {error}"));
        });
        backoff = if worked { BACKOFF } else { backoff.saturating_mul(2).min(BACKOFF_MAX) };
        tokio::select! {
            () = sleep(backoff) => {}
            () = cell.again.notified() => {}
        }
    }
}

async fn send_once(
    (cluster, gateway): (&ClusterName, GatewayId),
    peers: &dyn Peers,
    hello: Hello,
    exports: watch::Receiver<Arc<Summaries>>,
    report: impl FnMut(bool),
) -> Result<(), ExchangeError> {
    let opened = timeout(OPEN, peers.open(cluster, gateway)).await;
    let stream = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    driver::send(stream, hello, exports, report).await
}

/// Receives the peer's exports on one stream, until it ends. `kept` is what its gateways said before.
async fn receive(cluster: ClusterName, cell: Arc<Cell<Inbound>>, kept: Arc<Summaries>, stream: UnixStream) {
    let known = cell.news.borrow().exports.clone();
    let report = |receiver: &Receiver| {
        cell.note(|inbound| {
            // Until its snapshot has come, a gateway has said nothing of its own.
            let exports = if receiver.is_synced() { Some(receiver.view().clone()) } else { inbound.exports.take() };
            *inbound = Inbound { exports, synced: receiver.is_synced(), heard: Some(SystemTime::now()), error: None };
        });
    };
    let error = driver::receive(stream, Receiver::new(cluster.clone(), known.unwrap_or(kept)), report).await;
    if let ExchangeError::Stream(_) = error {
        debug!(peer = %cluster, %error, "the peer's stream of exports ended");
    } else {
        warn!(peer = %cluster, %error, "the peer's exports are not taken; what it said before stays");
    }
    cell.note(|inbound| {
        inbound.synced = false;
        inbound.error = Some(format!("receiving: {error}"));
    });
}

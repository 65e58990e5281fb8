//! A linked cluster: the two tasks that exchange summaries with it, and the cell that they leave their news in.

use super::{
    Peers,
    status::{PeerStatus, SyncState, millis},
    told::{Taken, Told},
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

/// Gateways of one peer that summaries are exchanged with: each holds what it has said.
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
    /// Whether any of its gateways has said since our start what it exports.
    heard: bool,
    /// What its gateways last said together, for as long as those that are there have said nothing.
    union: Union,
    /// That of it which is taken.
    taken: Taken,
    /// What it is told.
    told: Told,
    /// The exchange with each of its gateways that is reached: each has a control of its own.
    gateways: BTreeMap<GatewayId, Conversation>,
    changed: Arc<Notify>,
}

/// The exchange with one gateway.
#[derive(Debug)]
struct Conversation {
    cell: Arc<Cell>,
    sending: Option<Task>,
    receiving: Option<Task>,
}

/// What it takes to send our exports.
pub(super) struct Offer {
    pub(super) peers: Arc<dyn Peers>,
    pub(super) hello: Hello,
}

/// What is known of a gateway: written by its tasks, read by control's one writer.
#[derive(Debug)]
struct Cell {
    inbound: watch::Sender<Inbound>,
    outbound: watch::Sender<Outbound>,
    changed: Arc<Notify>,
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
    /// A peer that is down, with what is known of it from before.
    pub(super) fn new(
        cluster: ClusterName,
        wanted: DesiredLink,
        exports: Arc<Summaries>,
        changed: Arc<Notify>,
    ) -> Self {
        let (union, gateways) = (Union::new(exports), BTreeMap::new());
        Self {
            cluster,
            wanted,
            up: false,
            heard: false,
            union,
            taken: Taken::default(),
            told: Told::default(),
            gateways,
            changed,
        }
    }

    /// How it is to be linked now: `false` if it must be made anew for that.
    pub(super) fn adapt(&mut self, wanted: &DesiredLink) -> bool {
        let stays = self.wanted.services == wanted.services;
        self.wanted = wanted.clone();
        stays
    }

    /// Tells it what of `services` it may hear of, and which namespaces of its services are missing among `namespaces`.
    pub(super) fn tell(&mut self, services: &Arc<Services>, namespaces: Option<&Arc<BTreeSet<Arc<str>>>>) {
        let exports = self.exports();
        self.told.tell(services, &self.wanted.link.exports, &exports, namespaces);
    }

    /// These of its gateways have live tunnels: our exports are sent to each, if there is an offer. What those that have gone said does not count any
    /// more, unless none is left that has said anything: that is kept for their return.
    pub(super) fn reached(&mut self, tasks: &mut JoinSet<()>, gateways: &BTreeSet<GatewayId>, offer: Option<&Offer>) {
        self.exports();
        self.up = !gateways.is_empty();
        self.gateways.retain(|gateway, _| gateways.contains(gateway));
        let Some(offer) = offer.filter(|_| self.wanted.services.is_empty()) else { return };
        for &gateway in gateways {
            let exports = self.told.subscribe();
            let Some(conversation) = self.conversation(gateway) else { break };
            if conversation.sending.is_none() {
                let cell = conversation.cell.clone();
                let to = (self.cluster.clone(), gateway);
                let sending = keep_sending(to, cell, offer.peers.clone(), offer.hello.clone(), exports);
                let sending = Task(tasks.spawn(sending));
                if let Some(conversation) = self.gateways.get_mut(&gateway) {
                    conversation.sending = Some(sending);
                }
            }
        }
    }

    /// A gateway opened a stream. It takes the place of an older one of its own: it would not have opened it if that were any good.
    pub(super) fn incoming(&mut self, tasks: &mut JoinSet<()>, gateway: GatewayId, stream: UnixStream) {
        let (cluster, kept) = (self.cluster.clone(), self.exports());
        let Some(conversation) = self.conversation(gateway) else { return };
        let receiving = receive(cluster, conversation.cell.clone(), kept, stream);
        conversation.receiving = Some(Task(tasks.spawn(receiving)));
    }

    /// The exchange with a gateway, if there is room for it.
    fn conversation(&mut self, gateway: GatewayId) -> Option<&mut Conversation> {
        if !self.gateways.contains_key(&gateway) && self.gateways.len() >= GATEWAYS {
            warn!(peer = %self.cluster, limit = GATEWAYS, "too many gateways: nothing is exchanged with the others");
            return None;
        }
        let new = || Conversation {
            cell: Arc::new(Cell {
                inbound: watch::Sender::default(),
                outbound: watch::Sender::default(),
                changed: self.changed.clone(),
            }),
            sending: None,
            receiving: None,
        };
        Some(self.gateways.entry(gateway).or_insert_with(new))
    }

    /// The peer as the rest of control sees it. `is_settled`: links have had their time to come up.
    pub(super) fn view(&mut self, is_settled: bool) -> PeerView {
        let exports = self.exports();
        PeerView {
            up: self.up,
            synced: self.heard,
            late: is_settled && !self.up,
            exports: self.taken.of(&exports, &self.wanted.imports),
            stated: self.wanted.services.clone(),
        }
    }

    /// What the peer's gateways last said that it exports: all of it.
    pub(super) fn exports(&mut self) -> Arc<Summaries> {
        let said = self.gateways.values().filter_map(|gateway| gateway.cell.inbound.borrow().exports.clone());
        let said: Vec<_> = said.collect();
        self.heard |= !said.is_empty();
        let was_cut = self.union.is_cut();
        self.union.say(said);
        if self.union.is_cut() && !was_cut {
            warn!(peer = %self.cluster, "{}", too_many());
        }
        self.union.all().clone()
    }

    pub(super) fn report(&self) -> PeerStatus {
        let state = |synced| match (self.up, self.wanted.services.is_empty()) {
            (true, false) => SyncState::Stated,
            (up, _) => SyncState::of(up, synced),
        };
        let cells = || self.gateways.values().map(|gateway| &gateway.cell);
        let (inbound, outbound) = (|| cells().map(|c| c.inbound.borrow()), || cells().map(|c| c.outbound.borrow()));
        let error = self.union.is_cut().then(too_many);
        let error = error.or_else(|| inbound().find_map(|inbound| inbound.error.clone()));
        PeerStatus {
            up: self.up,
            // Each of its gateways says what the whole cluster exports; ours is to be known to all of them.
            received: state(inbound().any(|inbound| inbound.synced)),
            sent: state(!self.gateways.is_empty() && outbound().all(|outbound| outbound.synced)),
            last_received_ms: inbound().filter_map(|inbound| inbound.heard).max().map(millis),
            last_sent_ms: outbound().filter_map(|outbound| outbound.answered).max().map(millis),
            imported: self.union.all().services.len().max(self.wanted.services.len()),
            exported: if self.wanted.services.is_empty() { self.told.len() } else { 0 },
            error: error.or_else(|| outbound().find_map(|outbound| outbound.error.clone())),
        }
    }
}

impl Cell {
    fn inbound(&self, change: impl FnOnce(&mut Inbound)) {
        self.inbound.send_modify(change);
        self.changed.notify_one();
    }

    fn outbound(&self, change: impl FnOnce(&mut Outbound)) {
        self.outbound.send_modify(change);
        self.changed.notify_one();
    }
}

/// Sends our exports on one stream after the other, for as long as the gateway is reached.
async fn keep_sending(
    (cluster, gateway): (ClusterName, GatewayId),
    cell: Arc<Cell>,
    peers: Arc<dyn Peers>,
    hello: Hello,
    exports: watch::Receiver<Arc<Summaries>>,
) {
    let mut backoff = BACKOFF;
    loop {
        let mut worked = false;
        let report = |synced| {
            worked = true;
            cell.outbound(|outbound| {
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
        cell.outbound(|outbound| {
            outbound.synced = false;
            outbound.error = Some(format!("sending: {error}"));
        });
        backoff = if worked { BACKOFF } else { backoff.saturating_mul(2).min(BACKOFF_MAX) };
        sleep(backoff).await;
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
async fn receive(cluster: ClusterName, cell: Arc<Cell>, kept: Arc<Summaries>, stream: UnixStream) {
    let known = cell.inbound.borrow().exports.clone();
    let report = |receiver: &Receiver| {
        cell.inbound(|inbound| {
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
    cell.inbound(|inbound| {
        inbound.synced = false;
        inbound.error = Some(format!("receiving: {error}"));
    });
}

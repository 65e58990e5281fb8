//! Control at work: registry and peers in, tables out.
//!
//! ```text
//! registry ──▶ ┐                        ┌──▶ table  (watch)
//! link events ▶ ├─ Control (one writer) ─┼──▶ status (watch)
//! peers' views ▶┘                        ├──▶ own summaries ──▶ a sending task a peer
//!                                        └──▶ the store, for the next start
//! ```
//!
//! Everything that a peer does is confined to that peer's own tasks. What they learn is left in a cell that the writer looks into,
//! never queued: a peer that floods fills nothing and delays nobody.

mod peer;
mod status;
mod told;
mod union;

pub use status::{ControlStatus, PeerStatus, ServicesStatus, SyncState};

use crate::{
    exchange::{Hello, PROTOCOL, Services, Summaries},
    keeper::{self, Newest},
    merge,
    peers::PeerViews,
    registry::{Desired, Registry, RegistryStatus},
    store::{Kept, Store},
};
use isthmus_control_api::{ClusterName, GatewayId, Table};
use peer::Peer;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
    time::SystemTime,
};
use tokio::{
    net::UnixStream,
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use told::{Common, Own};
use tracing::{debug, info, warn};

/// From our start until a link that is not up counts as down: tunnels are dialled, refused and dialled again meanwhile.
const SETTLING: Duration = Duration::from_secs(30);
/// For the last write of the store, at the end.
const LAST_WRITE: Duration = Duration::from_secs(5);
/// For the registry to leave things in order.
const LAST_WORD: Duration = Duration::from_secs(5);

/// What this cluster's gateways tell of its links.
#[derive(Debug)]
pub enum LinkEvent {
    /// Which of a cluster's gateways have live tunnels with one of ours, now that it has changed. The link is up while any of ours
    /// reaches any.
    Reached {
        /// Which of ours says so.
        through: GatewayId,
        /// Which cluster.
        cluster: ClusterName,
        /// Which of its gateways.
        gateways: BTreeSet<GatewayId>,
    },
    /// The cluster's control opened a stream of the exchange.
    Incoming {
        /// Which of our gateways took it.
        through: GatewayId,
        /// Which cluster, as its certificate proved.
        cluster: ClusterName,
        /// Which of its gateways, as that said itself.
        gateway: GatewayId,
        /// The stream.
        stream: UnixStream,
    },
    /// Asks to be told once all that was told before counts in the table.
    Counts(oneshot::Sender<()>),
}

/// How control reaches the controls of linked clusters: through the gateway's tunnels.
pub trait Peers: Send + Sync + 'static {
    /// Opens a stream of the exchange to one of `cluster`'s gateways.
    fn open(
        &self,
        cluster: &ClusterName,
        gateway: GatewayId,
    ) -> Pin<Box<dyn Future<Output = io::Result<UnixStream>> + Send + '_>>;
}

/// What control publishes.
#[derive(Debug, Clone)]
pub struct Handles {
    /// The endpoint table, and each that follows.
    pub table: watch::Receiver<Arc<Table>>,
    /// How control fares.
    pub status: watch::Receiver<Arc<ControlStatus>>,
    /// What is known of the linked clusters.
    pub peers: watch::Receiver<Arc<PeerViews>>,
    /// Grows with every start of this control, whatever the clock does as long as its state is kept: tables of a later term count more.
    pub term: u64,
}

/// A cluster's control plane, ready to run.
pub struct Control {
    /// Until it runs.
    registry: Option<Box<dyn Registry>>,
    desired: watch::Receiver<Arc<Desired>>,
    /// Until the registry has loaded.
    restored: Option<Restored>,
    /// Whether anything was kept of what ran before the last stop.
    is_kept: bool,
    registry_status: watch::Receiver<Arc<RegistryStatus>>,
    peers: BTreeMap<ClusterName, Peer>,
    /// What the gateways say is up, linked or not: a link removed and made again before the gateway looked gives no new event.
    reached: BTreeMap<ClusterName, peer::Reached>,
    /// Who waits for what it told to count.
    waiting: Vec<oneshot::Sender<()>>,
    /// Once it runs.
    reach: Option<Arc<dyn Peers>>,
    hello: Hello,
    /// What peers said before the last stop, until their links are made.
    kept: BTreeMap<ClusterName, Arc<Summaries>>,
    store: Store,
    newest: watch::Sender<Newest>,
    own: Own,
    /// What peers are told alike.
    common: Common,
    views: watch::Sender<Arc<PeerViews>>,
    table: watch::Sender<Arc<Table>>,
    /// What the table was made from; nothing, of one from before the last stop.
    made_from: merge::Inputs,
    table_since: SystemTime,
    status: watch::Sender<Arc<ControlStatus>>,
    /// Whether links have had their time to come up.
    is_settled: bool,
    /// A peer's cell has changed.
    changed: Arc<Notify>,
    tasks: JoinSet<()>,
}

/// What goes on from the last stop until the registry has loaded.
struct Restored {
    /// What the registry says until then.
    placeholder: Arc<Desired>,
    /// What ran before.
    desired: Arc<Desired>,
}

impl Restored {
    fn new(registry: &dyn Registry, table: &Table) -> Self {
        Self { placeholder: registry.desired().borrow().clone(), desired: Arc::new(Desired::restored(table)) }
    }
}

impl Control {
    /// The control of `cluster`, with `registry` for its desired state, keeping its last good table in the directory `state`.
    ///
    /// The table is whole from the beginning: what the registry wants, what peers said before the last stop, all of them down.
    pub fn new(cluster: ClusterName, state: PathBuf, registry: Box<dyn Registry>) -> (Self, Handles) {
        let store = Store::new(state);
        let kept = store.load().unwrap_or_else(|error| {
            warn!(%error, "the last good table is not used; starting without it");
            None
        });
        let is_kept = kept.is_some();
        let Kept { term, table, peers: kept } = kept.unwrap_or_default();
        let term = status::millis(SystemTime::now()).max(term.saturating_add(1));
        let mut control = Self {
            desired: registry.desired(),
            is_kept,
            restored: (!registry.is_loaded()).then(|| Restored::new(&*registry, &table)),
            registry_status: registry.status(),
            registry: Some(registry),
            peers: BTreeMap::new(),
            reached: BTreeMap::new(),
            waiting: Vec::new(),
            reach: None,
            hello: Hello { protocol: PROTOCOL, cluster, epoch: term },
            kept,
            store,
            newest: watch::Sender::default(),
            own: Own::default(),
            common: Common::default(),
            views: watch::Sender::default(),
            table: watch::Sender::new(Arc::new(table)),
            made_from: merge::Inputs::default(),
            table_since: SystemTime::now(),
            status: watch::Sender::new(Arc::default()),
            is_settled: false,
            changed: Arc::new(Notify::new()),
            tasks: JoinSet::new(),
        };
        control.publish();
        let (table, status) = (control.table.subscribe(), control.status.subscribe());
        let handles = Handles { table, status, peers: control.views.subscribe(), term };
        (control, handles)
    }

    /// Runs until `shutdown`: follows the registry, exchanges summaries with the peers that `events` tell of, publishes tables.
    pub async fn run(
        mut self,
        peers: Arc<dyn Peers>,
        mut events: mpsc::Receiver<LinkEvent>,
        shutdown: CancellationToken,
    ) {
        self.reach = Some(peers);
        let mut registry = JoinSet::new();
        if let Some(source) = self.registry.take() {
            registry.spawn(source.run(self.views.subscribe(), shutdown.clone()));
        }
        let mut keeper = JoinSet::new();
        keeper.spawn(keeper::keep(self.store.clone(), self.newest.subscribe(), shutdown.clone()));
        let (mut events_open, mut registry_open) = (true, true);
        let settled = sleep(SETTLING);
        tokio::pin!(settled);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = self.desired.changed(), if registry_open => registry_open = changed.is_ok(),
                changed = self.registry_status.changed(), if registry_open => registry_open = changed.is_ok(),
                () = self.changed.notified() => {}
                () = &mut settled, if !self.is_settled => self.is_settled = true,
                event = events.recv(), if events_open => match event {
                    Some(event) => self.link_event(event),
                    None => events_open = false,
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        warn!(%error, "a task of control ended badly");
                    }
                    continue;
                }
            }
            self.publish();
            // Those that do not wait any more are no matter.
            for told in self.waiting.drain(..) {
                let _ = told.send(());
            }
        }
        if timeout(LAST_WORD, registry.join_next()).await.is_err() {
            warn!("the registry did not end in time");
        }
        self.tasks.shutdown().await;
        drop(self.newest);
        if timeout(LAST_WRITE, keeper.join_next()).await.is_err() {
            warn!("the last table could not be written in time");
        }
    }

    fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Reached { through, cluster, gateways } => {
                let mut reached = self.reached.remove(&cluster).unwrap_or_default();
                let was_up = !reached.is_empty();
                if gateways.is_empty() {
                    reached.remove(&through);
                } else {
                    reached.insert(through, gateways);
                }
                match (was_up, !reached.is_empty()) {
                    (false, true) => info!(peer = %cluster, "link up"),
                    (true, false) => info!(peer = %cluster, "link down: its endpoints are withdrawn"),
                    _ => debug!(peer = %cluster, %through, "other gateways are reached"),
                }
                if !reached.is_empty() {
                    self.reached.insert(cluster.clone(), reached);
                }
                self.follow(&cluster);
            }
            LinkEvent::Incoming { through, cluster, gateway, stream } => match self.peers.get_mut(&cluster) {
                Some(peer) => peer.incoming(&mut self.tasks, (gateway, through), stream),
                None => debug!(%cluster, "a stream of a cluster that is not linked"),
            },
            LinkEvent::Counts(told) => self.waiting.push(told),
        }
    }

    /// Exchanges with those of a peer's gateways that are reached, and with no other.
    fn follow(&mut self, cluster: &ClusterName) {
        let none = peer::Reached::new();
        let reached = self.reached.get(cluster).unwrap_or(&none);
        if let (Some(peer), Some(reach)) = (self.peers.get_mut(cluster), &self.reach) {
            let offer = peer::Offer { peers: reach.clone(), hello: self.hello.clone() };
            // What we export is not known yet: what peers know of it stays until it is.
            let offer = self.restored.is_none().then_some(&offer);
            peer.reached(&mut self.tasks, reached, offer);
        }
    }

    /// Brings everything that others see up to what is known now. Idempotent, and called after every event: there is no other path
    /// by which a table changes.
    fn publish(&mut self) {
        let was_restored = self.restored.is_some();
        let desired = self.desired();
        let own = self.own.tell(&desired.services);
        self.reconcile_peers(&desired, &own);
        for peer in self.peers.values_mut() {
            peer.tell((&own, self.own.untold()), &mut self.common, desired.namespaces.as_ref());
        }
        if was_restored && self.restored.is_none() {
            // There is something to send now.
            let linked: Vec<_> = self.peers.keys().cloned().collect();
            linked.iter().for_each(|cluster| self.follow(cluster));
        }
        let views: PeerViews =
            self.peers.iter_mut().map(|(name, peer)| (name.clone(), peer.view(self.is_settled))).collect();
        let views = merge::shared(Some(&*self.views.borrow()), &Arc::new(views));
        let inputs = merge::Inputs { desired, peers: views.clone() };
        let next = merge::next(&self.table.borrow(), &self.made_from, &inputs);
        if let Some(table) = next {
            debug!(version = table.version, "table published");
            self.table_since = SystemTime::now();
            self.table.send_replace(Arc::new(table));
        }
        self.made_from = inputs;
        // Nothing is kept of whoever has said nothing yet: after the next start an empty list would be believed.
        let said = |(name, peer): (&ClusterName, &mut Peer)| {
            let exports = peer.exports();
            peer.is_heard().then(|| (name.clone(), exports))
        };
        let said = self.peers.iter_mut().filter_map(said).collect();
        if self.restored.is_none() {
            keeper::note(
                &self.newest,
                Newest { term: self.hello.epoch, table: self.table.borrow().clone(), peers: said },
            );
        }
        self.views.send_if_modified(|known| {
            let differs = !Arc::ptr_eq(known, &views);
            *known = views;
            differs
        });
        self.status.send_replace(Arc::new(self.report()));
    }

    /// What is desired now: of a registry that has not loaded yet, what ran before the last stop.
    fn desired(&mut self) -> Arc<Desired> {
        if let Some(restored) = &self.restored {
            if Arc::ptr_eq(&self.desired.borrow_and_update(), &restored.placeholder) {
                return restored.desired.clone();
            }
            self.restored = None;
        }
        self.desired.borrow_and_update().clone()
    }

    /// Makes the peers those that the registry wants. One that leaves takes its tasks with it.
    fn reconcile_peers(&mut self, desired: &Desired, own: &Arc<Services>) {
        self.peers.retain(|cluster, peer| desired.links.get(cluster).is_some_and(|link| peer.adapt(link)));
        for (cluster, link) in &desired.links {
            if !self.peers.contains_key(cluster) {
                let kept = self.kept.remove(cluster);
                let mut peer = Peer::new(cluster.clone(), link.clone(), kept, self.changed.clone());
                // Before anything is sent: an empty list would be believed.
                peer.tell((own, self.own.untold()), &mut self.common, desired.namespaces.as_ref());
                self.peers.insert(cluster.clone(), peer);
                self.follow(cluster);
            }
        }
    }

    fn report(&self) -> ControlStatus {
        let peers = self.peers.iter().map(|(cluster, peer)| (cluster.clone(), peer.report())).collect();
        let registry = self.registry_status.borrow();
        ControlStatus {
            loaded: self.restored.is_none() || self.is_kept,
            untold: self.own.untold().clone(),
            ..status::report(&registry, &self.table.borrow(), self.table_since, peers)
        }
    }
}

#[cfg(test)]
mod tests;

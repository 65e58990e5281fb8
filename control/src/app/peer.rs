//! A linked cluster: the two tasks that exchange summaries with it, and the cell that they leave their news in.

use super::{
    Peers,
    status::{PeerStatus, SyncState, millis},
};
use crate::exchange::{ExchangeError, Hello, Receiver, Summaries, driver};
use isthmus_control_api::{ClusterName, ServicePort};
use std::{collections::BTreeSet, io, sync::Arc, time::Duration, time::SystemTime};
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

/// A linked cluster. Dropping it ends its tasks.
#[derive(Debug)]
pub(super) struct Peer {
    cluster: ClusterName,
    /// What it serves, where the configuration says so: then nothing is exchanged.
    stated: BTreeSet<ServicePort>,
    up: bool,
    cell: Arc<Cell>,
    sending: Option<Task>,
    receiving: Option<Task>,
}

/// What is known of a peer: written by its tasks, read by control's one writer.
#[derive(Debug)]
struct Cell {
    inbound: watch::Sender<Inbound>,
    outbound: watch::Sender<Outbound>,
    changed: Arc<Notify>,
}

/// What the peer told us.
#[derive(Debug, Default)]
struct Inbound {
    exports: Arc<Summaries>,
    synced: bool,
    heard: Option<SystemTime>,
    error: Option<String>,
}

/// What we told the peer.
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
        stated: BTreeSet<ServicePort>,
        exports: Arc<Summaries>,
        changed: Arc<Notify>,
    ) -> Self {
        let inbound = watch::Sender::new(Inbound { exports, ..Inbound::default() });
        let cell = Arc::new(Cell { inbound, outbound: watch::Sender::default(), changed });
        Self { cluster, stated, up: false, cell, sending: None, receiving: None }
    }

    /// A tunnel is live: our exports are sent from now on.
    pub(super) fn up(
        &mut self,
        tasks: &mut JoinSet<()>,
        peers: Arc<dyn Peers>,
        hello: Hello,
        exports: watch::Receiver<Arc<Summaries>>,
    ) {
        self.up = true;
        if !self.stated.is_empty() {
            return;
        }
        let sending = keep_sending(self.cluster.clone(), self.cell.clone(), peers, hello, exports);
        self.sending = Some(Task(tasks.spawn(sending)));
    }

    /// No tunnel is live. What the peer exports is kept for its return.
    pub(super) fn down(&mut self) {
        self.up = false;
        self.sending = None;
        self.receiving = None;
        self.cell.outbound.send_modify(|outbound| outbound.synced = false);
        self.cell.inbound.send_modify(|inbound| inbound.synced = false);
    }

    /// The peer opened a stream. It takes the place of an older one: the peer would not have opened it if that were any good.
    pub(super) fn incoming(&mut self, tasks: &mut JoinSet<()>, stream: UnixStream) {
        let receiving = receive(self.cluster.clone(), self.cell.clone(), stream);
        self.receiving = Some(Task(tasks.spawn(receiving)));
    }

    /// What the configuration says that it serves.
    pub(super) fn stated(&self) -> &BTreeSet<ServicePort> {
        &self.stated
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// What the peer last said that it exports.
    pub(super) fn exports(&self) -> Arc<Summaries> {
        self.cell.inbound.borrow().exports.clone()
    }

    pub(super) fn report(&self, own: &Summaries) -> PeerStatus {
        let (inbound, outbound) = (self.cell.inbound.borrow(), self.cell.outbound.borrow());
        let state = |synced| match (self.up, self.stated.is_empty()) {
            (true, false) => SyncState::Stated,
            (up, _) => SyncState::of(up, synced),
        };
        PeerStatus {
            up: self.up,
            received: state(inbound.synced),
            sent: state(outbound.synced),
            last_received_ms: inbound.heard.map(millis),
            last_sent_ms: outbound.answered.map(millis),
            imported: inbound.exports.len().max(self.stated.len()),
            exported: if self.stated.is_empty() { own.len() } else { 0 },
            error: inbound.error.clone().or_else(|| outbound.error.clone()),
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

/// Sends our exports on one stream after the other, for as long as the link is up.
async fn keep_sending(
    cluster: ClusterName,
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
        let Err(error) = send_once(&cluster, &*peers, hello.clone(), exports.clone(), report).await else { return };
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
    cluster: &ClusterName,
    peers: &dyn Peers,
    hello: Hello,
    exports: watch::Receiver<Arc<Summaries>>,
    report: impl FnMut(bool),
) -> Result<(), ExchangeError> {
    let opened = timeout(OPEN, peers.open(cluster)).await;
    let stream = opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    driver::send(stream, hello, exports, report).await
}

/// Receives the peer's exports on one stream, until it ends.
async fn receive(cluster: ClusterName, cell: Arc<Cell>, stream: UnixStream) {
    let known = cell.inbound.borrow().exports.clone();
    let report = |receiver: &Receiver| {
        cell.inbound(|inbound| {
            *inbound = Inbound {
                exports: receiver.view().clone(),
                synced: receiver.is_synced(),
                heard: Some(SystemTime::now()),
                error: None,
            };
        });
    };
    let error = driver::receive(stream, Receiver::new(cluster.clone(), known), report).await;
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

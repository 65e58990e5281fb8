//! Which gateways are attached, what they reach, and what waits for them.

use crate::{
    LinkReport, MAX_GATEWAYS, Meter, Position, Reached,
    feed::{Feed, Rejected},
};
use isthmus_control::LinkEvent;
use isthmus_control_api::{ClusterName, GatewayId};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime},
};
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Streams that a gateway was asked for and has not opened yet.
const PENDING: usize = 64;

/// How the gateways fare, for people.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// The term in which this control's tables count; `None`: another one leads.
    pub term: Option<u64>,
    /// The newest table.
    pub table_version: u64,
    /// Those that are attached, by their numbers.
    pub gateways: Vec<GatewayStatus>,
}

/// How one gateway fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Which one: the number that it has drawn at its start.
    pub gateway: String,
    /// What it calls itself.
    pub name: String,
    /// Its version of isthmus.
    pub version: String,
    /// When it came, in milliseconds since 1970.
    pub attached_ms: u64,
    /// The table that it has taken last; `None`: none yet.
    pub table_version: Option<u64>,
    /// For how long it has not had the newest.
    pub lag_ms: u64,
    /// What it has refused, if it has not taken another table since.
    pub rejected: Option<Rejected>,
    /// Linked clusters, and how many of their gateways it reaches.
    pub reached: BTreeMap<ClusterName, usize>,
    /// How its links fare, in its own words.
    pub links: Vec<LinkReport>,
}

/// What a gateway is asked to open.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) id: u64,
    pub(super) cluster: ClusterName,
    pub(super) gateway: GatewayId,
}

type Opened = oneshot::Sender<io::Result<UnixStream>>;

/// See the module.
pub(super) struct Gateways {
    attached: Mutex<BTreeMap<GatewayId, Attached>>,
    pub(super) events: mpsc::Sender<LinkEvent>,
    meter: Arc<dyn Meter>,
    numbers: AtomicU64,
}

/// One that is attached.
struct Attached {
    /// Which of the connections: a gateway that comes again has another one.
    connection: u64,
    name: String,
    version: String,
    since: SystemTime,
    reached: Reached,
    links: Vec<LinkReport>,
    has: Option<Position>,
    behind: Option<Instant>,
    rejected: Option<Rejected>,
    asks: mpsc::Sender<Ask>,
    pending: BTreeMap<u64, Opened>,
    /// Cancelled when the same gateway comes again.
    replaced: CancellationToken,
}

/// Who comes.
pub(super) struct Newcomer {
    pub(super) gateway: GatewayId,
    pub(super) connection: u64,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) asks: mpsc::Sender<Ask>,
}

/// A gateway's place, which it leaves when this is dropped.
pub(super) struct Place<'a> {
    gateways: &'a Gateways,
    gateway: GatewayId,
    connection: u64,
    pub(super) replaced: CancellationToken,
}

impl Gateways {
    pub(super) fn new(events: mpsc::Sender<LinkEvent>, meter: Arc<dyn Meter>) -> Self {
        Self { attached: Mutex::default(), events, meter, numbers: AtomicU64::new(1) }
    }

    /// A number for a new connection.
    pub(super) fn connection(&self) -> u64 {
        self.numbers.fetch_add(1, Relaxed)
    }

    /// Gives a gateway its place. One that comes again takes that of its older connection: it would not have come if that were any
    /// good.
    ///
    /// # Errors
    /// There are too many.
    pub(super) fn attach(&self, newcomer: Newcomer) -> Result<Place<'_>, Status> {
        let Newcomer { gateway, connection, name, version, asks } = newcomer;
        let mut attached = self.lock();
        if attached.len() >= MAX_GATEWAYS && !attached.contains_key(&gateway) {
            self.meter.refused();
            return Err(Status::resource_exhausted(format!("{MAX_GATEWAYS} gateways are attached already")));
        }
        let replaced = CancellationToken::new();
        let new = Attached {
            connection,
            name,
            version,
            since: SystemTime::now(),
            reached: attached.get(&gateway).map(|old| old.reached.clone()).unwrap_or_default(),
            links: Vec::new(),
            has: None,
            behind: None,
            rejected: None,
            asks,
            pending: BTreeMap::new(),
            replaced: replaced.clone(),
        };
        if let Some(old) = attached.insert(gateway, new) {
            old.replaced.cancel();
        }
        self.meter.attached(attached.len());
        Ok(Place { gateways: self, gateway, connection, replaced })
    }

    /// The gateway of a connection.
    pub(super) fn of(&self, connection: u64) -> Option<GatewayId> {
        self.lock().iter().find(|(_, one)| one.connection == connection).map(|(gateway, _)| *gateway)
    }

    /// Those that reach one of `cluster`'s gateways.
    pub(super) fn reaching(&self, cluster: &ClusterName, gateway: GatewayId) -> Vec<GatewayId> {
        let reaches = |one: &Attached| one.reached.get(cluster).is_some_and(|reached| reached.contains(&gateway));
        self.lock().iter().filter(|(_, one)| reaches(one)).map(|(gateway, _)| *gateway).collect()
    }

    /// Asks `through` for a stream to one of `cluster`'s gateways.
    ///
    /// # Errors
    /// It has gone, or has been asked for too many.
    pub(super) fn ask(
        &self,
        through: GatewayId,
        cluster: &ClusterName,
        gateway: GatewayId,
    ) -> io::Result<oneshot::Receiver<io::Result<UnixStream>>> {
        let mut attached = self.lock();
        let one = attached.get_mut(&through).ok_or(io::ErrorKind::NotConnected)?;
        one.pending.retain(|_, opened| !opened.is_closed());
        if one.pending.len() >= PENDING {
            self.meter.refused();
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "the gateway has not opened what it was asked for before",
            ));
        }
        let id = self.connection();
        one.asks.try_send(Ask { id, cluster: cluster.clone(), gateway }).map_err(|_| io::ErrorKind::WouldBlock)?;
        let (opened, answer) = oneshot::channel();
        one.pending.insert(id, opened);
        Ok(answer)
    }

    /// The answer to what a gateway was asked for. False: nobody waits for it.
    pub(super) fn answer(&self, connection: u64, id: u64, answer: io::Result<UnixStream>) -> bool {
        let mut attached = self.lock();
        let one = attached.values_mut().find(|one| one.connection == connection);
        one.and_then(|one| one.pending.remove(&id)).is_some_and(|opened| opened.send(answer).is_ok())
    }

    pub(super) fn status(&self, newest: &Position, term: Option<u64>, now: Instant) -> ServerStatus {
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let one = |(gateway, one): (&GatewayId, &Attached)| GatewayStatus {
            gateway: gateway.to_string(),
            name: one.name.clone(),
            version: one.version.clone(),
            attached_ms: millis(one.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
            table_version: one.has.map(|has| has.version),
            lag_ms: one.behind.map_or(0, |since| millis(now.saturating_duration_since(since))),
            rejected: one.rejected.clone(),
            reached: one.reached.iter().map(|(cluster, gateways)| (cluster.clone(), gateways.len())).collect(),
            links: one.links.clone(),
        };
        ServerStatus { term, table_version: newest.version, gateways: self.lock().iter().map(one).collect() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GatewayId, Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// What the gateway reaches now: control is told what differs.
    pub(super) async fn reaches(&self, now: Reached) {
        let Some(before) = self.change(|one| std::mem::replace(&mut one.reached, now.clone())) else { return };
        for (cluster, gateways) in differing(&before, &now) {
            // Control ends before its server.
            let _ = self.gateways.events.send(LinkEvent::Reached { through: self.gateway, cluster, gateways }).await;
        }
    }

    /// How its links fare.
    pub(super) fn links(&self, links: Vec<LinkReport>) {
        self.change(|one| one.links = links);
    }

    /// How far it is.
    pub(super) fn feed(&self, feed: &Feed, newest: &Position, now: Instant) {
        self.change(|one| {
            one.has = feed.has();
            one.rejected = feed.rejected().cloned();
            one.behind = (one.has.as_ref() != Some(newest)).then(|| one.behind.unwrap_or(now));
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Attached) -> T) -> Option<T> {
        let mut attached = self.gateways.lock();
        attached.get_mut(&self.gateway).filter(|one| one.connection == self.connection).map(change)
    }
}

/// The clusters of which something else is reached than before, and what.
fn differing(before: &Reached, now: &Reached) -> BTreeMap<ClusterName, BTreeSet<GatewayId>> {
    let gone = before.keys().filter(|cluster| !now.contains_key(*cluster));
    let gone = gone.map(|cluster| (cluster.clone(), BTreeSet::new()));
    let come = now.iter().filter(|(cluster, gateways)| before.get(*cluster) != Some(*gateways));
    gone.chain(come.map(|(cluster, gateways)| (cluster.clone(), gateways.clone()))).collect()
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut attached = self.gateways.lock();
        if attached.get(&self.gateway).is_some_and(|one| one.connection == self.connection) {
            attached.remove(&self.gateway);
            self.gateways.meter.attached(attached.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told() {
        let of = |all: &[(&str, &[u64])]| -> Reached {
            let ids = |ids: &[u64]| ids.iter().copied().map(GatewayId).collect();
            all.iter().map(|(name, gateways)| (name.parse().unwrap(), ids(gateways))).collect()
        };
        let (before, now) = (of(&[("east", &[1, 2]), ("north", &[3])]), of(&[("east", &[1]), ("south", &[4])]));
        assert_eq!(differing(&before, &now), of(&[("east", &[1]), ("north", &[]), ("south", &[4])]));
        assert!(differing(&now, &now).is_empty());
    }
}

//! Which gateways are attached, what they reach, and what waits for them.

use super::{
    status::{AwayStatus, GatewayStatus, ServerStatus},
    words::{Heard, Words},
};
use crate::{
    LinkReport, MAX_GATEWAYS, Meter, Position, Reached, Refused,
    feed::{Feed, Rejected},
    transport::LastHeard,
};
use isthmus_control::LinkEvent;
use isthmus_control_api::{ClusterName, GatewayId};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime},
};
use tokio::{
    net::UnixStream,
    sync::{Notify, mpsc, oneshot},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Streams that a gateway was asked for and has not opened yet.
const PENDING: usize = 64;

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
    all: Mutex<All>,
    changed: Notify,
    pub(super) events: mpsc::Sender<LinkEvent>,
    meter: Arc<dyn Meter>,
    numbers: AtomicU64,
}

#[derive(Default)]
struct All {
    attached: BTreeMap<GatewayId, Attached>,
    words: Words,
    /// Who is to be told once all that was said counts.
    waiting: Vec<oneshot::Sender<()>>,
}

/// One that is attached.
struct Attached {
    /// Which of the connections: a gateway that comes again has another one.
    connection: u64,
    name: String,
    version: String,
    since: SystemTime,
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
    /// When its connection brought something last.
    pub(super) heard: LastHeard,
}

/// A gateway's place, which it leaves when this is dropped.
pub(super) struct Place<'a> {
    gateways: &'a Gateways,
    gateway: GatewayId,
    connection: u64,
    heard: LastHeard,
    pub(super) replaced: CancellationToken,
}

impl Gateways {
    pub(super) fn new(events: mpsc::Sender<LinkEvent>, meter: Arc<dyn Meter>) -> Self {
        Self { all: Mutex::default(), changed: Notify::new(), events, meter, numbers: AtomicU64::new(1) }
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
        let Newcomer { gateway, connection, name, version, asks, heard } = newcomer;
        let attached = &mut self.lock().attached;
        if attached.len() >= MAX_GATEWAYS && !attached.contains_key(&gateway) {
            self.meter.refused(Refused::Gateways);
            return Err(Status::resource_exhausted(format!("{MAX_GATEWAYS} gateways are attached already")));
        }
        let replaced = CancellationToken::new();
        let new = Attached {
            connection,
            name,
            version,
            since: SystemTime::now(),
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
        Ok(Place { gateways: self, gateway, connection, heard, replaced })
    }

    /// The gateway of a connection.
    pub(super) fn of(&self, connection: u64) -> Option<GatewayId> {
        self.lock().attached.iter().find(|(_, one)| one.connection == connection).map(|(gateway, _)| *gateway)
    }

    /// Those that reach one of `cluster`'s gateways.
    pub(super) fn reaching(&self, cluster: &ClusterName, gateway: GatewayId) -> Vec<GatewayId> {
        let All { attached, words, .. } = &*self.lock();
        let reached = |through| words.of(through).and_then(|reached| reached.get(cluster));
        let reaches = |through: &GatewayId| reached(*through).is_some_and(|reached| reached.contains(&gateway));
        attached.keys().copied().filter(reaches).collect()
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
        let attached = &mut self.lock().attached;
        let one = attached.get_mut(&through).ok_or(io::ErrorKind::NotConnected)?;
        one.pending.retain(|_, opened| !opened.is_closed());
        if one.pending.len() >= PENDING {
            self.meter.refused(Refused::Gateways);
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
        let attached = &mut self.lock().attached;
        let one = attached.values_mut().find(|one| one.connection == connection);
        one.and_then(|one| one.pending.remove(&id)).is_some_and(|opened| opened.send(answer).is_ok())
    }

    pub(super) fn status(&self, newest: &Position, term: Option<u64>, now: Instant) -> ServerStatus {
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let count = |reached: &Reached| reached.iter().map(|(name, gateways)| (name.clone(), gateways.len())).collect();
        let All { attached, words, .. } = &*self.lock();
        let one = |(gateway, one): (&GatewayId, &Attached)| GatewayStatus {
            gateway: gateway.to_string(),
            name: one.name.clone(),
            version: one.version.clone(),
            attached_ms: millis(one.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
            table_version: one.has.map(|has| has.version),
            lag_ms: one.behind.map_or(0, |since| millis(now.saturating_duration_since(since))),
            rejected: one.rejected.clone(),
            reached: words.of(*gateway).map(count).unwrap_or_default(),
            links: one.links.clone(),
        };
        let away = words.away().map(|(gateway, reached, until)| AwayStatus {
            gateway: gateway.to_string(),
            reached: count(reached),
            counts_ms: millis(until.saturating_duration_since(now)),
        });
        ServerStatus {
            term,
            table_version: newest.version,
            gateways: attached.iter().map(one).collect(),
            away: away.collect(),
        }
    }

    /// Tells `told` once control has been told all that was said before.
    pub(super) fn counts(&self, told: oneshot::Sender<()>) {
        self.lock().waiting.push(told);
        self.changed.notify_one();
    }

    /// Tells control what the gateways reach, for as long as it listens: in one place, so that nothing comes out of order.
    pub(super) async fn tell(&self) {
        loop {
            let (news, waiting, next) = {
                let All { words, waiting, .. } = &mut *self.lock();
                words.forget(Instant::now());
                (words.news(), std::mem::take(waiting), words.next())
            };
            let reached = news.into_iter().map(|Heard { through, cluster, gateways }| LinkEvent::Reached {
                through,
                cluster,
                gateways,
            });
            for event in reached.chain(waiting.into_iter().map(LinkEvent::Counts)) {
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
            let due = async {
                match next {
                    Some(next) => sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = due => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// What the gateway reaches now.
    pub(super) fn reaches(&self, now: Reached) {
        let all = &mut *self.gateways.lock();
        if self.is_held(&all.attached) {
            all.words.say(self.gateway, now);
            self.gateways.changed.notify_one();
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

    fn change(&self, change: impl FnOnce(&mut Attached)) {
        let attached = &mut self.gateways.lock().attached;
        if let Some(one) = attached.get_mut(&self.gateway).filter(|one| one.connection == self.connection) {
            change(one);
        }
    }

    /// Whether it is not that of a later connection.
    fn is_held(&self, attached: &BTreeMap<GatewayId, Attached>) -> bool {
        attached.get(&self.gateway).is_some_and(|one| one.connection == self.connection)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let all = &mut *self.gateways.lock();
        if self.is_held(&all.attached) {
            all.attached.remove(&self.gateway);
            all.words.lost(self.gateway, self.heard.at());
            self.gateways.changed.notify_one();
            self.gateways.meter.attached(all.attached.len());
        }
    }
}

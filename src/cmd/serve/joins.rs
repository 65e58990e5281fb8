//! Takes those who come with an invitation: as many at once and in a time as are needed, and no more.

use crate::cmd::linking::{self, Change, Plan};
use isthmus_certs::{Directory, IdentityStore, TrustAnchors, TrustDomain};
use isthmus_control::{Config, LinkFiles};
use isthmus_control_api::Table;
use isthmus_gateway::{
    IncomingJoin,
    metrics::{
        Metrics,
        reasons::{Bound, JoinResult},
    },
};
use isthmus_link::{Grant, Host, Invites, Outcome, Refusal, Refused};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{interval, timeout},
};

/// Conversations at once.
const AT_ONCE: usize = 4;
/// Attempts that are taken without a pause.
const BURST: u32 = 20;
/// One more attempt becomes free each.
const PACE: Duration = Duration::from_millis(500);
/// Invitations that are over are put away this often.
const SWEEP: Duration = Duration::from_mins(1);
/// For the process to take up what was written. Nothing depends on it but that the first dial succeeds.
const TAKEN: Duration = Duration::from_secs(5);

/// This cluster as it receives those who were invited.
pub(in crate::cmd) struct Inviting {
    identity_path: PathBuf,
    identity: IdentityStore,
    invites: Invites,
    table: watch::Receiver<Arc<Table>>,
}

/// Serves them until `joining` ends.
pub(in crate::cmd) async fn serve(
    mut joining: mpsc::Receiver<IncomingJoin>,
    host: Arc<Inviting>,
    metrics: Arc<Metrics>,
) {
    let (mut running, mut pace) = (JoinSet::new(), Pace::new(Instant::now()));
    let (mut slots, mut sweep) = (Vec::<Slot>::new(), interval(SWEEP));
    loop {
        let join = tokio::select! {
            Some(_) = running.join_next() => continue,
            _ = sweep.tick() => {
                host.invites.sweep(SystemTime::now());
                continue;
            }
            join = joining.recv() => join,
        };
        let Some(join) = join else { return };
        if !pace.take(Instant::now()) || !make_room(&mut slots, &join, &metrics) {
            metrics.control().refused(Bound::Joins);
            tracing::debug!(from = %join.from, "too many try to join");
            continue;
        }
        let (source, proven) = (source(join.from), Arc::new(AtomicBool::new(false)));
        let task = running.spawn(one(join, host.clone(), metrics.clone(), proven.clone()));
        slots.push(Slot { source, proven, task });
    }
}

/// A conversation under way.
struct Slot {
    source: IpAddr,
    /// Whether it has proven that it was invited.
    proven: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Ends the conversation that `join` takes the place of, if it has to. Whether there is a place.
fn make_room(slots: &mut Vec<Slot>, join: &IncomingJoin, metrics: &Metrics) -> bool {
    slots.retain(|slot| !slot.task.is_finished());
    let taken: Vec<_> = slots.iter().map(|slot| (slot.source, slot.proven.load(Ordering::Relaxed))).collect();
    match place(&taken, source(join.from)) {
        Place::Free => true,
        Place::Of(at) => {
            slots.remove(at).task.abort();
            metrics.control().refused(Bound::Joins);
            true
        }
        Place::None => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Free,
    /// The one that this one has.
    Of(usize),
    None,
}

/// ● The place for one more from `source`. `taken`, from the oldest on, has the sources of those under way, and who of them has proven that
/// he was invited: those stay. Of the others a source has one at most, and the oldest goes when there are too many.
fn place(taken: &[(IpAddr, bool)], source: IpAddr) -> Place {
    let same = taken.iter().position(|&(other, proven)| !proven && other == source);
    match same {
        Some(at) => Place::Of(at),
        None if taken.len() < AT_ONCE => Place::Free,
        None => taken.iter().position(|&(_, proven)| !proven).map_or(Place::None, Place::Of),
    }
}

/// Whom an address counts as: of IPv6, everybody has a /64.
fn source(from: SocketAddr) -> IpAddr {
    match from.ip().to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

async fn one(join: IncomingJoin, host: Arc<Inviting>, metrics: Arc<Metrics>, proven: Arc<AtomicBool>) {
    let IncomingJoin { socket, received, from, permit } = join;
    let outcome = match TcpStream::from_std(socket) {
        Ok(socket) => {
            let proven = || proven.store(true, Ordering::Relaxed);
            isthmus_link::serve(&*host, socket, &received, SystemTime::now, proven).await
        }
        Err(error) => Outcome::Broke(error),
    };
    drop(permit);
    match outcome {
        Outcome::Linked(domain) => {
            metrics.joined(JoinResult::Linked);
            tracing::info!(cluster = %domain.cluster, %from, ca_sha256 = host.trusted(&domain),
                "linked: it came with an invitation; compare its CA with what `isthmus join` printed there");
        }
        Outcome::Probed => tracing::debug!(%from, "somebody looked whether a gateway is here"),
        Outcome::Refused(refused) => {
            metrics.joined(result(refused.reason));
            tracing::warn!(%from, reason = refused.reason.as_str(), %refused, "refused a cluster that wants to join");
        }
        Outcome::Broke(error) => {
            metrics.joined(JoinResult::Broken);
            tracing::debug!(%from, %error, "a cluster that wants to join has gone");
        }
    }
}

fn result(reason: Refusal) -> JoinResult {
    match reason {
        Refusal::WrongProof => JoinResult::WrongProof,
        Refusal::Used => JoinResult::Used,
        Refusal::Expired => JoinResult::Expired,
        _ => JoinResult::Refused,
    }
}

impl Inviting {
    /// The cluster that `config` runs.
    pub(in crate::cmd) fn new(config: &Config, identity: IdentityStore, table: watch::Receiver<Arc<Table>>) -> Self {
        let identity_path = config.identity.clone();
        Self { invites: Invites::of(&identity_path), identity_path, identity, table }
    }

    fn directory(&self) -> Directory {
        Directory::new(&self.identity_path)
    }

    /// The SHA-256 of the CA certificates of `domain` that are trusted.
    fn trusted(&self, domain: &TrustDomain) -> String {
        let bundle = self.directory().bundle(domain).ok().flatten();
        bundle.map(|bundle| linking::fingerprints(&bundle)).unwrap_or_default()
    }

    /// What the grant would do.
    fn plan(&self, grant: &Grant) -> Result<Plan, Refused> {
        let made = LinkFiles::of(&self.identity_path);
        // What is linked, and not by a file of ours, is so by the configuration.
        let linked = self.table.borrow().links.keys().filter(|cluster| !made.has(cluster)).cloned().collect();
        let proven = |known: &TrustAnchors| grant.proves(known);
        linking::plan(&self.directory(), &grant.bundle, &linked, grant.replace, proven)
            .map_err(|why| Refused::new(Refusal::Conflict, format_args!("on that side, {why}")))
    }

    /// Waits until the gateway knows the link and trusts the cluster, so that its first dial succeeds.
    async fn taken_up(&self, bundle: &TrustAnchors) {
        let cluster = &bundle.domain().cluster;
        let mut table = self.table.clone();
        let mut changes = self.identity.subscribe();
        let linked = async { drop(table.wait_for(|table| table.links.contains_key(cluster)).await) };
        let trusted = async {
            while self.identity.current().bundle(cluster) != Some(bundle) && changes.changed().await.is_ok() {}
        };
        let both = async { tokio::join!(linked, trusted) };
        if timeout(TAKEN, both).await.is_err() {
            tracing::warn!(%cluster, "the link is made, but not taken up yet: see the log for why");
        }
    }
}

impl Host for Inviting {
    fn identity(&self) -> &IdentityStore {
        &self.identity
    }

    fn bundle(&self) -> Result<TrustAnchors, Refused> {
        let bundle = self.directory().own_bundle(self.identity.current().domain());
        bundle.map_err(|error| {
            tracing::error!(%error, "our own CA cannot be read: nobody can be invited");
            Refused::new(Refusal::Failed, "the inviter's own CA cannot be read: its log says why")
        })
    }

    fn invites(&self) -> &Invites {
        &self.invites
    }

    fn check(&self, grant: &Grant) -> Result<(), Refused> {
        self.plan(grant).map(drop)
    }

    async fn grant(&self, grant: &Grant) -> Result<(), Refused> {
        // Once more: somebody else may have been linked by that name since. From here to the end of the writing nobody is let in between.
        let Plan { change, bundle } = self.plan(grant)?;
        let cluster = &bundle.domain().cluster;
        match change {
            Change::New => {}
            Change::Renewed => tracing::info!(%cluster, "was linked before, with the same CA"),
            Change::Replaced => tracing::warn!(%cluster, "comes with another CA than before, as the invitation allows"),
        }
        let written = linking::link(&self.directory(), &bundle, &grant.endpoints);
        written.map_err(|failure| {
            tracing::error!(%cluster, error = failure.message(), "the link cannot be made");
            Refused::new(Refusal::Failed, "the inviter cannot write its half of the link: its log says why")
        })?;
        self.taken_up(&bundle).await;
        Ok(())
    }
}

/// ● How many attempts may be made: a bucket that is full at first, and fills at a steady pace.
#[derive(Debug)]
struct Pace {
    free: u32,
    since: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { free: BURST, since: now }
    }

    /// Whether one more may be made now.
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_millis() / PACE.as_millis();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.free = self.free.saturating_add(passed).min(BURST);
        // Full at any moment counts as full just now; otherwise what has passed of the next one stays.
        self.since = if self.free == BURST { now } else { self.since + PACE * passed };
        let free = self.free > 0;
        self.free = self.free.saturating_sub(1);
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_proves_nothing_holds_one_place_and_not_for_long() {
        let ip = |last: u8| IpAddr::from([192, 0, 2, last]);
        assert_eq!(place(&[], ip(1)), Place::Free);
        assert_eq!(place(&[(ip(2), false), (ip(1), false)], ip(1)), Place::Of(1), "one of each source");
        assert_eq!(place(&[(ip(1), true)], ip(1)), Place::Free, "who was invited stays");
        let full = [(ip(1), true), (ip(2), false), (ip(3), false), (ip(4), true)];
        assert_eq!(place(&full, ip(5)), Place::Of(1), "the oldest that has proven nothing goes");
        assert_eq!(place(&full.map(|(ip, _)| (ip, true)), ip(5)), Place::None);
        let of = |text: &str| source(text.parse().unwrap());
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8::2:3]:4"));
        assert_ne!(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
        assert_eq!(of("[::ffff:192.0.2.1]:1"), ip(1));
    }

    #[test]
    fn a_flood_is_slowed_down_and_ends() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let taken = (0..1000).filter(|_| pace.take(now)).count();
        assert_eq!(taken, BURST as usize);
        for _ in 0..10 {
            now += PACE;
            assert!(pace.take(now) && !pace.take(now));
        }
        now += PACE * 1000;
        assert_eq!((0..1000).filter(|_| pace.take(now)).count(), BURST as usize);
    }
}

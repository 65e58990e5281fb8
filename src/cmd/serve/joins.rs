//! Takes those who come with an invitation: as many at once and in a time as are needed, and no more.
//!
//! ```text
//! isthmus run       gateway ──▶ serve ── conversation (host)
//! apart             gateway ──▶ bring ══ control.joins ══▶ at_control ──▶ serve ── conversation (host)
//! ```

mod apart;
mod host;

pub(in crate::cmd) use apart::{at_control, bring};
pub(in crate::cmd) use host::Inviting;

use isthmus_gateway::{
    IncomingJoin,
    metrics::{
        Metrics,
        reasons::{Bound, JoinResult},
    },
};
use isthmus_link::{Outcome, Refusal};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::interval,
};

/// Conversations at once.
const AT_ONCE: usize = 4;
/// Attempts that are taken without a pause.
const BURST: u32 = 20;
/// One more attempt becomes free each.
const PACE: Duration = Duration::from_millis(500);
/// Invitations that are over are put away this often.
const SWEEP: Duration = Duration::from_mins(1);

/// Serves them until `joining` ends.
pub(in crate::cmd) async fn serve(joining: mpsc::Receiver<IncomingJoin>, host: Arc<Inviting>, metrics: Arc<Metrics>) {
    serve_by(joining, |join| Some(source(join.from)), host, metrics).await;
}

/// The same where it is `source` that says who is one and the same.
async fn serve_by(
    joining: mpsc::Receiver<IncomingJoin>,
    source: impl Fn(&IncomingJoin) -> Option<IpAddr>,
    host: Arc<Inviting>,
    metrics: Arc<Metrics>,
) {
    let sweeping = async {
        let mut sweep = interval(SWEEP);
        loop {
            sweep.tick().await;
            host.sweep(SystemTime::now());
        }
    };
    let each = |join: IncomingJoin, proven| one(join, host.clone(), metrics.clone(), proven);
    tokio::select! {
        () = sweeping => {}
        () = bounded(joining, AT_ONCE, source, &metrics, each) => {}
    }
}

/// Has `each` done for those that come, for `most` at once and within the other bounds. The second argument is to be set once somebody has proven that he was invited.
async fn bounded<F>(
    mut joining: mpsc::Receiver<IncomingJoin>,
    most: usize,
    source: impl Fn(&IncomingJoin) -> Option<IpAddr>,
    metrics: &Metrics,
    each: impl Fn(IncomingJoin, Arc<AtomicBool>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (mut running, mut pace) = (JoinSet::new(), Pace::new(Instant::now()));
    let mut slots = Vec::<Slot>::new();
    loop {
        let join = tokio::select! {
            Some(_) = running.join_next() => continue,
            join = joining.recv() => join,
        };
        let Some(join) = join else { return };
        let source = source(&join);
        if !pace.take(Instant::now()) || !make_room(&mut slots, most, source, metrics) {
            metrics.control().refused(Bound::Joins);
            tracing::debug!(from = %join.from, "too many try to join");
            continue;
        }
        let proven = Arc::new(AtomicBool::new(false));
        // Before it is spawned, so that it can be said of one from the start.
        let task = each(join, proven.clone());
        let task = running.spawn(task);
        slots.push(Slot { source, proven, task });
    }
}

/// A conversation under way.
struct Slot {
    /// `None`: it is not known, and may be another for each.
    source: Option<IpAddr>,
    /// Whether it has proven that it was invited.
    proven: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Ends the conversation that one more from `source` takes the place of, if it has to. Whether there is a place.
fn make_room(slots: &mut Vec<Slot>, most: usize, source: Option<IpAddr>, metrics: &Metrics) -> bool {
    slots.retain(|slot| !slot.task.is_finished());
    let taken: Vec<_> = slots.iter().map(|slot| (slot.source, slot.proven.load(Ordering::Relaxed))).collect();
    match place(&taken, most, source) {
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

/// ● The place for one more from `source`, of `most`. `taken`, from the oldest on, has the sources of those under way, and who of them has proven that
/// he was invited: those stay. Of the others a source has one at most, and the oldest goes when there are too many.
fn place(taken: &[(Option<IpAddr>, bool)], most: usize, source: Option<IpAddr>) -> Place {
    let same = taken.iter().position(|&(other, proven)| !proven && source.is_some() && other == source);
    match same {
        Some(at) => Place::Of(at),
        None if taken.len() < most => Place::Free,
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
    let receiving = match host.receiving() {
        Ok(receiving) => receiving,
        Err(error) => return tracing::error!(error = error.message(), "nobody can be received"),
    };
    let outcome = match TcpStream::from_std(socket) {
        Ok(socket) => {
            let proven = || proven.store(true, Ordering::Relaxed);
            isthmus_link::serve(&receiving, socket, &received, SystemTime::now, proven).await
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
        let ip = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        assert_eq!(place(&[], AT_ONCE, ip(1)), Place::Free);
        assert_eq!(place(&[(ip(2), false), (ip(1), false)], AT_ONCE, ip(1)), Place::Of(1), "one of each source");
        assert_eq!(place(&[(ip(1), true)], AT_ONCE, ip(1)), Place::Free, "who was invited stays");
        let full = [(ip(1), true), (ip(2), false), (ip(3), false), (ip(4), true)];
        assert_eq!(place(&full, AT_ONCE, ip(5)), Place::Of(1), "the oldest that has proven nothing goes");
        assert_eq!(place(&full.map(|(ip, _)| (ip, true)), AT_ONCE, ip(5)), Place::None);
        assert_eq!(
            place(&[(None, false)], AT_ONCE, None),
            Place::Free,
            "who cannot be told apart is not taken for one"
        );
        // As at control, which sees its gateways' addresses only, and at gateways, who do not know who has proven what.
        assert_eq!(place(&[(None, true), (None, false)], AT_ONCE, None), Place::Free);
        assert_eq!(place(&[(ip(1), true)], AT_ONCE, ip(1)), Place::Free);
        let of = |text: &str| source(text.parse().unwrap());
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8::2:3]:4"));
        assert_ne!(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
        assert_eq!(Some(of("[::ffff:192.0.2.1]:1")), ip(1));
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

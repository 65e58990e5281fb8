//! Changes at a steady rate, and how long each takes to arrive.

use crate::{
    change::{Mark, Pending},
    objects,
    world::{self, World},
};
use isthmus_control_api::{Listen, ServicePort};
use serde::Serialize;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet};

/// Changes under way to the API server at once.
const AT_ONCE: usize = 64;
/// How long the last ones may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long changes took.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Took {
    /// How many arrived.
    pub(crate) count: usize,
    /// In milliseconds.
    pub(crate) p50: f64,
    /// In milliseconds.
    pub(crate) p99: f64,
    /// In milliseconds.
    pub(crate) max: f64,
    /// How many never arrived.
    pub(crate) missed: usize,
}

impl Took {
    fn of((mut took, missed): (Vec<Duration>, usize)) -> Self {
        took.sort_unstable();
        let at = |part: f64| {
            let rank = (took.len() as f64 * part).ceil() as usize;
            took.get(rank.saturating_sub(1)).map_or(0.0, |took| took.as_secs_f64() * 1e3)
        };
        Self { count: took.len(), p50: at(0.5), p99: at(0.99), max: at(1.0), missed }
    }
}

/// What one load found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// Until the table of a gateway has it.
    pub(crate) table: Took,
    /// Until a plain watch has it.
    pub(crate) watch: Took,
    /// Changes a second that the API server really took.
    pub(crate) rate: f64,
}

/// Numbers of changes and addresses are never used twice.
static NEXT: AtomicU32 = AtomicU32::new(1 << 16);

/// One endpoint of one service after the other gets another address: seen by west's own gateways.
pub(crate) fn local(world: &World, rate: u32, seconds: u32) -> Found {
    let watched = Arc::new(Pending::default());
    let watch = crate::observer::watch_slices(world.west.client().clone(), watched.clone());
    let rate_done = world.west.block_on(async {
        let mut watching = JoinSet::new();
        watching.spawn(watch);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let done = drive(rate, seconds, |turn| {
            let mark = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = turn % world.services();
            let address = objects::address(mark);
            let service = ServicePort::tcp(world::service(&objects::name(number)), 80);
            let shows = Mark::Endpoint(service, SocketAddr::new(address.into(), objects::PORT));
            let now = Instant::now();
            world.here.pending.made(u64::from(mark), shows.clone(), now);
            watched.made(u64::from(mark), shows, now);
            objects::change(world.west.client().clone(), number, address, true)
        });
        let done = done.await;
        settle(&world.here.pending).await;
        watching.shutdown().await;
        done
    });
    Found { table: Took::of(world.here.pending.take()), watch: Took::of(watched.take()), rate: rate_done }
}

/// One service after the other loses all its endpoints, and gets them back: seen by the gateways of east.
pub(crate) fn remote(world: &World, rate: u32, seconds: u32) -> Took {
    let services = world.services().min(world::IMPORTED);
    world.west.block_on(async {
        drive(rate, seconds, |turn| {
            let mark = NEXT.fetch_add(1, Ordering::Relaxed);
            let (number, ready) = (turn % services, turn / services % 2 == 1);
            let shows = Mark::Reaches(Listen::tcp(world::import_address(number)), "west", ready);
            world.there.pending.made(u64::from(mark), shows, Instant::now());
            objects::change(world.west.client().clone(), number, objects::address(mark), ready)
        })
        .await;
        settle(&world.there.pending).await;
    });
    let took = Took::of(world.there.pending.take());
    // As it was.
    world.west.block_on(async {
        for number in 0..services {
            let mark = NEXT.fetch_add(1, Ordering::Relaxed);
            let back = objects::change(world.west.client().clone(), number, objects::address(mark), true).await;
            back.unwrap_or_else(|e| panic!("a change: {e}"));
        }
    });
    took
}

/// Makes `rate` changes a second for `seconds`; the rate that was reached.
async fn drive<F>(rate: u32, seconds: u32, mut change: impl FnMut(usize) -> F) -> f64
where
    F: Future<Output = Result<(), kube::Error>> + Send + 'static,
{
    let (begun, slots) = (Instant::now(), Arc::new(Semaphore::new(AT_ONCE)));
    let mut changes = JoinSet::new();
    let count = rate * seconds;
    for turn in 0..count {
        tokio::time::sleep_until((begun + Duration::from_secs(1) * turn / rate).into()).await;
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let change = change(turn as usize);
        changes.spawn(async move {
            change.await.unwrap_or_else(|e| panic!("a change: {e}"));
            drop(slot);
        });
    }
    while let Some(done) = changes.join_next().await {
        done.unwrap_or_else(|e| panic!("a change: {e}"));
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

async fn settle(pending: &Pending) {
    let deadline = Instant::now() + PATIENCE;
    while pending.waiting() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! What a link carries: streams that are filled on purpose, for a short time, and the peer's side of it.
//!
//! ```text
//! admin ── CoreProbe::Measure ──▶ each core ── OPEN isthmus-system/<id>:7 or :8 ══▶ peer: its turn ●? ── bytes ══▶ core ──▶ admin
//! ```
//!
//! Port 7 has the peer send, port 8 has it count what comes (docs/wire.md, "Measurements"). Both sides serve these streams as any others
//! of the core; beside them go round trips by the reserved service `echo`.

mod load;
mod serve;
mod trips;
mod turns;

pub(crate) use serve::serve;

use crate::{
    core::Core,
    peer::Opened,
    relay::{self, Over},
    reserved::Reserved,
    status::measure::{CoreMeasured, MeasureAnswer, MeasureQuery, NotMeasured},
    tunnel::{Refusal, RefusalReason},
};
use isthmus_control_api::ClusterName;
use load::Load;
use std::{
    future::poll_fn,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{sleep_until, timeout},
};
use trips::Trips;
use turns::{Busy, Turn, Turns};

/// For the peer's answers to all streams of a core.
const OPENING: Duration = Duration::from_secs(5);
/// For what is under way at the end to arrive: the peer has let go of its streams then, and another measurement may begin.
const ENDING: Duration = Duration::from_secs(3);
/// Bytes that are written or read at once.
const PIECE: usize = 64 * 1024;
/// Pieces before the other tasks of the core have their turn.
const ROUNDS: usize = 4;
/// What is sent.
static ZEROS: [u8; PIECE] = [0; PIECE];
/// Between two reports of who counts what comes.
const REPORT: Duration = Duration::from_millis(100);
/// What is said of a gateway that drains.
const DRAINS: &str = "this gateway drains";
/// A report: the bytes so far and the microseconds since the first of them, each as 8 bytes, the most significant first.
const REPORT_BYTES: usize = 16;

/// The turns of this gateway's peers. The cores have it in common: it is locked when a measurement's stream begins or ends.
#[derive(Debug, Default)]
pub(crate) struct Measures(Arc<Mutex<Turns>>);

/// A stream's place in a measurement.
#[derive(Debug)]
struct Place {
    turn: Turn,
    turns: Arc<Mutex<Turns>>,
}

impl Measures {
    fn enter(&self, cluster: &ClusterName, id: u64) -> Result<Place, Busy> {
        // Counts are whole in any case.
        let turn = self.0.lock().unwrap_or_else(PoisonError::into_inner).enter(cluster, id, Instant::now())?;
        Ok(Place { turn, turns: self.0.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).leave(Instant::now());
    }
}

/// Measures for whoever asks, until he has the answer or does not want it any more.
pub(crate) async fn start(core: &Rc<Core>, query: MeasureQuery, mut to: oneshot::Sender<MeasureAnswer>) {
    let draining = core.common.draining.clone();
    let found = tokio::select! {
        found = Box::pin(run(core, &query)) => found,
        () = to.closed() => return,
        () = draining.cancelled() => Err(NotMeasured::Here(refusal(RefusalReason::Draining, DRAINS))),
    };
    // Whoever asked may have given up just now.
    drop(to.send(found));
}

/// Opens the streams, looks at round trips without load, puts it on.
async fn run(core: &Rc<Core>, query: &MeasureQuery) -> MeasureAnswer {
    let opened = open(core, query).await?;
    let Some((_, tunnel)) = opened.first() else { return Ok(CoreMeasured::default()) };
    let tunnel = tunnel.clone();
    let idle = trips::until(core, &*tunnel, query.begins).await;
    sleep_until(query.begins.into()).await;
    let load = |(stream, tunnel): Opened| Load::new(core.clone(), query, stream, &*tunnel);
    let loading = together(opened.into_iter().map(load).map(Load::run));
    let mut loaded = Trips::default();
    let loads = tokio::select! {
        loads = loading => loads,
        () = trips::go_on(core, &*tunnel, &mut loaded) => Vec::new(),
    };
    let loaded = loaded.end(Instant::now());
    let streams = together(loads.into_iter().map(|load| load.end(ENDING))).await;
    Ok(CoreMeasured { lost: query.streams.saturating_sub(streams.len()), streams, idle, loaded })
}

/// Does all of them at once. They end with this, whoever drops it.
async fn together<T: 'static>(jobs: impl Iterator<Item = impl Future<Output = T> + 'static>) -> Vec<T> {
    let mut all = JoinSet::new();
    for job in jobs {
        all.spawn_local(job);
    }
    let mut done = Vec::with_capacity(all.len());
    while let Some(ended) = all.join_next().await {
        // One that panicked has said so, and is missing here: [`run`] counts.
        done.extend(ended.ok());
    }
    done
}

/// Opens all streams of this core, on direct tunnels, as others would be.
async fn open(core: &Core, query: &MeasureQuery) -> Result<Vec<Opened>, NotMeasured> {
    let request = relay::request(core, &Reserved::Measure(query.way, query.id));
    let mut opened = Vec::with_capacity(query.streams);
    for _ in 0..query.streams {
        opened.push(core.peers.open_direct(&query.cluster, &request, Over::Any).map_err(NotMeasured::Here)?);
    }
    let answers = async {
        for (stream, _) in &mut opened {
            poll_fn(|cx| stream.poll_opened(cx)).await?;
        }
        Ok(())
    };
    let answers = timeout(OPENING, answers).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", OPENING.as_secs());
        Err(refusal(RefusalReason::Timeout, &message))
    });
    answers.map(|()| opened).map_err(NotMeasured::Peer)
}

fn refusal(reason: RefusalReason, message: &str) -> Refusal {
    Refusal { reason, message: message.to_owned(), retry: true }
}

#[cfg(test)]
mod tests;

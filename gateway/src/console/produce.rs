//! The producer: looks once for everybody who looks.

use super::{Focus, Looker, show::Show};
use crate::{admin::Asked, board::Tunnels, stream::record::Record};
use bytes::Bytes;
use isthmus_control_api::ServiceName;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::{mpsc, watch},
    time,
};

/// Between two looks, at least.
const PERIOD: Duration = Duration::from_secs(1);
/// The same, when tunnels have come or gone.
const SOON: Duration = Duration::from_millis(50);
/// So much longer than a look has kept the thread busy is the pause after it.
const IDLE: u32 = 49;
/// How long what is known is kept when the last page has been closed: for one that is loaded again.
const LINGER: Duration = Duration::from_secs(60);
/// Records that may wait between two looks; there is no time for more.
const RECORDS: usize = 256;

/// One that has been let in.
struct Watching {
    looker: Looker,
    /// Whether it has to be told everything: nothing was yet, or it was too slow.
    anew: bool,
}

/// Serves those who look, for as long as some may come.
pub(super) async fn run(asked: Asked, mut lookers: mpsc::Receiver<Looker>) {
    while let Some(first) = lookers.recv().await {
        look(&asked, &mut lookers, first).await;
        if let Some(tap) = &asked.sources.console.records.0 {
            tap.want(Vec::new(), &mpsc::channel(1).0);
        }
    }
}

/// Looks until nobody has looked for a while.
async fn look(asked: &Asked, lookers: &mut mpsc::Receiver<Looker>, first: Looker) {
    let mut show = Box::<Show>::default();
    let mut watching = vec![Watching { looker: first, anew: true }];
    let (to_records, mut records) = mpsc::channel(RECORDS);
    let mut changes = asked.sources.console.tunnels.clone();
    let (mut rest, mut last_seen) = (Duration::ZERO, Instant::now());
    loop {
        watching.retain(|one| !one.looker.to.is_closed());
        let services = focused(&watching);
        if let Some(tap) = &asked.sources.console.records.0 {
            tap.want(services.clone(), &to_records);
        }
        if !watching.is_empty() {
            last_seen = Instant::now();
        } else if last_seen.elapsed() >= LINGER {
            return;
        }
        rest = tell(asked, &mut show, &mut watching, &services, (&mut records, rest.max(PERIOD))).await;
        let (told, pause) = (time::Instant::now(), time::sleep(rest.max(PERIOD)));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                Some(looker) = lookers.recv() => watching.push(welcome(&show, looker)),
                () = changed(&mut changes) => {
                    let soon = pause.deadline().min(told + rest.max(SOON));
                    pause.as_mut().reset(soon);
                }
            }
        }
    }
}

/// Waits until tunnels come or go.
async fn changed(tunnels: &mut Option<watch::Receiver<Tunnels>>) {
    let has_changed = match tunnels {
        Some(tunnels) => tunnels.changed().await.is_ok(),
        None => false,
    };
    if !has_changed {
        // There are none that could.
        std::future::pending::<()>().await;
    }
}

/// Tells at once what there is to tell.
fn welcome(show: &Show, looker: Looker) -> Watching {
    let told = match (&looker.focus, show.all()) {
        (None, Some(all)) => looker.to.try_send(all).is_ok(),
        _ => false,
    };
    Watching { looker, anew: !told }
}

/// The services that somebody looks at.
fn focused(watching: &[Watching]) -> Vec<ServiceName> {
    let services = watching.iter().filter_map(|one| match &one.looker.focus {
        Some(Focus::Service(service)) => Some(service.clone()),
        _ => None,
    });
    services.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// One look: asks the cores, and tells everybody. Returns how long to leave the thread to others then.
async fn tell(
    asked: &Asked,
    show: &mut Show,
    watching: &mut [Watching],
    services: &[ServiceName],
    (records, period): (&mut mpsc::Receiver<Box<Record>>, Duration),
) -> Duration {
    let (first, others) = services.split_first().map_or((None, services), |(first, others)| (Some(first), others));
    let reports = asked.reports(first).await;
    let mut traces = BTreeMap::new();
    for service in others {
        traces.insert(service, asked.reports(Some(service)).await);
    }

    let begun = Instant::now();
    let metrics = &asked.sources.metrics;
    let (extra, readiness) = ((asked.sources.extra)(), *asked.sources.ready.borrow());
    let status = crate::status::merge(&extra, &readiness, &reports);
    let some = show.take(&status, &metrics.stream_totals(), (begun, SystemTime::now()), period);
    while let Ok(record) = records.try_recv() {
        show.record(&record);
    }
    show.keep_records(services);

    let mut details: BTreeMap<&Focus, Bytes> = BTreeMap::new();
    let mut all = None;
    for Watching { looker, anew } in watching {
        let event = match &looker.focus {
            Some(focus) => {
                let of = match focus {
                    Focus::Service(service) => traces.get(service).unwrap_or(&reports),
                    Focus::Link(_) => &reports,
                };
                details.entry(focus).or_insert_with(|| show.detail(focus, of, &extra, metrics, begun)).clone()
            }
            None if *anew => all.get_or_insert_with(|| show.all().unwrap_or_default()).clone(),
            None => some.clone(),
        };
        *anew = looker.to.try_send(event).is_err();
    }
    begun.elapsed() * IDLE
}

//! How the links fare, for control to know.

use crate::cmd::serve::{
    report::{Extra, Reports},
    tunnels::Reached,
};
use isthmus_gateway::{
    admin::Readiness,
    status::{self, LinkStatus},
};
use isthmus_push::LinkReport;
use std::time::Duration;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};

/// How often the cores are asked while no tunnel comes or goes.
const PACE: Duration = Duration::from_secs(5);
/// From a tunnel's coming or going to the question: most do not come alone.
const SETTLE: Duration = Duration::from_millis(100);
/// Between two questions, whatever comes and goes: peers decide on that.
const LEAST: Duration = Duration::from_secs(1);

/// Asks whenever what is `reached` changes, and again and again; tells what has changed.
pub(super) fn watch(
    tasks: &mut JoinSet<()>,
    reports: Reports,
    ready: watch::Receiver<Readiness>,
    extra: Extra,
    mut reached: watch::Receiver<Reached>,
) -> watch::Receiver<Vec<LinkReport>> {
    let (to_control, links) = watch::channel(Vec::new());
    tasks.spawn(async move {
        // The last time that somebody's coming or going made us ask.
        let (mut tick, mut asked) = (interval(PACE), None);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                Ok(()) = reached.changed() => {
                    let soon = Instant::now() + SETTLE;
                    sleep_until(asked.map_or(soon, |asked: Instant| soon.max(asked + LEAST))).await;
                    asked = Some(Instant::now());
                }
            }
            reached.mark_unchanged();
            let (reports, readiness) = (reports.ask().await, *ready.borrow());
            let now: Vec<_> = status::merge(&extra(), &readiness, &reports).links.iter().map(report).collect();
            to_control.send_if_modified(|told| {
                let differs = *told != now;
                *told = now;
                differs
            });
        }
    });
    links
}

fn report(link: &LinkStatus) -> LinkReport {
    LinkReport {
        cluster: link.cluster.clone(),
        state: link.state.as_str().to_owned(),
        transport: link.transport.clone().unwrap_or_default(),
        direction: link.direction.clone().unwrap_or_default(),
        rtt_micros: micros(link.rtt_ms),
        message: link.message.clone().unwrap_or_default(),
    }
}

/// Of milliseconds; 0: not measured.
fn micros(millis: Option<f64>) -> u64 {
    let duration = millis.and_then(|millis| Duration::try_from_secs_f64(millis / 1e3).ok());
    duration.map_or(0, |rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX))
}

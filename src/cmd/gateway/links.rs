//! How the links fare, for control to know.

use crate::cmd::serve::report::{Extra, Reports};
use isthmus_gateway::{
    admin::Readiness,
    status::{self, LinkStatus},
};
use isthmus_push::LinkReport;
use std::time::Duration;
use tokio::{sync::watch, task::JoinSet, time::interval};

/// How often the cores are asked.
const PACE: Duration = Duration::from_secs(5);

/// Asks again and again, and tells what has changed.
pub(super) fn watch(
    tasks: &mut JoinSet<()>,
    reports: Reports,
    ready: watch::Receiver<Readiness>,
    extra: Extra,
) -> watch::Receiver<Vec<LinkReport>> {
    let (to_control, links) = watch::channel(Vec::new());
    tasks.spawn(async move {
        let mut tick = interval(PACE);
        loop {
            tick.tick().await;
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

//! ● What was, for as long as somebody looks: ten minutes of numbers, and the last changes of each link.

use super::rates::Rates;
use crate::status::{LinkStatus, LinkWord};
use serde::Serialize;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Between two points.
const EVERY: Duration = Duration::from_secs(5);
/// Points that are kept: ten minutes.
const MOST_POINTS: usize = 120;
/// Changes of a link that are kept.
const MOST_CHANGES: usize = 64;

/// A service's numbers over time, a point every five seconds, the newest last.
#[derive(Debug, Default, Serialize)]
pub(super) struct ServiceHistory {
    p50_ms: VecDeque<Option<f32>>,
    p99_ms: VecDeque<Option<f32>>,
    opened_s: VecDeque<f32>,
    failed_s: VecDeque<f32>,
}

/// A link's numbers over time, and what became of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct LinkHistory {
    rtt_ms: VecDeque<Option<f32>>,
    out_s: VecDeque<f32>,
    back_s: VecDeque<f32>,
    /// 1 where it was up.
    up: VecDeque<u8>,
    changes: VecDeque<Change>,
    #[serde(skip)]
    last: Option<Path>,
}

/// What became of a link, and when.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Change {
    /// Milliseconds since 1970.
    at_ms: u64,
    #[serde(flatten)]
    path: Path,
    /// What was wrong then.
    message: Option<String>,
}

/// The way that new streams of a link take.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Path {
    state: LinkWord,
    chosen: Option<String>,
    via: Option<String>,
    /// The peer's gateways that are reached.
    gateways: usize,
}

/// When the next points are due.
#[derive(Debug, Default)]
pub(super) struct Pace(Option<Instant>);

impl Pace {
    /// Whether they are due at `now`; then the next ones are due later.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.0.is_none_or(|last| now.saturating_duration_since(last) >= EVERY);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

impl ServiceHistory {
    /// One more point.
    pub(super) fn point(&mut self, rates: &Rates) {
        push(&mut self.p50_ms, rates.p50_ms.map(|ms| ms as f32), MOST_POINTS);
        push(&mut self.p99_ms, rates.p99_ms.map(|ms| ms as f32), MOST_POINTS);
        push(&mut self.opened_s, rates.opened_s as f32, MOST_POINTS);
        push(&mut self.failed_s, rates.failed_s as f32, MOST_POINTS);
    }
}

impl LinkHistory {
    /// One more point.
    pub(super) fn point(&mut self, link: &LinkStatus, rates: &Rates) {
        push(&mut self.rtt_ms, link.rtt_ms.map(|ms| ms as f32), MOST_POINTS);
        push(&mut self.out_s, rates.out_s as f32, MOST_POINTS);
        push(&mut self.back_s, rates.back_s as f32, MOST_POINTS);
        push(&mut self.up, u8::from(link.state == LinkWord::Up), MOST_POINTS);
    }

    /// Notes how it is at that time, if that is something new. The first time counts; a moment in which no core has chosen yet what
    /// carries new streams does not.
    pub(super) fn note(&mut self, link: &LinkStatus, at_ms: u64) {
        if link.state == LinkWord::Up && link.chosen.is_none() {
            return;
        }
        let path = Path {
            state: link.state,
            chosen: link.chosen.clone(),
            via: link.via.clone(),
            gateways: link.gateways.reached,
        };
        if self.last.as_ref() != Some(&path) {
            let change = Change { at_ms, path: path.clone(), message: link.message.clone() };
            push(&mut self.changes, change, MOST_CHANGES);
            self.last = Some(path);
        }
    }
}

fn push<T>(ring: &mut VecDeque<T>, value: T, most: usize) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin::Readiness,
        status::{ExtraStatus, merge},
    };
    use isthmus_control_api::{Link, Table};
    use std::sync::Arc;

    fn link(state: LinkWord) -> LinkStatus {
        let links = [("east".parse().unwrap(), Link::default())].into();
        let extra = ExtraStatus { table: Arc::new(Table { links, ..Table::default() }), ..ExtraStatus::default() };
        let chosen = (state == LinkWord::Up).then(|| "tls".to_owned());
        LinkStatus { state, chosen, ..merge(&extra, &Readiness::default(), &[]).links.remove(0) }
    }

    #[test]
    fn what_does_not_change_is_noted_once() {
        let mut history = LinkHistory::default();
        history.note(&LinkStatus { chosen: None, ..link(LinkWord::Up) }, 0);
        for (at, state) in
            [(1, LinkWord::Up), (2, LinkWord::Up), (3, LinkWord::Down), (4, LinkWord::Down), (5, LinkWord::Up)]
        {
            history.note(&link(state), at);
        }
        let noted: Vec<_> = history.changes.iter().map(|change| (change.at_ms, change.path.state)).collect();
        assert_eq!(noted, [(1, LinkWord::Up), (3, LinkWord::Down), (5, LinkWord::Up)]);
    }

    #[test]
    fn however_long_somebody_looks_it_is_bounded() {
        let (mut links, mut services) = (LinkHistory::default(), ServiceHistory::default());
        for at in 0..1_000 {
            let state = if at % 2 == 0 { LinkWord::Up } else { LinkWord::Down };
            links.note(&link(state), at);
            links.point(&link(state), &Rates::default());
            services.point(&Rates { opened_s: at as f64, ..Rates::default() });
        }
        assert_eq!((links.changes.len(), links.up.len(), links.rtt_ms.len()), (MOST_CHANGES, MOST_POINTS, MOST_POINTS));
        assert_eq!((services.p99_ms.len(), services.opened_s.back()), (MOST_POINTS, Some(&999.0)));
    }

    #[test]
    fn points_come_every_five_seconds() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let due: Vec<_> = (0..12).filter(|&second| pace.is_due(now + Duration::from_secs(second))).collect();
        assert_eq!(due, [0, 5, 10]);
    }
}

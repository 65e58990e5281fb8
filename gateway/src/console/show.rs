//! ● What is known while somebody looks: rates, histories, and what pages were told last.

use super::{
    Focus, detail,
    feed::Feed,
    history::{LinkHistory, Pace, ServiceHistory},
    rates::{Totals, Window},
    rows::{self, Head, LinkRow},
};
use crate::{
    metrics::{
        Metrics,
        counter::LATENCY,
        streams::{Side, StreamTotals},
    },
    status::{CoreReport, ExtraStatus, Status, trace},
    stream::record::{Record, line},
};
use bytes::Bytes;
use isthmus_control_api::{ServiceName, ServicePort};
use serde::Serialize;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Records of a service that are kept.
const MOST_RECORDS: usize = 50;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Show {
    feed: Feed,
    last: Option<Instant>,
    pace: Pace,
    services: HashMap<ServicePort, (Window, ServiceHistory)>,
    /// By cluster.
    links: HashMap<String, (Window, LinkHistory)>,
    records: HashMap<ServiceName, VecDeque<String>>,
}

impl Show {
    /// Takes how things are, and says what is different: for every page of the lists.
    pub(super) fn take(
        &mut self,
        status: &Status,
        streams: &[StreamTotals],
        at: (Instant, SystemTime),
        period: Duration,
    ) -> Bytes {
        let elapsed = self.last.map_or(Duration::ZERO, |last| at.0.saturating_duration_since(last));
        let is_first = self.last.replace(at.0).is_none();
        self.count(status, streams, elapsed);
        self.remember(status, at, is_first);
        let bounds = bounds();
        let of_link = |cluster: &str| self.links.get(cluster).map(|(window, _)| window.rates(&bounds));
        let links = status.links.iter().map(|link| {
            let row = LinkRow::new(link, of_link(&link.cluster).unwrap_or_default());
            (link.cluster.clone(), json(&row))
        });
        let by_name: HashMap<_, _> =
            self.services.iter().map(|(port, (window, _))| (port.to_string(), window.rates(&bounds))).collect();
        let rates = |name: &str| by_name.get(name).copied().unwrap_or_default();
        let services = rows::services(&status.services, &status.control, rates);
        let services = services.iter().map(|(name, row)| (name.clone(), json(row)));
        let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        let (links, services) = (links.collect(), services.collect());
        self.feed.take(json(&Head::new(status, period)).into(), links, services)
    }

    /// Everything, for a page that has just been opened; `None` before the first [`Self::take`].
    pub(super) fn all(&self) -> Option<Bytes> {
        self.feed.all()
    }

    /// What the page of one thing shows.
    pub(super) fn detail(
        &self,
        focus: &Focus,
        reports: &[Option<CoreReport>],
        extra: &ExtraStatus,
        metrics: &Metrics,
        now: Instant,
    ) -> Bytes {
        let json = match focus {
            Focus::Service(service) => {
                let of_service = self.services.iter().filter(|(port, _)| port.service == *service);
                let histories: Vec<_> = of_service.map(|(port, (_, history))| (port.to_string(), history)).collect();
                let records = self.records.get(service).into_iter().flatten().map(String::as_str);
                detail::service(&trace::merge((service, None), extra, reports), &histories, records)
            }
            Focus::Link(cluster) => {
                let history = self.links.get(cluster.as_str()).map(|(_, history)| history);
                detail::link(cluster, reports, history, metrics, now)
            }
        };
        // Numbers, texts and names of ours always have a JSON form.
        super::feed::detail(&json.unwrap_or_else(|_| "null".to_owned()))
    }

    /// Takes a record of a stream that was asked for.
    pub(super) fn record(&mut self, record: &Record) {
        let mut text = Vec::new();
        if line::append(record, &mut text).is_err() {
            return;
        }
        let records = self.records.entry(record.service.service.clone()).or_default();
        if records.len() == MOST_RECORDS {
            records.pop_front();
        }
        records.push_back(String::from_utf8_lossy(text.trim_ascii_end()).into_owned());
    }

    /// Forgets the records of services that nobody looks at.
    pub(super) fn keep_records(&mut self, of: &[ServiceName]) {
        self.records.retain(|service, _| of.contains(service));
    }

    fn count(&mut self, status: &Status, streams: &[StreamTotals], elapsed: Duration) {
        let (mut services, mut links) = (HashMap::<_, Totals>::new(), HashMap::<_, Totals>::new());
        for of in streams {
            let Some(key) = &of.key else { continue };
            services.entry(&key.service).or_default().add(of, false);
            if let Some(peer) = &key.peer {
                // At the ingress gateway, what goes up has come from the peer.
                links.entry(peer.as_str()).or_default().add(of, key.side == Side::Ingress);
            }
        }
        self.services.retain(|service, _| services.contains_key(service));
        for (service, totals) in services {
            self.services.entry(service.clone()).or_default().0.take(totals, elapsed);
        }
        // As many as the configuration has, whatever was counted.
        let linked: HashSet<&str> = status.links.iter().map(|link| link.cluster.as_str()).collect();
        self.links.retain(|cluster, _| linked.contains(cluster.as_str()));
        for cluster in linked {
            let totals = links.remove(cluster).unwrap_or_default();
            self.links.entry(cluster.to_owned()).or_default().0.take(totals, elapsed);
        }
    }

    fn remember(&mut self, status: &Status, at: (Instant, SystemTime), is_first: bool) {
        let at_ms = at.1.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let at_ms = u64::try_from(at_ms).unwrap_or(u64::MAX);
        // At first there are no rates yet.
        let (is_due, bounds) = (!is_first && self.pace.is_due(at.0), bounds());
        for link in &status.links {
            let Some((window, history)) = self.links.get_mut(link.cluster.as_str()) else { continue };
            history.note(link, at_ms);
            if is_due {
                history.point(link, &window.rates(&bounds));
            }
        }
        for (window, history) in self.services.values_mut().filter(|_| is_due) {
            history.point(&window.rates(&bounds));
        }
    }
}

/// Upper bounds of the buckets of times to the first byte, in seconds.
fn bounds() -> [f64; LATENCY.len() + 1] {
    std::array::from_fn(|i| LATENCY.get(i).map_or(f64::INFINITY, |&micros| micros as f64 / 1e6))
}

/// Numbers, texts and names of ours always have a JSON form.
fn json(value: &impl Serialize) -> Box<str> {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()).into()
}

#[cfg(test)]
mod tests;

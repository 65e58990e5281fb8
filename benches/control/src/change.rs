//! ● Changes that were made and not seen yet.

use isthmus_control_api::{Listen, ServicePort, Table};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What shows in a table that a change has arrived.
#[derive(Debug, Clone)]
pub(crate) enum Mark {
    /// An export has this endpoint.
    Endpoint(ServicePort, SocketAddr),
    /// An import leads to this cluster, or does not any more.
    Reaches(Listen, &'static str, bool),
}

impl Mark {
    fn shows(&self, table: &Table) -> bool {
        match self {
            Self::Endpoint(service, address) => {
                let export = table.exports.get(service);
                export.is_some_and(|export| export.endpoints.iter().any(|endpoint| endpoint.address == *address))
            }
            Self::Reaches(listen, cluster, there) => {
                let import = table.imports.get(listen);
                import.is_some_and(|import| import.clusters.keys().any(|name| name.as_str() == *cluster) == *there)
            }
        }
    }
}

/// What is waited for, and how long what has come took.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By number.
    waiting: BTreeMap<u64, (Mark, Instant)>,
    took: Vec<Duration>,
}

impl Pending {
    /// A change is about to be made.
    pub(crate) fn made(&self, number: u64, mark: Mark, now: Instant) {
        self.inner().waiting.insert(number, (mark, now));
    }

    /// A table has come.
    pub(crate) fn see(&self, table: &Table, now: Instant) {
        self.see_if(now, |mark| mark.shows(table));
    }

    /// An endpoint of a service has come some other way.
    pub(crate) fn see_endpoint(&self, found: SocketAddr, now: Instant) {
        self.see_if(now, |mark| matches!(mark, Mark::Endpoint(_, address) if *address == found));
    }

    fn see_if(&self, now: Instant, shows: impl Fn(&Mark) -> bool) {
        let mut inner = self.inner();
        let seen: Vec<u64> =
            inner.waiting.iter().filter(|(_, (mark, _))| shows(mark)).map(|(&number, _)| number).collect();
        for number in seen {
            if let Some((_, made)) = inner.waiting.remove(&number) {
                inner.took.push(now.saturating_duration_since(made));
            }
        }
    }

    /// How many have not come yet.
    pub(crate) fn waiting(&self) -> usize {
        self.inner().waiting.len()
    }

    /// How long those took that have come, and how many have not; begins anew.
    pub(crate) fn take(&self) -> (Vec<Duration>, usize) {
        let inner = std::mem::take(&mut *self.inner());
        (inner.took, inner.waiting.len())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control_api::{Endpoint, Export};
    use std::sync::Arc;

    #[test]
    fn a_change_counts_once_its_mark_shows() {
        let (pending, start) = (Pending::default(), Instant::now());
        let service = ServicePort::tcp("a/b".parse().unwrap(), 80);
        let address: SocketAddr = "10.1.2.3:80".parse().unwrap();
        pending.made(1, Mark::Endpoint(service.clone(), address), start);
        let mut table = Table::default();
        pending.see(&table, start + Duration::from_millis(1));
        assert_eq!(pending.waiting(), 1);
        table.exports.insert(service, Arc::new(Export { endpoints: vec![Endpoint::at(address)], ..Export::default() }));
        pending.see(&table, start + Duration::from_millis(7));
        pending.see(&table, start + Duration::from_millis(9));
        assert_eq!(pending.take(), (vec![Duration::from_millis(7)], 0));
    }
}

//! Where records of streams are taken for the console: nothing is, unless somebody looks at the service.

use crate::stream::record::Record;
use arc_swap::ArcSwapOption;
use isthmus_control_api::{ServiceName, ServicePort};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What cores ask for each stream, and control opens and closes.
#[derive(Debug, Default)]
pub(crate) struct Tap(ArcSwapOption<Wanted>);

/// Which records are wanted.
#[derive(Debug)]
struct Wanted {
    services: Vec<ServiceName>,
    to: mpsc::Sender<Box<Record>>,
}

impl Tap {
    /// From now on the records of these services' streams are wanted, and of no others. What `to` has no room for is let go.
    pub(crate) fn want(&self, services: Vec<ServiceName>, to: &mpsc::Sender<Box<Record>>) {
        let wanted = (!services.is_empty()).then(|| Arc::new(Wanted { services, to: to.clone() }));
        self.0.store(wanted);
    }

    /// Whether a stream of the service is to be recorded.
    pub(crate) fn wants(&self, service: &ServicePort) -> bool {
        self.0.load().as_ref().is_some_and(|wanted| wanted.services.contains(&service.service))
    }

    /// Takes a record, if its service is still wanted and there is room.
    pub(crate) fn take(&self, record: &Record) {
        let wanted = self.0.load();
        let Some(wanted) = wanted.as_ref().filter(|wanted| wanted.services.contains(&record.service.service)) else {
            return;
        };
        if let Ok(place) = wanted.to.try_reserve() {
            place.send(Box::new(record.clone()));
        }
    }
}

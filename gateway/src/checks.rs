//! Active checks: whether endpoints are well, whatever streams they have (docs/health.md).
//!
//! ```text
//! table ─▶ plan ● ─ due ─▶ probe ─ result ─▶ plan ● ─▶ Arc<Down> (watch) ─▶ each core's balancers
//! ```
//!
//! They run on core 0, once for the process. What they find is an immutable set, as the table is, that each core takes up at once.

mod driver;
mod plan;
mod probe;
mod verdict;

pub(crate) use driver::run;
pub use plan::CheckReport;
pub(crate) use plan::Plan;
pub use verdict::CheckState;

use isthmus_control_api::ServicePort;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};
use tokio::sync::watch;

/// The endpoints that checks have found to be down. Services that have none are not there.
pub(crate) type Down = HashMap<ServicePort, Arc<HashSet<SocketAddr>>>;

/// What is down, told to all cores.
#[derive(Debug)]
pub(crate) struct Findings(watch::Sender<Arc<Down>>);

impl Default for Findings {
    fn default() -> Self {
        Self(watch::Sender::new(Arc::default()))
    }
}

impl Findings {
    /// What is down now, and every change of it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Down>> {
        self.0.subscribe()
    }

    /// What is down now.
    pub(crate) fn now(&self) -> Arc<Down> {
        self.0.borrow().clone()
    }

    fn tell(&self, down: Down) {
        self.0.send_replace(Arc::new(down));
    }
}

//! Makes what cores decide by, on a thread of its own: with many pods or rules it takes milliseconds, in which no stream of a core would
//! move. Taking apart what they decided by before takes as long.
//!
//! ```text
//! control ──table──▶ this thread ──table, and what cores decide by──▶ each core
//!                         ▲─────────────── the ones before ───────────────┘
//! ```

use super::Access;
use crate::{metrics::Metrics, policy::Policies, source::KnownSources};
use isthmus_certs::TrustDomain;
use isthmus_control_api::Table;
use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A table, and what cores decide by while it is theirs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Prepared {
    pub(crate) table: Arc<Table>,
    pub(crate) access: Access,
}

/// Makes one for each table.
#[derive(Debug)]
pub(crate) struct Maker {
    domain: TrustDomain,
    metrics: Arc<Metrics>,
    newest: Access,
}

/// Takes what a core needs no more. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Spent(mpsc::Sender<Prepared>);

/// What cores need no more that may wait to be taken apart: one of each of so many cores. A core for whose there is no room does it
/// itself.
const SPENT: usize = 64;

impl Maker {
    /// Nothing is made yet. Ids of local clients are of `domain`.
    pub(crate) fn new(domain: TrustDomain, metrics: Arc<Metrics>) -> Self {
        Self { domain, metrics, newest: Access::default() }
    }

    /// What `table` says. What it says as the one before is not made again.
    pub(crate) fn prepare(&mut self, table: Arc<Table>) -> Prepared {
        let newest = &mut self.newest;
        if *newest.policies.source() != table.policies {
            newest.policies = Arc::new(Policies::new(&table.policies));
            self.metrics.policies.keep(newest.policies.names());
        }
        if *newest.sources.source() != table.sources {
            newest.sources = Arc::new(KnownSources::new(&self.domain, &table.sources));
        }
        Prepared { table, access: newest.clone() }
    }
}

impl Spent {
    /// For cores, and what takes it apart.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Prepared>) {
        let (to, spent) = mpsc::channel(SPENT);
        (Self(to), spent)
    }

    /// Somebody else may be using it still.
    pub(crate) fn put(&self, prepared: Prepared) {
        drop(self.0.try_send(prepared));
    }
}

/// Starts the thread, which ends with `draining` or when there are no more tables. The first one is made before.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn start(
    mut maker: Maker,
    mut table: watch::Receiver<Arc<Table>>,
    mut spent: mpsc::Receiver<Prepared>,
    draining: CancellationToken,
) -> io::Result<(JoinHandle<()>, watch::Receiver<Prepared>)> {
    // Neither a reactor nor timers.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let first = maker.prepare(table.borrow_and_update().clone());
    let (to, prepared) = watch::channel(first);
    let run = async move {
        loop {
            tokio::select! {
                biased;
                () = draining.cancelled() => return,
                changed = table.changed() => match changed {
                    Ok(()) => drop(to.send_replace(maker.prepare(table.borrow_and_update().clone()))),
                    Err(_) => return,
                },
                Some(spent) = spent.recv() => drop(spent),
            }
        }
    };
    let thread = thread::Builder::new().name("access".into()).spawn(move || runtime.block_on(run))?;
    Ok((thread, prepared))
}

#[cfg(test)]
mod tests;

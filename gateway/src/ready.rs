//! Whether the gateway is ready for traffic: all cores have applied a table and bound what it wants.

use crate::admin::Readiness;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// What each core has said, and what follows from it.
#[derive(Debug)]
pub(crate) struct Ready {
    /// For each core, whether its listeners are bound; `None` before its first table. Taken when a table changes only.
    cores: Mutex<Vec<Option<bool>>>,
    all: watch::Sender<Readiness>,
}

impl Ready {
    /// Nothing is ready yet.
    pub(crate) fn new(cores: usize) -> Self {
        Self { cores: Mutex::new(vec![None; cores]), all: watch::Sender::default() }
    }

    /// A core has applied a table.
    pub(crate) fn core(&self, core: usize, bound: bool) {
        let mut cores = self.cores.lock().unwrap_or_else(PoisonError::into_inner);
        cores[core] = Some(bound);
        let table_applied = cores.iter().all(Option::is_some);
        let listeners_bound = cores.iter().all(|core| *core == Some(true));
        self.all.send_modify(|all| *all = Readiness { table_applied, listeners_bound, ..*all });
    }

    /// The gateway shuts down.
    pub(crate) fn drain(&self) {
        self.all.send_modify(|all| all.draining = true);
    }

    /// Tells every change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Readiness> {
        self.all.subscribe()
    }
}

//! Control at work inside a process.

use super::Process;
use isthmus_control::{Config, Control, FileRegistry, Handles, LinkEvent, Peers, Registry};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

/// For control's last write.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A control that runs.
pub(in crate::cmd) struct Ruling(JoinSet<()>);

/// The control that the configuration asks for, and what it publishes.
pub(in crate::cmd) fn control(config: &Config) -> (Control, Handles) {
    Control::new(config.cluster.clone(), config.state.clone(), registry(config))
}

/// Where this cluster's exports, imports and links come from.
fn registry(config: &Config) -> Box<dyn Registry> {
    Box::new(FileRegistry::new(config.clone()))
}

impl Ruling {
    /// Starts it.
    pub(in crate::cmd) fn start(
        process: &Process,
        control: Control,
        peers: Arc<dyn Peers>,
        events: mpsc::Receiver<LinkEvent>,
    ) -> Self {
        Self(JoinSet::from_iter([control.run(peers, events, process.stop.clone())]))
    }

    /// Waits for its last write, after the process was stopped. One that is stuck is left: what it wrote last is good.
    pub(in crate::cmd) async fn end(self) {
        let _ = timeout(LAST_WORDS, self.0.join_all()).await;
    }
}

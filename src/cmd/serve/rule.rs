//! Control at work inside a process.

use super::{
    Process,
    kubernetes::{self, Reports},
    names,
    secrets::{self, Keeping, Untrusted},
};
use crate::cmd::Failure;
use isthmus_control::{Control, ControlAt, FileRegistry, Handles, LinkEvent, Peers};
use isthmus_control_api::GatewayId;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

/// For control's registry to end, and for its last write: as long as it gives them itself.
const LAST_WORDS: Duration = Duration::from_secs(11);

/// A control that is about to run.
pub(in crate::cmd) struct Made {
    pub(in crate::cmd) control: Control,
    /// What it publishes.
    pub(in crate::cmd) handles: Handles,
    /// The term in which its tables count; `None`: another replica leads.
    pub(in crate::cmd) term: watch::Receiver<Option<u64>>,
    /// Is to be told the term that gateways need, if they need more than that.
    pub(in crate::cmd) needed: watch::Sender<u64>,
    /// Who is to be told how the links fare, if anybody is.
    pub(in crate::cmd) reports: Option<Reports>,
    /// Why clusters are not trusted whose links name a Secret.
    pub(in crate::cmd) untrusted: Untrusted,
}

/// A control that runs.
pub(in crate::cmd) struct Ruling(JoinSet<()>);

/// The control that the configuration asks for. `id` tells this process from every other one.
pub(in crate::cmd) async fn control(process: &mut Process, id: GatewayId) -> Result<Made, Failure> {
    let config = process.config.clone();
    let zone = names::serve(&config, &mut process.tasks, &process.stop)?;
    let made = |registry| Control::new(config.cluster.clone(), config.state.clone(), registry);
    let file = Box::new(FileRegistry::new(config.clone()).asked_by(process.reload.clone()));
    let needed = watch::Sender::new(0);
    let Some(kubernetes) = &config.kubernetes else {
        let (control, handles) = made(file);
        // Alone, it always leads: whoever looks is never told that this ends. It never takes a later term than that of its start: of
        // two that both believe that they are alone, gateways follow one.
        let (leads, term) = watch::channel(Some(handles.term));
        process.tasks.spawn(async move { leads.closed().await });
        let untrusted = watch::channel(Arc::default()).1;
        return Ok(Made { control, handles, term, needed, reports: None, untrusted });
    };
    let (registry, reports) = kubernetes::registry(&config, kubernetes, id, file, zone).await?;
    let term = kubernetes::terms(&mut process.tasks, registry.leadership(), needed.subscribe());
    let (control, handles) = made(Box::new(registry));
    let untrusted = match secrets::of(&config).await? {
        None => watch::channel(Arc::default()).1,
        Some((secrets, ca)) => {
            let identity = process.identity.current();
            let directory = super::directory(&config, identity.role());
            let takes_invited = !matches!(config.control, Some(ControlAt::Listen { joins: None, .. }));
            let (domain, term) = (identity.domain().clone(), term.clone());
            let keeping = Keeping { secrets, ca, directory, domain, term, takes_invited };
            keeping.start(&mut process.tasks)
        }
    };
    Ok(Made { control, handles, term, needed, reports: Some(reports), untrusted })
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

//! Signs that a file may have changed.

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::AccessKind, event::AccessMode};
use std::path::Path;
use tokio::sync::mpsc;
use tracing::warn;

/// Signs of change in a file's directory, and below the identity's. The directory, not the file: editors and Kubernetes put another file in its place. Which
/// file changed is not looked at: a symbolic link's target has another name.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Dropped with this: then it stops.
    _watcher: Option<RecommendedWatcher>,
    is_whole: bool,
    signs: mpsc::Receiver<()>,
}

impl Watcher {
    pub(super) fn new(file: &Path, identity: &Path) -> Self {
        // One sign says as much as many.
        let (sign, signs) = mpsc::channel(1);
        let on_event = move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| !is_reading(event.kind)) {
                let _ = sign.try_send(());
            }
        };
        let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut watcher = notify::recommended_watcher(on_event).inspect_err(|error| unwatched(directory, error)).ok();
        let watched = [(directory, RecursiveMode::NonRecursive), (identity, RecursiveMode::Recursive)];
        let mut is_whole = watcher.is_some();
        for (directory, mode) in watched {
            if let Some(Err(error)) = watcher.as_mut().map(|watcher| watcher.watch(directory, mode)) {
                unwatched(directory, &error);
                is_whole = false;
            }
        }
        Self { _watcher: watcher, is_whole, signs }
    }

    /// Whether there is a sign of each change. A system has so many watches, and others may hold them all.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Waits for a sign; for ever, where the directory cannot be watched.
    pub(super) async fn changed(&mut self) {
        if self.signs.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

fn unwatched(directory: &Path, error: &notify::Error) {
    warn!(directory = %directory.display(), %error, "cannot be watched: looked at every half second");
}

/// Reading, ours too, is no change.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

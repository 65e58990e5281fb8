//! Keeps a store's identity up to date: takes over what changes in its directory, and renews the SVID where the CA is.

pub(crate) mod keeper;

use crate::{Directory, DirectoryError, IdentityStore};
use keeper::Keeper;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::Notify, task::spawn_blocking, time};

/// How often the files are read even if nobody says that they changed: notifications can be lost, and clocks can jump.
const RECHECK: Duration = Duration::from_secs(10);

/// The same where nobody can say it: a system has so many watches, and others may hold them all.
const UNWATCHED: Duration = Duration::from_millis(500);

/// How long files have to be left alone before they are read: who writes them writes several.
const SETTLE: Duration = Duration::from_millis(100);

/// The upkeep of one store. Nothing happens unless [`Self::run`] is polled; dropping it ends the upkeep, not the store.
pub struct IdentityWatch {
    keeper: Keeper,
    changed: Arc<Notify>,
    /// Held for its notifications; none where the system has no watches left, and then the re-check alone has to do.
    watcher: Option<RecommendedWatcher>,
}

impl IdentityStore {
    /// Reads the identity in `directory`. Where its SVID is over or broken and the CA is there, a new one is made first.
    ///
    /// # Errors
    /// The first file that is missing or wrong.
    pub fn open(directory: Directory) -> Result<(Self, IdentityWatch), DirectoryError> {
        let path = directory.path().to_owned();
        let bundles = directory.bundles_path().to_owned();
        let keeper = Keeper::open(directory, SystemTime::now(), random)?;
        let changed = Arc::new(Notify::new());
        let wake = changed.clone();
        let watcher =
            notify::recommended_watcher(move |event| wake_on_change(&event, &wake)).and_then(|mut watcher| {
                watcher.watch(&path, RecursiveMode::Recursive)?;
                if !bundles.starts_with(&path) {
                    watcher.watch(&bundles, RecursiveMode::Recursive)?;
                }
                Ok(watcher)
            });
        let watcher = watcher
            .inspect_err(|e| tracing::warn!(path = %path.display(), "cannot watch the identity, reading it every {UNWATCHED:?}: {e}"))
            .ok();
        Ok((keeper.store().clone(), IdentityWatch { keeper, changed, watcher }))
    }
}

impl IdentityWatch {
    /// Runs until it is dropped. Reads and writes files on tokio's blocking threads.
    pub async fn run(mut self) {
        let recheck = if self.watcher.is_some() { RECHECK } else { UNWATCHED };
        loop {
            let keeper = self.keeper;
            let tick = spawn_blocking(move || {
                let mut keeper = keeper;
                let wait = keeper.tick(SystemTime::now(), random);
                (keeper, wait)
            });
            let wait;
            (self.keeper, wait) = match tick.await {
                Ok(kept) => kept,
                // The runtime is shutting down, or the keeper panicked, which the panic hook has told.
                Err(e) => return tracing::error!("the upkeep of the identity has ended: {e}"),
            };
            // A file event inside SETTLE leaves a permit, so that none is lost.
            let _ = time::timeout(wait.clamp(SETTLE, recheck), self.changed.notified()).await;
            time::sleep(SETTLE).await;
        }
    }
}

/// Reading is no change: waking for our own would never end.
fn wake_on_change(event: &notify::Result<notify::Event>, wake: &Notify) {
    if !matches!(event, Ok(event) if event.kind.is_access()) {
        wake.notify_one();
    }
}

/// A random number in [0, 1), for jitter; the middle where the system has none to give.
fn random() -> f64 {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_or(0.5, |()| f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::directory::fresh;
    use tokio::{
        task::JoinSet,
        time::{Instant, sleep},
    };

    /// By a clock that goes on whenever nobody has anything to do.
    #[tokio::test(start_paused = true)]
    async fn where_nothing_can_be_watched_a_new_bundle_is_taken_as_soon() {
        let (_parent, directory) = fresh("west.demo");
        let (store, mut watch) = IdentityStore::open(directory.clone()).unwrap();
        watch.watcher = None;
        let mut changed = store.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(watch.run());
        sleep(SETTLE / 2).await;

        let began = Instant::now();
        let new = directory.issue_own(crate::issue::SVID_LIFETIME, SystemTime::now()).unwrap().unwrap();
        directory.write_own(&new).unwrap();
        changed.changed().await.unwrap();
        assert!(began.elapsed() <= UNWATCHED + 2 * SETTLE, "{:?}", began.elapsed());
    }
}

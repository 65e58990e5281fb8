//! The configuration file, and the links beside the identity, as a registry: reloaded when they change, kept as they were when the
//! change is bad.

mod watcher;

use super::{Desired, DesiredExport, Registry, RegistryStatus};
use crate::config::{self, Config, ConfigErrors, LinkFiles, links::LinkFile};
use isthmus_control_api::ServiceName;
use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration, time::SystemTime};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use watcher::Watcher;

/// After a sign of change: a writer's next write is likely to follow at once.
const SETTLE: Duration = Duration::from_millis(20);
/// The file is looked at this often without any sign, for file systems that give none.
const LOOK: Duration = Duration::from_secs(5);

/// The registry of a stand-alone cluster: its configuration file.
#[derive(Debug)]
pub struct FileRegistry {
    /// What runs: its fixed part stays until the next start.
    running: Config,
    /// The files' content when last looked at, good or bad.
    seen: Option<Seen>,
    since: BTreeMap<ServiceName, SystemTime>,
    desired: watch::Sender<Arc<Desired>>,
    status: watch::Sender<Arc<RegistryStatus>>,
}

/// The configuration's text, and those of the links that `isthmus join` has made.
type Seen = (String, Vec<LinkFile>);

impl FileRegistry {
    /// The registry of the file that `config` was loaded from, its links among them that `isthmus join` has made.
    pub fn new(config: Config) -> Self {
        let written = std::fs::metadata(&config.path).and_then(|file| file.modified());
        let since = first_seen(&BTreeMap::new(), &config, written.unwrap_or_else(|_| SystemTime::now()));
        let status = RegistryStatus { source: config.path.display().to_string(), ..RegistryStatus::default() };
        let desired = watch::Sender::new(Arc::new(desired(&config, &since)));
        Self { running: config, seen: None, since, desired, status: watch::Sender::new(Arc::new(status)) }
    }

    /// Looks at the file, and takes or refuses what is new.
    async fn look(&mut self) {
        let (path, links) = (self.running.path.clone(), LinkFiles::of(&self.running.identity));
        // Off this thread: a file system can take its time.
        let read = move || Ok((config::read(&path)?, links.read()?));
        let Ok(read) = tokio::task::spawn_blocking(read).await else { return };
        let parsed = match read {
            Ok(seen) if self.seen.as_ref() == Some(&seen) => return,
            Ok(seen) => {
                let parsed = self.parse(&seen);
                self.seen = Some(seen);
                parsed
            }
            Err(errors) => {
                self.seen = None;
                Err(errors)
            }
        };
        match parsed {
            Ok(config) => self.take(config),
            Err(errors) => self.refuse(&errors.to_string()),
        }
    }

    fn parse(&self, (text, links): &Seen) -> Result<Config, ConfigErrors> {
        let mut config = Config::parse(text, &self.running.path)?;
        config::links::merge(&mut config, &LinkFiles::of(&self.running.identity), config::links::all(links)?)?;
        Ok(config)
    }

    fn take(&mut self, mut config: Config) {
        // A cluster's new id waits for a restart; until then a link to the running one is a link to itself.
        config.links.remove(&self.running.cluster);
        let needs_restart = needs_restart(&self.running, &config);
        self.since = first_seen(&self.since, &config, SystemTime::now());
        let desired = Arc::new(desired(&config, &self.since));
        let changed = *self.desired.borrow() != desired;
        let (was_refused, known_restart) = {
            let status = self.status.borrow();
            (status.last_error.is_some(), status.needs_restart == needs_restart)
        };
        if !changed && !was_refused && known_restart {
            return;
        }
        info!(file = %config.path.display(), links = desired.links.len(), exports = desired.exports.len(),
            imports = desired.imports.len(), "configuration reloaded");
        if !needs_restart.is_empty() && !known_restart {
            warn!(keys = needs_restart.join(", "), "these changes take effect at the next start");
        }
        if changed {
            self.desired.send_replace(desired);
        }
        self.note(|status| {
            status.reloads += 1;
            status.last_error = None;
            status.needs_restart = needs_restart;
        });
    }

    fn refuse(&self, errors: &str) {
        if self.status.borrow().last_error.as_deref() == Some(errors) {
            return;
        }
        for error in errors.lines() {
            warn!("configuration refused, the last good one stays: {error}");
        }
        self.note(|status| {
            status.refused += 1;
            status.last_error = Some(errors.into());
        });
    }

    fn note(&self, change: impl FnOnce(&mut RegistryStatus)) {
        self.status.send_modify(|status| {
            let status = Arc::make_mut(status);
            status.last_change = Some(SystemTime::now());
            change(status);
        });
    }

    async fn watch(mut self, shutdown: CancellationToken) {
        let mut watcher = Watcher::new(&self.running.path, &self.running.identity);
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
                () = watcher.changed() => sleep(SETTLE).await,
            }
            self.look().await;
        }
    }
}

impl Registry for FileRegistry {
    fn desired(&self) -> watch::Receiver<Arc<Desired>> {
        self.desired.subscribe()
    }

    fn status(&self) -> watch::Receiver<Arc<RegistryStatus>> {
        self.status.subscribe()
    }

    fn run(self: Box<Self>, shutdown: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.watch(shutdown))
    }
}

/// When each exported service was first seen: what was known stays, what is new is of `now`.
fn first_seen(
    known: &BTreeMap<ServiceName, SystemTime>,
    config: &Config,
    now: SystemTime,
) -> BTreeMap<ServiceName, SystemTime> {
    let services = config.exports.keys().map(|key| &key.service);
    services.map(|service| (service.clone(), known.get(service).copied().unwrap_or(now))).collect()
}

fn desired(config: &Config, since: &BTreeMap<ServiceName, SystemTime>) -> Desired {
    let exports = config.exports.iter().map(|(key, export)| {
        let since = since.get(&key.service).copied().unwrap_or(SystemTime::UNIX_EPOCH);
        (key.clone(), DesiredExport { export: export.clone(), since })
    });
    Desired { exports: exports.collect(), imports: config.imports.clone(), links: config.links.clone() }
}

/// The keys that differ and cannot change while running.
fn needs_restart(running: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("clusterset", running.clusterset != new.clusterset),
        ("cluster", running.cluster != new.cluster),
        ("identity", running.identity != new.identity),
        ("tunnel", running.tunnel != new.tunnel),
        ("admin", running.admin != new.admin),
        ("state", running.state != new.state),
        ("drain", running.drain != new.drain),
        ("cores", running.cores != new.cores),
        ("busyPoll", running.busy_poll != new.busy_poll),
        ("limits", running.limits != new.limits),
    ];
    differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

#[cfg(test)]
mod tests;

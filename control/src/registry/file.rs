//! The configuration file, and the links beside the identity, as a registry: reloaded when they change, kept as they were when the
//! change is bad.

mod watcher;

use super::{Desired, Registry, RegistryStatus};
use crate::{
    config::{
        self, Config, ConfigErrors, LinkFiles,
        links::{self, LinkFile, Made},
    },
    exchange::{
        Services,
        summary::{Port, PortSummary, Summary},
    },
    peers::PeerViews,
};
use isthmus_control_api::{ClusterName, ServiceName};
use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration, time::SystemTime};
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use watcher::Watcher;

/// After a sign of change: a writer's next write is likely to follow at once.
const SETTLE: Duration = Duration::from_millis(20);
/// The file is looked at this often without any sign, for file systems that give none.
const LOOK: Duration = Duration::from_secs(5);
/// The same where not all can be watched.
const UNWATCHED: Duration = Duration::from_millis(500);

/// The registry of a stand-alone cluster: its configuration file.
#[derive(Debug)]
pub struct FileRegistry {
    /// What runs: its fixed part stays until the next start.
    running: Config,
    /// The files' content when last looked at, good or bad.
    seen: Option<Seen>,
    /// The links that `isthmus join` has made, as they were good last.
    made: Made,
    since: BTreeMap<ServiceName, SystemTime>,
    /// Told when somebody wants it to look now.
    asked: Arc<Notify>,
    desired: watch::Sender<Arc<Desired>>,
    status: watch::Sender<Arc<RegistryStatus>>,
}

/// The configuration's text, if it can be read, and those of the links that `isthmus join` has made.
type Seen = (Result<String, ConfigErrors>, Vec<LinkFile>);

impl FileRegistry {
    /// The registry of the file that `config` was loaded from, its links among them that `isthmus join` has made.
    pub fn new(config: Config) -> Self {
        let written = std::fs::metadata(&config.path).and_then(|file| file.modified());
        let since = first_seen(&BTreeMap::new(), &config, written.unwrap_or_else(|_| SystemTime::now()));
        let status = RegistryStatus { source: config.path.display().to_string(), ..RegistryStatus::default() };
        let desired = watch::Sender::new(Arc::new(desired(&config, &since)));
        Self {
            running: config,
            seen: None,
            made: Made::new(),
            since,
            asked: Arc::default(),
            desired,
            status: watch::Sender::new(Arc::new(status)),
        }
    }

    /// Whoever notifies `asked` has it look at once, and say in the log how it stands.
    #[must_use]
    pub fn asked_by(self, asked: Arc<Notify>) -> Self {
        Self { asked, ..self }
    }

    /// Looks at the file, and takes or refuses what is new.
    async fn look(&mut self) {
        let (path, links) = (self.running.path.clone(), LinkFiles::of(&self.running.identity));
        // Off this thread: a file system can take its time.
        let read = move || (config::read(&path), links.read());
        let Ok(seen) = tokio::task::spawn_blocking(read).await else { return };
        if self.seen.as_ref() == Some(&seen) {
            return;
        }
        match self.parse(&seen) {
            Ok((config, wrong)) => self.take(config, &wrong),
            Err(errors) => self.refuse(&errors.to_string()),
        }
        self.seen = Some(seen);
    }

    /// The configuration with the links that were made, and what is wrong with those that are left out.
    fn parse(&mut self, (text, files): &Seen) -> Result<(Config, Vec<ConfigErrors>), ConfigErrors> {
        let mut config = Config::parse(text.as_ref().map_err(Clone::clone)?, &self.running.path)?;
        let (made, mut wrong) = links::all(files);
        let known = LinkFiles::of(&self.running.identity);
        // What cannot be read is no reason to end a link that was good. One whose file has gone ends.
        let unread = |cluster: &ClusterName| {
            let path = known.path(cluster);
            wrong.iter().any(|errors| errors.path == path || Some(errors.path.as_path()) == path.parent())
        };
        self.made.retain(|cluster, _| unread(cluster));
        self.made.extend(made);
        wrong.extend(links::merge(&mut config, &known, self.made.clone()));
        Ok((config, wrong))
    }

    /// Takes the configuration, whatever is `wrong` with links that were made: the others count.
    fn take(&mut self, mut config: Config, wrong: &[ConfigErrors]) {
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
            return self.leave_out(wrong);
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
        self.leave_out(wrong);
    }

    /// Reports links that were left out, if there are any.
    fn leave_out(&self, wrong: &[ConfigErrors]) {
        let errors: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        if !errors.is_empty() {
            self.report(&errors.join("\n"), "a link is left out, or stays as it was");
        }
    }

    fn refuse(&self, errors: &str) {
        self.report(errors, "configuration refused, the last good one stays");
    }

    fn report(&self, errors: &str, what: &str) {
        if self.status.borrow().last_error.as_deref() == Some(errors) {
            return;
        }
        for error in errors.lines() {
            warn!("{what}: {error}");
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

    /// Says how it stands, whether anything was new or not: whoever has asked reads the log.
    fn answer(&self) {
        let file = self.running.path.display();
        let status = self.status.borrow();
        let waiting = status.needs_restart.join(", ");
        match &status.last_error {
            None if waiting.is_empty() => info!(%file, "asked to reload: what the file says is in force"),
            None => {
                warn!(%file, "asked to reload: what the file says is in force, but for {waiting}, at the next start");
            }
            Some(error) => warn!(%file, "asked to reload: not all of it is in force: {error}"),
        }
    }

    async fn watch(mut self, shutdown: CancellationToken) {
        let asked = self.asked.clone();
        let mut watcher = Watcher::new(&self.running.path, &self.running.identity);
        let mut tick = interval(if watcher.is_whole() { LOOK } else { UNWATCHED });
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
                () = watcher.changed() => sleep(SETTLE).await,
                () = asked.notified() => {
                    self.look().await;
                    self.answer();
                    continue;
                }
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

    fn run(
        self: Box<Self>,
        _peers: watch::Receiver<Arc<PeerViews>>,
        shutdown: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
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
    Desired {
        exports: config.exports.iter().map(|(key, export)| (key.clone(), Arc::new(export.clone()))).collect(),
        services: Arc::new(services(config, since)),
        namespaces: None,
        imports: config.imports.iter().map(|(listen, import)| (listen.clone(), Arc::new(import.clone()))).collect(),
        links: config.links.clone(),
        relay: config.relay.clone(),
        sources: config.sources.clone(),
        awaits_sources: false,
        policies: config.policies.clone(),
    }
}

/// What peers are told: the ports of each service together.
fn services(config: &Config, since: &BTreeMap<ServiceName, SystemTime>) -> Services {
    let mut services = BTreeMap::<ServiceName, Summary>::new();
    for (key, export) in &config.exports {
        let since = since.get(&key.service).and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
        let summary = services.entry(key.service.clone()).or_default();
        summary.since = u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        let name = export.port_name.as_deref().map(Arc::from);
        let ready = u32::try_from(export.endpoints.len()).unwrap_or(u32::MAX);
        let port = Port { number: key.port, protocol: key.protocol };
        summary.ports.insert(port, PortSummary { name, app_protocol: None, ready });
    }
    services.into_iter().map(|(name, summary)| (name, Arc::new(summary))).collect()
}

/// The keys that differ and cannot change while running.
fn needs_restart(running: &Config, new: &Config) -> Vec<&'static str> {
    let differs = [
        ("clusterset", running.clusterset != new.clusterset),
        ("cluster", running.cluster != new.cluster),
        ("identity", running.identity != new.identity),
        ("bundles", running.bundles != new.bundles),
        ("tunnel", running.tunnel != new.tunnel),
        ("admin", running.admin != new.admin),
        ("console", running.console != new.console),
        ("state", running.state != new.state),
        ("accessLog", running.access_log != new.access_log),
        ("traces", running.traces != new.traces),
        ("drain", running.drain != new.drain),
        ("cores", running.cores != new.cores),
        ("busyPoll", running.busy_poll != new.busy_poll),
        ("sharedListener", running.shared_listener != new.shared_listener),
        ("zone", running.zone != new.zone),
        ("node", running.node != new.node),
        ("transparentSources", running.transparent_sources != new.transparent_sources),
        ("measurements", running.measurements != new.measurements),
        ("limits", running.limits != new.limits),
        ("udp", running.udp != new.udp),
        ("registry", running.kubernetes != new.kubernetes),
        ("dns", running.dns != new.dns),
        ("control", running.control != new.control),
    ];
    differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

#[cfg(test)]
mod tests;

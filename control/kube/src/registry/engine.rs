//! The one that decides: takes what the watches, the peers and the election say, plans, and has written what is to be written.

use super::{
    desired::desired,
    link_status::{self, LinkReports},
    links::{self, Links, Wrong},
    properties,
    status::{self, Facts, KubeStatus},
};
use crate::{
    apply::{Applier, Kind, Write, writes},
    compat::skupper::NAMESPACE,
    debounce::Debounce,
    index::{Effect, Index, Watched},
    lead::driver::Leadership,
    mcs::{self, ObjectKey, Plan, Settings, World},
    names,
    watch::News,
};
use isthmus_control::{
    exchange::Summaries,
    peers::PeerViews,
    registry::{Desired, RegistryStatus},
};
use isthmus_control_api::ClusterName;
use isthmus_control_dns::Zone;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::Client;
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Between two looks at what is to be said of the links.
const LINKS: Duration = Duration::from_secs(3);
/// After this replica has begun to lead, the time in which gateways come to it and peers speak: until then, nothing is taken from a
/// peer that has said nothing. A replica that stood by has heard of none, however long it did.
const SETTLING: Duration = Duration::from_secs(30);
/// Events that are taken at once, before anything else is looked at.
const BATCH: usize = 256;

/// What the engine hears.
pub(super) struct Inputs {
    pub(super) news: mpsc::Receiver<News>,
    pub(super) peers: watch::Receiver<Arc<PeerViews>>,
    pub(super) reports: watch::Receiver<Arc<LinkReports>>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) file: watch::Receiver<Arc<Desired>>,
    pub(super) file_status: watch::Receiver<Arc<RegistryStatus>>,
}

/// What the engine tells.
pub(super) struct Outputs {
    pub(super) desired: watch::Sender<Arc<Desired>>,
    pub(super) status: watch::Sender<Arc<RegistryStatus>>,
    pub(super) zone: watch::Sender<Arc<Zone>>,
}

/// See the module.
pub(super) struct Engine {
    inputs: Inputs,
    settings: Settings,
    index: Index,
    /// Why watches do not work.
    errors: BTreeMap<Watched, String>,
    links: Links,
    wrong: Wrong,
    plan: Plan,
    /// What ClusterLinks are to say.
    link_statuses: BTreeMap<String, crate::api::link::ClusterLinkStatus>,
    /// What each peer said last, and since when.
    heard: BTreeMap<ClusterName, (Arc<Summaries>, Time)>,
    debounce: Debounce,
    /// The services that something changed of since the last plan; `None`: all of them, for all that is known.
    touched: Option<BTreeSet<ObjectKey>>,
    applier: Applier,
    /// The epoch in which this replica wrote last.
    epoch: Option<i32>,
    /// Until when it has not led for long.
    settles: Option<Instant>,
    is_loaded: bool,
    /// Something happened that the status tells of.
    has_news: bool,
    outputs: Outputs,
}

impl Engine {
    pub(super) fn new(client: Client, settings: Settings, index: Index, inputs: Inputs, outputs: Outputs) -> Self {
        Self {
            inputs,
            settings,
            index,
            errors: BTreeMap::new(),
            links: Links::new(),
            wrong: Wrong::new(),
            plan: Plan::default(),
            link_statuses: BTreeMap::new(),
            heard: BTreeMap::new(),
            debounce: Debounce::default(),
            touched: None,
            applier: Applier::new(client),
            epoch: None,
            settles: None,
            is_loaded: false,
            has_news: true,
            outputs,
        }
    }

    /// Runs until `shutdown`. Then nothing is on its way to the API server any more.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut look = interval(LINKS);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.debounce.due();
            let is_leading = self.term().is_some();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(news) = self.inputs.news.recv() => self.news(news),
                Ok(()) = self.inputs.peers.changed() => self.touch(Effect::Plan),
                Ok(()) = self.inputs.file.changed() => self.touch(Effect::Plan),
                Ok(()) = self.inputs.leadership.changed() => self.led().await,
                Ok(()) = self.inputs.file_status.changed() => self.has_news = true,
                () = at(due) => self.work(),
                () = self.applier.next(), if is_leading => self.has_news = true,
                _ = look.tick() => {
                    self.settle();
                    self.look_at_links();
                }
            }
            self.write();
            if mem::take(&mut self.has_news) {
                self.tell();
            }
        }
        self.applier.stop().await;
    }

    /// Until when this replica may write, if it may.
    fn term(&self) -> Option<Instant> {
        let until = self.inputs.leadership.borrow().term?.until;
        (Instant::now() < until).then_some(until)
    }

    fn news(&mut self, news: News) {
        let mut next = Some(news);
        for _ in 0..BATCH {
            match next {
                Some(News::Change(change)) => {
                    let effect = self.index.take(*change);
                    self.touch(effect);
                }
                Some(News::State(watched, state)) => self.watch_state(watched, state),
                None => break,
            }
            next = self.inputs.news.try_recv().ok();
        }
    }

    fn watch_state(&mut self, watched: Watched, state: Result<(), String>) {
        self.has_news = true;
        match state {
            Ok(()) => {
                if self.errors.remove(&watched).is_some() {
                    info!(kind = watched.name(), "is watched again");
                }
            }
            Err(error) => {
                if self.errors.get(&watched) != Some(&error) {
                    warn!(kind = watched.name(), error, "cannot be watched: what is known stays");
                }
                self.errors.insert(watched, error);
            }
        }
    }

    fn touch(&mut self, effect: Effect) {
        match effect {
            Effect::None => return,
            Effect::Service(key) => {
                if let Some(touched) = &mut self.touched {
                    touched.insert(key);
                }
            }
            Effect::Plan => {}
            Effect::All => self.touched = None,
        }
        self.debounce.changed(Instant::now());
    }

    /// This replica's term has begun, goes on, or is over.
    async fn led(&mut self) {
        self.has_news = true;
        let epoch = self.inputs.leadership.borrow_and_update().term.map(|term| term.epoch);
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        self.settles = epoch.map(|_| Instant::now() + SETTLING);
        self.applier.stop().await;
        // What another has written meanwhile, or has not, is found by looking at all of it.
        self.touch(Effect::All);
    }

    /// From now on, who has not spoken is late.
    fn settle(&mut self) {
        if self.settles.is_some_and(|at| at <= Instant::now()) {
            self.settles = None;
            self.touch(Effect::Plan);
        }
    }

    /// Plans anew.
    fn work(&mut self) {
        self.has_news = true;
        let began = Instant::now();
        if self.index.is_whole() {
            self.plan_links();
            self.settings.mirrored = links::mirrored(self.index.links());
            let views = self.views();
            let plan = mcs::plan(self.index.world(), &views, &self.settings, &self.plan, &now());
            self.look_at_services(&plan);
            self.plan = plan;
            self.publish();
            self.name();
        }
        let now = Instant::now();
        debug!(services = self.plan.services.len(), took = ?(now - began), "planned");
        self.debounce.worked(began, now);
    }

    fn plan_links(&mut self) {
        let file = self.inputs.file.borrow_and_update().clone();
        let before = mem::take(&mut self.links);
        let (links, wrong) = links::links(self.index.links(), &file.links, &self.settings.cluster, &before);
        for (name, why) in wrong.iter().filter(|(name, why)| self.wrong.get(*name) != Some(*why)) {
            warn!(name, why, "a ClusterLink is not taken");
        }
        (self.links, self.wrong) = (links, wrong);
    }

    /// What is known of each linked cluster. One that control has not heard of yet has not said anything.
    fn views(&mut self) -> PeerViews {
        let mut views = (**self.inputs.peers.borrow_and_update()).clone();
        let file = self.inputs.file.borrow().clone();
        let linked = || self.links.keys().chain(file.links.keys());
        for cluster in linked() {
            views.entry(cluster.clone()).or_default();
        }
        let time = now();
        for (cluster, view) in views.iter().filter(|(_, view)| view.synced) {
            let known = self.heard.get(cluster);
            if known.is_none_or(|(said, _)| *said != view.exports) {
                self.heard.insert(cluster.clone(), (view.exports.clone(), time.clone()));
            }
        }
        self.heard.retain(|cluster, _| views.contains_key(cluster));
        if self.epoch.is_none() || self.settles.is_some() {
            views.values_mut().for_each(|view| view.late = false);
        }
        views
    }

    /// What is to be written anew of services: of those whose plan or objects have changed.
    fn look_at_services(&mut self, plan: &Plan) {
        match self.touched.replace(BTreeSet::new()) {
            None => plan.services.keys().for_each(|key| self.applier.look(key.clone())),
            Some(touched) => {
                let changed =
                    plan.services.iter().filter(|(key, service)| self.plan.services.get(*key) != Some(*service));
                // What belongs to a routing key is in other namespaces: nothing tells of its changes.
                let routing_keys = plan.services.keys().filter(|key| *key.namespace == *NAMESPACE);
                let keys = touched.into_iter().chain(changed.map(|(key, _)| key).chain(routing_keys).cloned());
                keys.for_each(|key| self.applier.look(key));
            }
        }
    }

    fn publish(&mut self) {
        let file = self.inputs.file.borrow().clone();
        let mut links = self.links.clone();
        links.extend(file.links.clone());
        let desired = desired(&self.plan, self.index.world(), &links, &file);
        let is_first = !mem::replace(&mut self.is_loaded, true);
        self.outputs.desired.send_if_modified(|known| {
            let differs = is_first || **known != desired;
            *known = Arc::new(desired);
            differs
        });
    }

    /// Tells whoever answers for the clusterset's domain.
    fn name(&self) {
        if self.outputs.zone.is_closed() {
            return;
        }
        let World { imports, slices, .. } = self.index.world();
        let services = names::services(imports, slices);
        self.outputs.zone.send_if_modified(|zone| {
            let differs = !zone.has(&services);
            if differs {
                *zone = Arc::new(zone.with(Arc::new(services)));
            }
            differs
        });
    }

    /// What ClusterLinks and properties are to say. Seldom: what it says of a link changes all the time.
    fn look_at_links(&mut self) {
        // A term ends also when nothing happens.
        self.has_news = true;
        if !self.is_loaded || self.term().is_none() {
            return;
        }
        let reports = self.inputs.reports.borrow().clone();
        let (time, mut statuses) = (now(), BTreeMap::new());
        for link in self.index.links() {
            let name = link.metadata.name.clone().unwrap_or_default();
            let cluster = link_status::cluster(link);
            let report = cluster.as_ref().and_then(|cluster| reports.get(cluster));
            let heard = cluster.as_ref().and_then(|cluster| self.heard.get(cluster)).map(|(_, since)| since);
            let wrong = self.wrong.get(&name).map(String::as_str);
            statuses.insert(name, link_status::status(link, report, heard, wrong, &time));
        }
        for name in statuses.keys().map(String::as_str).chain(properties::NAMES) {
            self.applier.look(ObjectKey::new("", name));
        }
        self.link_statuses = statuses;
    }

    /// Has written what differs, if this replica is the one that writes.
    fn write(&mut self) {
        let Some(until) = self.term().filter(|_| self.is_loaded) else { return };
        let Self { applier, index, plan, link_statuses, settings, .. } = self;
        applier.go(until, |group| match &*group.namespace {
            "" => of_cluster(group, index, link_statuses, settings),
            _ => plan.services.get(group).map_or_else(Vec::new, |plan| writes::of_service(group, plan, index.world())),
        });
    }

    fn tell(&mut self) {
        let failures = self.applier.failures();
        let report = status::report(
            &Facts {
                index: &self.index,
                errors: &self.errors,
                leadership: &self.inputs.leadership.borrow(),
                plan: &self.plan,
                wrong_links: &self.wrong,
                failures: &failures,
                writes: self.applier.counts(),
                notes: &properties::problems(&self.settings, &self.index),
            },
            Instant::now(),
        );
        let file = self.inputs.file_status.borrow_and_update().clone();
        self.outputs.status.send_if_modified(|known| {
            let next = told(&report, &file, known);
            let differs = **known != next;
            *known = Arc::new(next);
            differs
        });
    }
}

/// What is to be written of what belongs to no namespace.
fn of_cluster(
    group: &ObjectKey,
    index: &Index,
    statuses: &BTreeMap<String, crate::api::link::ClusterLinkStatus>,
    settings: &Settings,
) -> Vec<Write> {
    let link = index.links().find(|link| link.metadata.name.as_deref() == Some(&group.name));
    let status = link.zip(statuses.get(&*group.name));
    let status = status.and_then(|(link, status)| writes::status(Kind::Link, status, link));
    status.into_iter().chain(properties::write(&group.name, settings, index)).collect()
}

/// The status for control: the file's, and what the API server has to do with it.
fn told(report: &KubeStatus, file: &RegistryStatus, before: &RegistryStatus) -> RegistryStatus {
    let error = report.error();
    let last_error = file.last_error.clone().or(error);
    let changed = last_error != before.last_error;
    RegistryStatus {
        last_change: if changed { Some(SystemTime::now()) } else { before.last_change.max(file.last_change) },
        last_error,
        detail: serde_json::to_value(report).ok(),
        ..file.clone()
    }
}

fn now() -> Time {
    let now = Timestamp::now();
    // The API server keeps whole seconds.
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Waits until `due`; for ever without one.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

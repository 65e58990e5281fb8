//! The one that decides: takes what the watches, the peers and the election say, plans, and has written what is to be written.

mod links;
mod tell;

use super::{
    link_status::LinkReports,
    links::{Links, Wrong},
    settling::Settling,
    status::Plans,
};
use crate::{
    apply::{Applier, Kind, writes},
    compat::skupper::NAMESPACE,
    debounce::Debounce,
    index::{Effect, Index, Watched},
    lead::driver::Leadership,
    mcs::{self, Before, ObjectKey, Plan, Settings},
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
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Between two looks at what is to be said of the links while nobody says anything new of them.
const LINKS: Duration = Duration::from_secs(3);
/// From a link's being up, or trusted, or not any more, to the look. Whoever says it takes longer between two times, or the look would be put
/// off for ever.
const SOON: Duration = Duration::from_millis(100);
/// Between two statuses that are told.
const TELL: Duration = Duration::from_millis(100);
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
    /// What peers had said when it was made.
    views: PeerViews,
    /// What ClusterLinks are to say.
    link_statuses: BTreeMap<String, crate::api::link::ClusterLinkStatus>,
    /// What each peer said last, and since when.
    heard: BTreeMap<ClusterName, (Arc<Summaries>, Time)>,
    debounce: Debounce,
    /// The services that something changed of since the last plan; `None`: all of them, for all that is known.
    touched: Option<BTreeSet<ObjectKey>>,
    /// Whether more than endpoints of those has changed.
    is_all: bool,
    applier: Applier,
    /// The epoch in which this replica wrote last.
    epoch: Option<i32>,
    /// The epoch in which the plan was made.
    planned_in: Option<i32>,
    settling: Settling,
    plans: Plans,
    is_loaded: bool,
    /// Something happened that the status tells of.
    has_news: bool,
    /// When the status was told last.
    told: Option<Instant>,
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
            views: PeerViews::new(),
            link_statuses: BTreeMap::new(),
            heard: BTreeMap::new(),
            debounce: Debounce::default(),
            touched: None,
            is_all: true,
            applier: Applier::new(client),
            epoch: None,
            planned_in: None,
            settling: Settling::default(),
            plans: Plans::default(),
            is_loaded: false,
            has_news: true,
            told: None,
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
            let tells = self.told.filter(|_| self.has_news).map(|told| told + TELL);
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(news) = self.inputs.news.recv() => self.news(news),
                Ok(()) = self.inputs.peers.changed() => self.debounce.changed(Instant::now()),
                Ok(()) = self.inputs.file.changed() => self.touch(Effect::Plan),
                Ok(()) = self.inputs.leadership.changed() => self.led().await,
                Ok(()) = self.inputs.reports.changed() => if self.is_news(&self.inputs.reports.borrow()) {
                    look.reset_after(SOON);
                },
                Ok(()) = self.inputs.file_status.changed() => self.has_news = true,
                () = at(due) => self.work(),
                () = at(tells) => {}
                () = self.applier.next(), if is_leading => self.has_news = true,
                _ = look.tick() => {
                    self.settle();
                    self.look_at_links();
                }
            }
            self.write();
            if self.has_news && self.told.is_none_or(|told| told.elapsed() >= TELL) {
                (self.has_news, self.told) = (false, Some(Instant::now()));
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
                    // What could not be written meanwhile.
                    self.touch(Effect::All);
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
            Effect::Endpoints(key) => self.touch_service(key),
            // Of what is not planned for it may be all that is left.
            Effect::Derived(key) => {
                self.is_all |= !self.plan.services.contains_key(&key);
                self.touch_service(key);
            }
            Effect::Service(key) => {
                self.touch_service(key);
                self.is_all = true;
            }
            Effect::Plan => self.is_all = true,
            Effect::All => {
                self.touched = None;
                self.is_all = true;
            }
        }
        self.debounce.changed(Instant::now());
    }

    fn touch_service(&mut self, key: ObjectKey) {
        if let Some(touched) = &mut self.touched {
            touched.insert(key);
        }
    }

    /// This replica's term has begun, goes on, or is over.
    async fn led(&mut self) {
        self.has_news = true;
        let epoch = self.inputs.leadership.borrow_and_update().term.map(|term| term.epoch);
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        self.settling.led(epoch.is_some(), Instant::now());
        self.applier.stop().await;
        // What another has written meanwhile, or has not, is found by looking at all of it.
        self.touch(Effect::All);
    }

    /// From now on, who has not spoken is late.
    fn settle(&mut self) {
        if self.settling.is_over(Instant::now()) {
            self.touch(Effect::Plan);
        }
    }

    /// Plans anew.
    fn work(&mut self) {
        self.has_news = true;
        let began = Instant::now();
        if self.index.is_whole() {
            if self.is_all {
                self.plan_links();
            }
            let views = self.views();
            match mcs::heard(&self.views, &views) {
                Some(keys) => keys.into_iter().for_each(|key| self.touch_service(key)),
                None => self.is_all = true,
            }
            if self.is_all || !self.plan_touched(&views) {
                self.plan_all(&views);
            }
            self.views = views;
            self.publish();
        }
        let now = Instant::now();
        self.plans.made += 1;
        self.plans.took += now - began;
        debug!(services = self.plan.services.len(), took = ?(now - began), "planned");
        self.debounce.worked(began, now);
    }

    fn plan_all(&mut self, views: &PeerViews) {
        let leads = self.epoch.is_some();
        let before = Before { plan: &self.plan, is_ours: leads && self.planned_in == self.epoch };
        let plan = mcs::plan(self.index.world(), views, &self.settings, before, &now());
        self.planned_in = self.epoch;
        self.is_all = false;
        self.look_at_services(&plan);
        self.plan = plan;
        self.name();
    }

    /// Plans those alone of which nothing but endpoints and what we wrote has changed. Whether that is enough; if not, nothing has changed.
    fn plan_touched(&mut self, views: &PeerViews) -> bool {
        let Self { plan, index, settings, touched: Some(touched), .. } = self else { return false };
        if !mcs::is_planned_alone(settings) {
            return false;
        }
        let (time, mut planned) = (now(), Vec::new());
        for key in touched.iter() {
            // What is neither exported nor imported has no plan.
            let Some(before) = plan.services.get(key) else { continue };
            match mcs::plan_one(index.world(), views, settings, before, key, &time) {
                Some(mut after) => {
                    after.share(before);
                    planned.push((key.clone(), after));
                }
                None => return false,
            }
        }
        let touched = std::mem::take(touched);
        for (key, after) in planned {
            self.applier.look(key.clone());
            plan.services.insert(key, after);
        }
        self.name_anew(touched.iter());
        true
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

    /// Has written what differs, if this replica is the one that writes. Of a kind that cannot be watched it is not known what there is.
    fn write(&mut self) {
        let Some(until) = self.term().filter(|_| self.is_loaded) else { return };
        let Self { applier, index, plan, link_statuses, settings, errors, .. } = self;
        applier.go(until, |group| {
            let mut writes = match &*group.namespace {
                "" => links::of_cluster(group, index, link_statuses, settings),
                _ => plan
                    .services
                    .get(group)
                    .map_or_else(Vec::new, |plan| writes::of_service(group, plan, index.world())),
            };
            writes.retain(|write| is_seen(write.target.kind, index, errors));
            writes
        });
    }
}

/// Whether it is known what there is of a kind.
fn is_seen(kind: Kind, index: &Index, errors: &BTreeMap<Watched, String>) -> bool {
    let watched = kind.watched();
    index.is_complete(watched) && !errors.contains_key(&watched)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Change;
    use kube::runtime::watcher::Event;

    #[test]
    fn a_kind_is_written_only_while_it_can_be_watched() {
        let (mut index, mut errors) = (Index::default(), BTreeMap::new());
        assert!(!is_seen(Kind::Service, &index, &errors), "it has not been listed");
        index.take(Change::Services(Event::Init));
        index.take(Change::Services(Event::InitDone));
        assert!(is_seen(Kind::Service, &index, &errors) && !is_seen(Kind::Slice, &index, &errors));
        errors.insert(Watched::Services, "RBAC".to_owned());
        assert!(!is_seen(Kind::Service, &index, &errors), "what others made since is not known");
    }
}

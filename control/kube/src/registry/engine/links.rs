//! What the engine makes of links: those that there are to be, what is known of the clusters that they lead to, and what is said of them.

use super::{Engine, now};
use crate::{
    api::link::ClusterLinkStatus,
    apply::{Kind, Write, writes},
    index::Index,
    mcs::{ObjectKey, Settings, policy_status},
    optional::OptionalKind,
    registry::{
        link_status::{self, LinkReports},
        links, properties,
    },
};
use isthmus_control::peers::PeerViews;
use std::{collections::BTreeMap, mem};
use tracing::warn;

impl Engine {
    pub(super) fn plan_links(&mut self) {
        let file = self.inputs.file.borrow_and_update().clone();
        let before = mem::take(&mut self.links);
        let (links, wrong) = links::links(self.index.links(), &file.links, &self.settings.cluster, &before);
        for (name, why) in wrong.iter().filter(|(name, why)| self.wrong.get(*name) != Some(*why)) {
            warn!(name, why, "a ClusterLink is not taken");
        }
        (self.links, self.wrong) = (links, wrong);
        self.settings.mirrored = links::mirrored(self.index.links());
    }

    /// What is known of each linked cluster. One that control has not heard of yet has not said anything.
    pub(super) fn views(&mut self) -> PeerViews {
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
        self.settling.wait_for(&mut views);
        views
    }

    /// Whether a link is up, or trusted, or neither, that was not by its status. Round trips shift all the time: they are no news.
    pub(super) fn is_news(&self, reports: &LinkReports) -> bool {
        let says = |status: &ClusterLinkStatus, kind: &str| {
            status.conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
        };
        reports.iter().any(|(cluster, report)| {
            self.link_statuses.get(cluster.as_str()).is_some_and(|status| {
                says(status, "Established") != report.established
                    || says(status, "TrustValid") != (report.established && report.untrusted.is_none())
            })
        })
    }

    /// What ClusterLinks and properties are to say. Seldom: what it says of a link changes all the time.
    pub(super) fn look_at_links(&mut self) {
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
        for (key, _) in self.index.world().optional(OptionalKind::AccessPolicy) {
            self.applier.look(ObjectKey::new("", &key.to_string()));
        }
        self.link_statuses = statuses;
    }
}

/// What is to be written of what belongs to no namespace.
pub(super) fn of_cluster(
    group: &ObjectKey,
    index: &Index,
    statuses: &BTreeMap<String, ClusterLinkStatus>,
    settings: &Settings,
) -> Vec<Write> {
    let link = index.links().find(|link| link.metadata.name.as_deref() == Some(&group.name));
    let status = link.zip(statuses.get(&*group.name));
    let status = status.and_then(|(link, status)| writes::status(Kind::Link, status, link));
    let policy = access_policy(group, index);
    status.into_iter().chain(policy).chain(properties::write(&group.name, settings, index)).collect()
}

/// The status of an AccessPolicy, which is a group of its own: `namespace/name` in no namespace.
fn access_policy(group: &ObjectKey, index: &Index) -> Option<Write> {
    let (namespace, name) = group.name.split_once('/')?;
    let (world, key) = (index.world(), ObjectKey::new(namespace, name));
    let object = world.optional_object(OptionalKind::AccessPolicy, &key)?;
    let wrong = world.access.wrong.get(&key).map(String::as_str);
    writes::status(Kind::AccessPolicy, &policy_status(object, &now(), wrong), object)
}

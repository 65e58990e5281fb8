//! A cluster that a stream is to be opened at, until it is known what comes of it.

use crate::{
    balance::{shares::Shares, sides::Sides},
    core::Core,
};
use isthmus_control_api::{ClusterName, Listen, ServicePort};

/// A cluster that was chosen. The stream may be the one that finds out whether the cluster is back, and others wait for what it
/// finds: one that is dropped without an answer leaves that to the next.
pub(super) struct Chosen<'c, 'a> {
    core: &'c Core,
    service: &'a ServicePort,
    pub(super) cluster: ClusterName,
    answered: bool,
}

impl<'c, 'a> Chosen<'c, 'a> {
    /// For a stream of `service`.
    pub(super) fn new(core: &'c Core, service: &'a ServicePort, cluster: ClusterName) -> Self {
        Self { core, service, cluster, answered: false }
    }

    /// It has answered, or its tunnel has gone: `learn` notes what that says of it. Returns which it was.
    pub(super) fn learn(mut self, learn: impl FnOnce(&mut Sides, &ClusterName)) -> ClusterName {
        self.answered = true;
        with_sides(self.core, self.service, |sides| learn(sides, &self.cluster));
        self.cluster.clone()
    }
}

impl Drop for Chosen<'_, '_> {
    fn drop(&mut self) {
        if !self.answered
            && let Some(sides) = self.core.sides.borrow_mut().get_mut(self.service)
        {
            sides.gave_up(&self.cluster);
        }
    }
}

/// Does something with what the core knows of those that serve `service`.
pub(super) fn with_sides<T>(core: &Core, service: &ServicePort, act: impl FnOnce(&mut Sides) -> T) -> T {
    let mut all = core.sides.borrow_mut();
    match all.get_mut(service) {
        Some(sides) => act(sides),
        None => act(all.entry(service.clone()).or_default()),
    }
}

/// Does something with how the core keeps the import at `listen` to its shares.
pub(super) fn with_shares<T>(core: &Core, listen: &Listen, act: impl FnOnce(&mut Shares) -> T) -> T {
    let mut all = core.shares.borrow_mut();
    match all.get_mut(listen) {
        Some(shares) => act(shares),
        None => act(all.entry(listen.clone()).or_default()),
    }
}

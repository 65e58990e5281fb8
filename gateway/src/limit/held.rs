//! What one stream holds of its service's limits and times.

use super::{
    Admission, Comer,
    expiry::{self, Activity, Expiry},
    gate::Gate,
    pace::Pace,
    usage::Usage,
};
use crate::{
    core::Core,
    metrics::{reasons::Bound, streams::Side},
};
use isthmus_control_api::{ClusterName, Limits, ServicePolicy, ServicePort, Timeouts};
use std::{rc::Rc, sync::Arc};

/// See the module. Dropping it gives everything back.
#[derive(Default)]
pub(crate) struct Held {
    /// What it was let in as at the client's side and at the endpoints', by [`Side`].
    admitted: [Option<Admission>; 2],
    /// The rates that its bytes are held to, if they are.
    pace: Option<Rc<Pace>>,
    /// Where it notes what it moves, if it has timeouts.
    activity: Option<Rc<Activity>>,
}

impl Held {
    /// Lets the stream in at one side, by that side's policy.
    ///
    /// # Errors
    /// The bound that was reached; it is counted.
    pub(crate) fn admit(
        &mut self,
        core: &Core,
        (service, side): (&ServicePort, Side),
        policy: &Arc<ServicePolicy>,
        comer: Comer<'_>,
    ) -> Result<(), Bound> {
        let admission = core.common.gates.enter(&gate(core, service, side), policy, comer);
        self.admitted[side as usize] = Some(admission.inspect_err(|&bound| core.counters.refused(bound))?);
        Ok(())
    }

    /// That side has not come about.
    pub(crate) fn give_up(&mut self, side: Side) {
        self.admitted[side as usize] = None;
    }

    /// Whether the stream may be tried again at another upstream of that side, by its service's budget. If not, that is counted.
    pub(crate) fn may_retry(&mut self, core: &Core, side: Side) -> bool {
        let now = core.common.gates.now();
        let may = self.admitted[side as usize].as_mut().is_none_or(|admission| admission.may_retry(now));
        if !may {
            core.counters.refused(Bound::RetryBudget);
        }
        may
    }

    /// An upstream has taken it.
    pub(crate) fn taken(&mut self, core: &Core) {
        self.admitted.iter_mut().flatten().for_each(Admission::taken);
        self.pace = Pace::of(self.admitted.iter().flatten(), core.common.gates.born());
    }

    /// What ends the stream when it takes too long, if anything does.
    pub(crate) fn watch(&mut self, timeouts: &Timeouts) -> Option<Expiry> {
        let (expiry, activity) = expiry::of(timeouts)?;
        self.activity = Some(activity);
        Some(expiry)
    }

    /// Bytes went from the client towards the endpoint, and back.
    pub(crate) fn moved(&self, up: u64, down: u64) {
        if let Some(activity) = &self.activity {
            activity.up.set(activity.up.get() + up);
            activity.down.set(activity.down.get() + down);
        }
    }

    /// The rates that its bytes are held to, if they are.
    pub(crate) fn pace(&self) -> Option<Rc<Pace>> {
        self.pace.clone()
    }

    /// Bytes have moved that were not held up, and will not be: others are dropped instead.
    pub(crate) fn charge(&self, bytes: usize) {
        if let Some(pace) = &self.pace {
            pace.datagrams_moved(bytes as u64);
        }
    }

    /// Whether more of these may move at once.
    pub(crate) fn has_room(&self) -> bool {
        self.pace.as_ref().is_none_or(|pace| pace.lets_datagrams_pass())
    }

    /// A rate holds it from now on, or does not: then silence is not its peers'.
    pub(crate) fn hold(&self, is_held: bool) {
        if let Some(activity) = &self.activity {
            activity.hold(is_held);
        }
    }
}

/// The gate of an export or an import: the table bounds how many there are.
fn gate(core: &Core, service: &ServicePort, side: Side) -> Arc<Gate> {
    let mut gates = core.gates.borrow_mut();
    let gates = &mut gates[side as usize];
    if let Some(gate) = gates.get(service) {
        return gate.clone();
    }
    let gate = core.common.gates.get(service, side);
    gates.insert(service.clone(), gate.clone());
    gate
}

/// What the streams of a linked cluster take here, all services together, and what they may: the table bounds how many links there are.
pub(crate) fn link(core: &Core, cluster: &ClusterName) -> Option<(Arc<Usage>, Limits)> {
    let limits = core.table.borrow().links.get(cluster)?.limits;
    let mut links = core.links.borrow_mut();
    if let Some(usage) = links.get(cluster) {
        return Some((usage.clone(), limits));
    }
    let usage = core.common.gates.link(cluster);
    links.insert(cluster.clone(), usage.clone());
    Some((usage, limits))
}

//! ● How much of this cluster a linked one may take up by what it exports.

use super::{ObjectKey, Port};
use isthmus_control_api::ClusterName;
use std::collections::{BTreeMap, BTreeSet};

/// What the services of one linked cluster may take up here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Ports on the gateways.
    pub ports: usize,
    /// Services with a virtual address.
    pub addresses: usize,
}

/// What is paid for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// The virtual address of a Service.
    Address(ObjectKey),
    /// The gateway's port for a port of a Service.
    Port(ObjectKey, Port),
}

/// What each linked cluster has taken up.
#[derive(Debug)]
pub(super) struct Ledger {
    quota: Quota,
    used: BTreeMap<ClusterName, Quota>,
    paid: BTreeSet<Item>,
}

impl Ledger {
    pub(super) fn new(quota: Quota) -> Self {
        Self { quota, used: BTreeMap::new(), paid: BTreeSet::new() }
    }

    /// Has the first of `payers` that has room pay for the item; none need pay for what is paid, nor where there are none: it is this
    /// cluster's own. What `is_there` already is paid for even without room. Whether it is paid.
    pub(super) fn pay(&mut self, item: &Item, payers: &[&ClusterName], is_there: bool) -> bool {
        if payers.is_empty() || self.paid.contains(item) {
            return true;
        }
        let with_room = payers.iter().find(|cluster| self.has_room(cluster, item));
        let Some(payer) = with_room.or(payers.first().filter(|_| is_there)) else { return false };
        let used = self.used.entry((*payer).clone()).or_default();
        match item {
            Item::Address(_) => used.addresses += 1,
            Item::Port(..) => used.ports += 1,
        }
        self.paid.insert(item.clone());
        true
    }

    fn has_room(&self, cluster: &ClusterName, item: &Item) -> bool {
        let used = self.used.get(cluster).copied().unwrap_or_default();
        match item {
            Item::Address(_) => used.addresses < self.quota.addresses,
            Item::Port(..) => used.ports < self.quota.ports,
        }
    }
}

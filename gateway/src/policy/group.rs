//! ● The policies that select the same services, and their rules by what they say of sources.

use super::{Caller, Choice, Firsts};
use isthmus_control_api::{AccessPolicy, ClusterName, Prefixes, Protocol, ServicePort};
use std::{collections::HashMap, sync::Arc};

/// A choice that names more clusters times accounts (or networks, or namespaces) than this is not kept apart by cluster.
const APART: usize = 1_024;

/// Policies and rules for the same services.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Policies for all ports.
    any_port: Firsts,
    by_port: HashMap<(u16, Protocol), Firsts>,
    any_cluster: Bucket,
    by_cluster: HashMap<ClusterName, Bucket>,
}

/// Choices by the narrowest that they state. Each stands in one of these.
#[derive(Debug, Default)]
struct Bucket {
    /// By the accounts' paths in SPIFFE ids.
    accounts: HashMap<Box<str>, Vec<u32>>,
    networks: Prefixes<Vec<u32>>,
    namespaces: HashMap<Arc<str>, Vec<u32>>,
    any: Vec<u32>,
}

impl Group {
    /// A policy that selects the group's services.
    pub(super) fn add_policy(&mut self, number: u32, policy: &AccessPolicy) {
        if policy.ports.is_empty() {
            self.any_port.note(number, policy.dry_run);
        }
        for port in &policy.ports {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                if port.protocol.is_none_or(|of| of == protocol) {
                    self.by_port.entry((port.port, protocol)).or_default().note(number, policy.dry_run);
                }
            }
        }
    }

    /// A choice of one of its rules.
    pub(super) fn add_choice(&mut self, number: u32, choice: &Choice) {
        let from = &choice.from;
        let each = [choice.paths.len(), from.cidrs.len(), from.namespaces.len()];
        let each = each.into_iter().find(|&count| count > 0).unwrap_or(1);
        if from.clusters.is_empty() || from.clusters.len().saturating_mul(each) > APART {
            return self.any_cluster.add(number, choice);
        }
        for cluster in &from.clusters {
            self.by_cluster.entry(cluster.clone()).or_default().add(number, choice);
        }
    }

    /// Notes the first policies that select the port.
    pub(super) fn select(&self, service: &ServicePort, selected: &mut Firsts) {
        selected.merge(self.any_port);
        if let Some(&of_port) = self.by_port.get(&(service.port, service.protocol)) {
            selected.merge(of_port);
        }
    }

    /// The choices that may be for `caller`, some of them more than once.
    pub(super) fn candidates(&self, caller: &Caller<'_>, mut see: impl FnMut(u32)) {
        for bucket in self.by_cluster.get(caller.cluster).into_iter().chain([&self.any_cluster]) {
            bucket.candidates(caller, &mut see);
        }
    }
}

impl Bucket {
    fn add(&mut self, number: u32, choice: &Choice) {
        let from = &choice.from;
        if !choice.paths.is_empty() {
            for path in &choice.paths {
                self.accounts.entry(path.clone()).or_default().push(number);
            }
        } else if !from.cidrs.is_empty() {
            from.cidrs.iter().for_each(|&cidr| self.networks.entry(cidr).push(number));
        } else if !from.namespaces.is_empty() {
            for namespace in &from.namespaces {
                self.namespaces.entry(namespace.clone()).or_default().push(number);
            }
        } else {
            self.any.push(number);
        }
    }

    fn candidates(&self, caller: &Caller<'_>, see: &mut impl FnMut(u32)) {
        self.any.iter().copied().for_each(&mut *see);
        if let Some(account) = caller.account {
            self.accounts.get(account.path).into_iter().flatten().copied().for_each(&mut *see);
            self.namespaces.get(account.namespace).into_iter().flatten().copied().for_each(&mut *see);
        }
        if let Some(address) = caller.address.filter(|_| !self.networks.is_empty()) {
            self.networks.of(address).flatten().copied().for_each(&mut *see);
        }
    }
}

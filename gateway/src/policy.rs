//! ● Who may use which service: access policies, put so that one decision costs a few looks, however many rules there are.
//!
//! ```text
//! (source, service) ─▶ groups: of the service, its namespace, all ─▶ candidates by cluster, account, network, namespace ─▶ decision
//! ```
//!
//! What policies mean is in docs/policy.md. [`Policies::decide`] says what the rules say, one after the other; its tests hold it to that.

mod group;

use group::Group;
use isthmus_certs::{Role, SpiffeId};
use isthmus_control_api::{
    AccessPolicy, ClusterName, PolicyName, ServiceName, ServicePort,
    access::{Action, DEFAULT_RULE, PortMatch, Services, SourceMatch},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// All access policies of a table.
#[derive(Debug, Default)]
pub struct Policies {
    /// What they were made of.
    source: BTreeMap<PolicyName, Arc<AccessPolicy>>,
    groups: Vec<Group>,
    of_service: HashMap<ServiceName, Places>,
    of_namespace: HashMap<Arc<str>, Places>,
    of_all: Places,
    /// By policy, in the order of their names.
    defaults: Vec<Arc<str>>,
    /// Policy by policy, each in its own order.
    rules: Vec<Rule>,
    choices: Vec<Choice>,
}

/// On whose behalf a stream is opened, as far as it is believed.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Where it comes from: proven, or this cluster.
    pub cluster: &'a ClusterName,
    /// As whom it acts, if that is known.
    pub account: Option<Account<'a>>,
    /// Its address, as its own gateway saw it.
    pub address: Option<IpAddr>,
}

/// A service account, as a SPIFFE id has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    /// `/ns/<namespace>/sa/<name>`.
    path: &'a str,
    namespace: &'a str,
}

/// What is decided of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision<'p> {
    /// Whether it may be opened.
    pub allowed: bool,
    /// By whom: `policy:rule`; `None` where no policy selects the service.
    pub by: Option<&'p Arc<str>>,
    /// Who would decide otherwise, if policies that are dry runs counted: it would be denied if it is allowed, and allowed if it is denied.
    pub otherwise: Option<&'p Arc<str>>,
}

/// Which groups are for a choice of services.
#[derive(Debug, Default)]
struct Places {
    /// What most policies for it are in together.
    own: Option<u32>,
    /// Those of policies for so many services, with so many rules, that they are not in each one's own.
    shared: Vec<u32>,
}

/// A policy of more services times choices of sources than this has a group of its own.
const SHARED: usize = 4_096;

/// What is decided where no policy selects the service.
const OPEN: Decision<'static> = Decision { allowed: true, by: None, otherwise: None };

#[derive(Debug)]
struct Rule {
    /// `policy:rule`.
    name: Arc<str>,
    action: Action,
    dry_run: bool,
    /// Those of its policy.
    ports: BTreeSet<PortMatch>,
}

/// One choice of sources of a rule.
#[derive(Debug)]
struct Choice {
    rule: u32,
    from: SourceMatch,
    /// The accounts as SPIFFE ids have them.
    paths: BTreeSet<Box<str>>,
}

/// The first, in the order of names, of what counts and of what there is.
#[derive(Debug, Clone, Copy, Default)]
struct Firsts {
    /// Of policies that count.
    counts: Option<u32>,
    /// Of these and those that are dry runs.
    all: Option<u32>,
}

impl Policies {
    /// Makes them quick to ask.
    pub fn new(source: &BTreeMap<PolicyName, Arc<AccessPolicy>>) -> Self {
        Self::sharing(source, SHARED)
    }

    /// The same, policies of more than so many services times choices of sources having groups of their own.
    fn sharing(source: &BTreeMap<PolicyName, Arc<AccessPolicy>>, most: usize) -> Self {
        let mut policies = Self { source: source.clone(), ..Self::default() };
        for (name, policy) in source {
            policies.add(name, policy, most);
        }
        policies
    }

    /// What they were made of.
    pub fn source(&self) -> &BTreeMap<PolicyName, Arc<AccessPolicy>> {
        &self.source
    }

    /// The names of all that can decide, each `policy:rule`.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.defaults.iter().chain(self.rules.iter().map(|rule| &rule.name))
    }

    /// Whether a stream of `caller` to `service` may be opened, and who says so.
    pub fn decide(&self, caller: &Caller<'_>, service: &ServicePort) -> Decision<'_> {
        if self.source.is_empty() {
            return OPEN;
        }
        let mut selected = Firsts::default();
        self.groups_of(service).for_each(|group| group.select(service, &mut selected));
        if selected.all.is_none() {
            return OPEN;
        }
        let (mut denies, mut allows) = (Firsts::default(), Firsts::default());
        for group in self.groups_of(service) {
            group.candidates(caller, |number| {
                let Some(choice) = self.choices.get(number as usize) else { return };
                let Some(rule) = self.rules.get(choice.rule as usize) else { return };
                let firsts = if rule.action == Action::Deny { &mut denies } else { &mut allows };
                // One that stands behind what is known says nothing new.
                if firsts.may_note(choice.rule, rule.dry_run) && rule.is_for(service) && choice.fits(caller) {
                    firsts.note(choice.rule, rule.dry_run);
                }
            });
        }
        let (allowed, by) = self.verdict(selected.counts, denies.counts, allows.counts);
        let (would, who) = self.verdict(selected.all, denies.all, allows.all);
        Decision { allowed, by, otherwise: who.filter(|_| would != allowed) }
    }

    /// What counts: a rule that denies, then one that allows, then that the service is selected.
    fn verdict(&self, selected: Option<u32>, denies: Option<u32>, allows: Option<u32>) -> (bool, Option<&Arc<str>>) {
        let rule = |number: u32| self.rules.get(number as usize).map(|rule| &rule.name);
        match (selected, denies, allows) {
            (None, ..) => (true, None),
            (_, Some(deny), _) => (false, rule(deny)),
            (_, _, Some(allow)) => (true, rule(allow)),
            (Some(policy), ..) => (false, self.defaults.get(policy as usize)),
        }
    }

    fn groups_of(&self, service: &ServicePort) -> impl Iterator<Item = &Group> {
        let of_service = self.of_service.get(&service.service);
        let of_namespace = self.of_namespace.get(service.service.namespace());
        let places = [of_service, of_namespace, Some(&self.of_all)].into_iter().flatten();
        let numbers = places.flat_map(|places| places.own.iter().chain(&places.shared));
        numbers.filter_map(|&number| self.groups.get(number as usize))
    }

    fn add(&mut self, name: &PolicyName, policy: &AccessPolicy, most: usize) {
        let number = index(self.defaults.len());
        self.defaults.push(format!("{name}:{DEFAULT_RULE}").into());
        let first = index(self.choices.len());
        for rule in &policy.rules {
            let from = if rule.from.is_empty() { vec![SourceMatch::default()] } else { rule.from.clone() };
            let of = index(self.rules.len());
            self.choices.extend(from.into_iter().map(|from| Choice::new(of, from)));
            self.rules.push(Rule {
                name: format!("{name}:{}", rule.name).into(),
                action: rule.action,
                dry_run: policy.dry_run,
                ports: policy.ports.clone(),
            });
        }
        let wide = policy.services.len().saturating_mul(self.choices.len() - first as usize) > most;
        let shared = wide.then(|| self.group());
        for services in &policy.services {
            let next = index(self.groups.len());
            let places = match services {
                Services::All => &mut self.of_all,
                Services::Namespace(namespace) => self.of_namespace.entry(namespace.clone()).or_default(),
                Services::One(service) => self.of_service.entry(service.clone()).or_default(),
            };
            if let Some(shared) = shared {
                places.shared.push(shared);
                continue;
            }
            let own = *places.own.get_or_insert(next);
            if own == next {
                self.groups.push(Group::default());
            }
            self.fill(own, (number, policy), first);
        }
        if let Some(shared) = shared {
            self.fill(shared, (number, policy), first);
        }
    }

    /// A new group.
    fn group(&mut self) -> u32 {
        self.groups.push(Group::default());
        index(self.groups.len() - 1)
    }

    /// Puts a policy, whose choices are those from `first` on, into a group.
    fn fill(&mut self, group: u32, (number, policy): (u32, &AccessPolicy), first: u32) {
        let Some(group) = self.groups.get_mut(group as usize) else { return };
        group.add_policy(number, policy);
        for (choice, at) in self.choices.iter().zip(0..).skip(first as usize) {
            group.add_choice(at, choice);
        }
    }
}

impl<'a> Caller<'a> {
    /// What is known of the workload with this id. Gateways stand for those of whom nothing is known.
    pub fn new(cluster: &'a ClusterName, id: &'a SpiffeId, address: Option<IpAddr>) -> Self {
        Self { cluster, account: Account::of(id), address: address.map(|address| address.to_canonical()) }
    }
}

impl<'a> Account<'a> {
    fn of(id: &'a SpiffeId) -> Option<Self> {
        let path = id.path();
        let rest = path.strip_prefix("/ns/").filter(|_| path != Role::Gateway.path())?;
        let (namespace, name) = rest.split_once("/sa/")?;
        let is_one = |part: &str| !part.is_empty() && !part.contains('/');
        (is_one(namespace) && is_one(name)).then_some(Self { path, namespace })
    }
}

impl Rule {
    fn is_for(&self, service: &ServicePort) -> bool {
        self.ports.is_empty() || self.ports.iter().any(|port| port.contains(service))
    }
}

impl Choice {
    fn new(rule: u32, from: SourceMatch) -> Self {
        let path = |account: &isthmus_control_api::ServiceAccount| {
            format!("/ns/{}/sa/{}", account.namespace(), account.name()).into_boxed_str()
        };
        Self { rule, paths: from.service_accounts.iter().map(path).collect(), from }
    }

    /// Whether all that it states fits.
    fn fits(&self, caller: &Caller<'_>) -> bool {
        let SourceMatch { clusters, namespaces, service_accounts: _, cidrs } = &self.from;
        (clusters.is_empty() || clusters.contains(caller.cluster))
            && (namespaces.is_empty() || caller.account.is_some_and(|of| namespaces.contains(of.namespace)))
            && (self.paths.is_empty() || caller.account.is_some_and(|of| self.paths.contains(of.path)))
            && (cidrs.is_empty() || caller.address.is_some_and(|at| cidrs.iter().any(|cidr| cidr.contains(at))))
    }
}

impl Firsts {
    fn may_note(self, number: u32, dry_run: bool) -> bool {
        let is_before = |first: Option<u32>| first.is_none_or(|first| number < first);
        is_before(self.all) || (!dry_run && is_before(self.counts))
    }

    fn note(&mut self, number: u32, dry_run: bool) {
        let before = |first: Option<u32>| Some(first.map_or(number, |first| first.min(number)));
        self.all = before(self.all);
        if !dry_run {
            self.counts = before(self.counts);
        }
    }

    /// Those of two.
    fn merge(&mut self, other: Self) {
        let before = |one: Option<u32>, other: Option<u32>| one.into_iter().chain(other).min();
        (self.counts, self.all) = (before(self.counts, other.counts), before(self.all, other.all));
    }
}

/// A place in a list. Policies, rules and their choices are bounded far below.
fn index(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

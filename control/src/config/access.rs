//! Sources and access policies: from the file, and from whatever else has them as a tree of the same keys.

use super::{
    ConfigError,
    error::At,
    fields::{Fields, Once, Refused, again, alone, parsed},
    node::{Node, Value},
};
use isthmus_control_api::{
    AccessPolicy, Cidr, ClusterName, PodName, PolicyName, Workload,
    access::{MOST_POLICIES, MOST_RULES, PortMatch, Rule, RuleName, Services, SourceMatch},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
};

/// Entries of `sources`, and networks of each.
const SOURCES: RangeInclusive<usize> = 0..=10_000;
/// Values of a list in a policy.
const VALUES: RangeInclusive<usize> = 1..=1_000;
/// Choices of sources in a rule.
const CHOICES: RangeInclusive<usize> = 1..=100;

/// A policy from a tree of JSON that has the keys of `accessPolicies[]` but for its name: the `spec` of a Kubernetes object.
///
/// # Errors
/// Everything that is wrong with it; the fields' paths begin below the policy.
pub fn from_json(name: &str, spec: &serde_json::Value) -> Result<(PolicyName, AccessPolicy), Vec<ConfigError>> {
    let mut node = Node::from_json(spec);
    if let Value::Map(entries) = &mut node.value {
        let name = Node { at: node.at, value: Value::Scalar { text: name.into(), plain: false } };
        entries.insert(0, (At { at: node.at, value: "name".into() }, name));
    }
    alone(&node, "accessPolicies[]", "", policy)
}

pub(super) fn sources(top: &Fields<'_>) -> BTreeMap<Cidr, Arc<Workload>> {
    let (mut once, mut sources) = (Once::new(), BTreeMap::new());
    for fields in top.mappings("sources", "sources[]", SOURCES) {
        let cidrs = fields.scalars("cidrs", VALUES, fields.takes("cidrs"), parsed::<Cidr>);
        let namespace = fields.value("namespace", parsed::<ClusterName>);
        let account = fields.value("serviceAccount", parsed::<PodName>);
        let pod = fields.value("pod", parsed::<PodName>);
        let account = namespace.zip(account).and_then(|(ns, name)| format!("{ns}/{name}").parse().ok());
        let workload = account.map(|account| Arc::new(Workload { account, pod }));
        for (index, cidr) in cidrs.iter().enumerate() {
            if let Some(first) = once.seen_before(cidr.value, cidr.at) {
                fields.note(cidr.at, &format!("cidrs[{index}]"), again(cidr.value, first), "each network once");
            }
            sources.extend(workload.clone().map(|workload| (cidr.value, workload)));
        }
    }
    if sources.len() > *SOURCES.end() {
        let found = format!("{} networks", sources.len());
        top.conflict("sources", found, "at most 10000 networks of all entries together");
    }
    sources
}

pub(super) fn policies(top: &Fields<'_>) -> BTreeMap<PolicyName, Arc<AccessPolicy>> {
    let (mut once, mut policies) = (Once::new(), BTreeMap::new());
    for fields in top.mappings("accessPolicies", "accessPolicies[]", 0..=MOST_POLICIES) {
        let Some((name, policy)) = policy(&fields) else { continue };
        if let Some(first) = once.seen_before(name.clone(), fields.at_of("name")) {
            fields.conflict("name", again(&name, first), "a name of its own");
        }
        policies.insert(name, Arc::new(policy));
    }
    let rules: usize = policies.values().map(|policy| policy.rules.len()).sum();
    if rules > MOST_RULES {
        top.conflict("accessPolicies", format!("{rules} rules"), "at most 10000 rules of all policies together");
    }
    policies
}

/// Reads one policy; `None` if something that is needed is wrong, and so noted. One that is wrong in part is of no use: what is left of it
/// could say something else.
fn policy(fields: &Fields<'_>) -> Option<(PolicyName, AccessPolicy)> {
    let name = fields.value("name", parsed::<PolicyName>);
    let services = values(fields, "services", parsed::<Services>);
    let ports = values(fields, "ports", parsed::<PortMatch>);
    let dry_run = fields.value("dryRun", parsed::<bool>);
    let (mut once, mut rules) = (Once::new(), Vec::new());
    for fields in fields.mappings("rules", "accessPolicies[].rules[]", 0..=MOST_RULES) {
        let name = fields.value("name", parsed::<RuleName>);
        if let Some(first) = name.clone().and_then(|name| once.seen_before(name, fields.at_of("name"))) {
            let name = name.as_ref().map_or("", RuleName::as_str);
            fields.conflict("name", again(name, first), "each name once in a policy");
        }
        let action = fields.value("action", parsed);
        let from = fields.mappings("from", "accessPolicies[].rules[].from[]", CHOICES).map(|fields| source(&fields));
        let from = from.collect();
        rules.extend(name.zip(action).map(|(name, action)| Rule { name, action, from }));
    }
    Some((name?, AccessPolicy { services, ports, dry_run: dry_run?, rules }))
}

fn source(fields: &Fields<'_>) -> SourceMatch {
    let namespace = |text: &str| parsed::<ClusterName>(text).map(|name| Arc::from(name.as_str()));
    let source = SourceMatch {
        clusters: values(fields, "clusters", parsed),
        namespaces: values(fields, "namespaces", namespace),
        service_accounts: values(fields, "serviceAccounts", parsed),
        cidrs: values(fields, "cidrs", parsed),
    };
    if !["clusters", "namespaces", "serviceAccounts", "cidrs"].iter().any(|key| fields.has(key)) {
        fields.whole(
            "nothing that it is for".into(),
            "clusters, namespaces, serviceAccounts or cidrs; no from at all for everybody",
        );
    }
    source
}

fn values<T: Ord>(fields: &Fields<'_>, name: &'static str, parse: impl Fn(&str) -> Result<T, Refused>) -> BTreeSet<T> {
    let takes = fields.takes(name);
    fields.scalars(name, VALUES, takes, parse).into_iter().map(|at| at.value).collect()
}

#[cfg(test)]
mod tests;

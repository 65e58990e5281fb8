//! Whose addresses are, and access policies, to messages and back.

use super::Malformed;
use crate::wire;
use isthmus_control_api::{
    AccessPolicy, Cidr, InvalidName, PolicyName, Workload,
    access::{Action, Rule, SourceMatch},
};
use std::{collections::BTreeSet, fmt::Display, str::FromStr, sync::Arc};

pub(crate) fn source(cidr: Cidr, workload: Option<&Arc<Workload>>) -> wire::Source {
    let value = |Workload { account, pod }: &Workload| wire::SourceValue {
        account: account.to_string(),
        pod: pod.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    wire::Source { cidr: cidr.to_string(), value: workload.map(|workload| value(workload)) }
}

pub(crate) fn policy(name: &PolicyName, policy: Option<&Arc<AccessPolicy>>) -> wire::Policy {
    let value = |AccessPolicy { services, ports, dry_run, rules }: &AccessPolicy| wire::PolicyValue {
        services: texts(services),
        ports: texts(ports),
        dry_run: *dry_run,
        rules: rules.iter().map(rule).collect(),
    };
    wire::Policy { name: name.to_string(), value: policy.map(|policy| value(policy)) }
}

fn rule(Rule { name, action, from }: &Rule) -> wire::PolicyRule {
    let action = match action {
        Action::Allow => wire::Action::Allow,
        Action::Deny => wire::Action::Deny,
    };
    wire::PolicyRule { name: name.to_string(), action: action as i32, from: from.iter().map(source_match).collect() }
}

fn source_match(SourceMatch { clusters, namespaces, service_accounts, cidrs }: &SourceMatch) -> wire::SourceMatch {
    wire::SourceMatch {
        clusters: texts(clusters),
        namespaces: texts(namespaces),
        service_accounts: texts(service_accounts),
        cidrs: texts(cidrs),
    }
}

fn texts<T: Display>(values: &BTreeSet<T>) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

pub(super) fn read_source(source: wire::Source) -> Result<(Cidr, Option<Arc<Workload>>), Malformed> {
    let value = |value: wire::SourceValue| {
        let pod = Some(value.pod).filter(|pod| !pod.is_empty());
        let pod = pod.map(|pod| pod.parse()).transpose()?;
        Ok::<_, Malformed>(Arc::new(Workload { account: value.account.parse()?, pod }))
    };
    Ok((source.cidr.parse()?, source.value.map(value).transpose()?))
}

pub(super) fn read_policy(policy: wire::Policy) -> Result<(PolicyName, Option<Arc<AccessPolicy>>), Malformed> {
    let value = |value: wire::PolicyValue| {
        let wire::PolicyValue { services, ports, dry_run, rules } = value;
        let (services, ports) = (parsed(&services)?, parsed(&ports)?);
        let rules = rules.iter().map(read_rule).collect::<Result<_, _>>()?;
        Ok::<_, Malformed>(Arc::new(AccessPolicy { services, ports, dry_run, rules }))
    };
    Ok((policy.name.parse()?, policy.value.map(value).transpose()?))
}

fn read_rule(rule: &wire::PolicyRule) -> Result<Rule, Malformed> {
    let action = match wire::Action::try_from(rule.action) {
        Ok(wire::Action::Allow) => Action::Allow,
        Ok(wire::Action::Deny) => Action::Deny,
        Ok(wire::Action::Unspecified) | Err(_) => return Err(Malformed::Field("an unknown action")),
    };
    let from = rule.from.iter().map(read_source_match).collect::<Result<_, _>>()?;
    Ok(Rule { name: rule.name.parse()?, action, from })
}

/// What this version does not know must not widen a rule: such a choice is not taken.
fn read_source_match(of: &wire::SourceMatch) -> Result<SourceMatch, Malformed> {
    let sources = SourceMatch {
        clusters: parsed(&of.clusters)?,
        namespaces: of.namespaces.iter().map(|namespace| namespace.as_str().into()).collect(),
        service_accounts: parsed(&of.service_accounts)?,
        cidrs: parsed(&of.cidrs)?,
    };
    if sources.is_empty() { Err(Malformed::Field("a choice of sources that states nothing")) } else { Ok(sources) }
}

fn parsed<T: FromStr<Err = InvalidName> + Ord>(texts: &[String]) -> Result<BTreeSet<T>, InvalidName> {
    texts.iter().map(|text| text.parse()).collect()
}

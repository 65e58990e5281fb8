//! A `policy` mapping, of an export or an import, as a [`ServicePolicy`].

mod balance;

use super::{
    ConfigError,
    fields::{Fields, Problems},
    node::{Node, SyntaxError},
};
use isthmus_control_api::ServicePolicy;
use std::sync::Arc;

/// The policy of the export or import whose `fields` these are. What is wrong in it is noted, and as if it were left out.
pub(super) fn read(fields: &Fields<'_>) -> Arc<ServicePolicy> {
    if !fields.has("policy") {
        return Arc::default();
    }
    fields.mapping_of("policy", "policy").map(|fields| Arc::new(policy(&fields))).unwrap_or_default()
}

/// A policy from a tree of JSON that has the keys of `policy`: the `spec` of a Kubernetes object.
///
/// # Errors
/// Everything that is wrong with it; the fields' paths begin below the policy.
pub fn from_json(spec: &serde_json::Value) -> Result<ServicePolicy, Vec<ConfigError>> {
    whole(&Node::from_json(spec))
}

/// A policy from a text of YAML that has the keys of `policy`.
///
/// # Errors
/// It is no YAML, or everything that is wrong with it.
pub fn from_text(text: &str) -> Result<ServicePolicy, Vec<ConfigError>> {
    match Node::parse(text) {
        Ok(Some(node)) => whole(&node),
        Ok(None) => Ok(ServicePolicy::default()),
        Err(error) => {
            let SyntaxError { at: _, found, expected } = error;
            Err(vec![ConfigError { at: None, field: String::new(), found, expected: expected.into() }])
        }
    }
}

fn whole(node: &Node) -> Result<ServicePolicy, Vec<ConfigError>> {
    let problems = Problems::default();
    let read = Fields::open(node, "policy", String::new(), &problems).map(|fields| policy(&fields));
    let mut errors = problems.into_list();
    // There are no lines to point at.
    errors.iter_mut().for_each(|error| error.at = None);
    match read {
        Some(read) if errors.is_empty() => Ok(read),
        _ => Err(errors),
    }
}

fn policy(fields: &Fields<'_>) -> ServicePolicy {
    ServicePolicy {
        balance: fields.value("balance", balance::algorithm).unwrap_or_default(),
        near: fields.value("near", balance::near).unwrap_or_default(),
        slow_start: fields.value("slowStart", balance::duration_or_off).flatten(),
        outliers: balance::outliers(fields),
        failover: balance::failover(fields),
    }
}

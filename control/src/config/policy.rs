//! A `policy` mapping, of an export or an import, as a [`ServicePolicy`].

mod balance;
mod health;
mod limits;
mod source;

pub(super) use limits::of_link as limits_of_link;
pub use limits::of_link_from_json as limits_of_link_from_json;

use super::{
    ConfigError,
    fields::{Fields, Refused, alone, parsed},
    node::{Node, SyntaxError},
    values,
};
use isthmus_control_api::{Cidr, Limits, ProxyProtocol, ServicePolicy};
use std::sync::Arc;

const NETWORK: &str = "a CIDR, as 10.0.0.0/8 or 2001:db8::/32, or an IP address";

/// Whose policy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Export,
    Import,
}

/// The policy of the export or import whose `fields` these are. What is wrong in it is noted, and as if it were left out.
pub(super) fn read(fields: &Fields<'_>, of: Of) -> Arc<ServicePolicy> {
    if !fields.has("policy") {
        return Arc::default();
    }
    let read = |fields: &Fields<'_>| {
        let policy = policy(fields);
        check_side(fields, &policy, of);
        Arc::new(policy)
    };
    fields.mapping_of("policy", "policy").as_ref().map(read).unwrap_or_default()
}

/// Notes keys that only the other side heeds: who writes them believes that they do something. A ServicePolicy of Kubernetes is for both.
fn check_side(fields: &Fields<'_>, policy: &ServicePolicy, of: Of) {
    let (keys, own, other): (&[_], _, _) = match of {
        Of::Export => (&["acceptProxyProtocol"], "an export", "an import"),
        Of::Import => {
            (&["near", "slowStart", "health", "proxyProtocol", "transparentSource"], "an import", "an export")
        }
    };
    for key in keys.iter().filter(|key| fields.has(key)) {
        fields.conflict(key, format!("it at {own}"), &format!("it at {other}"));
    }
    if of == Of::Import && policy.limits.per_peer != Limits::default() {
        fields.conflict("limits", format!("perPeer at {own}"), &format!("perPeer at {other}"));
    }
}

/// Notes what a policy says that means nothing for a service of UDP alone.
pub(super) fn check_datagrams(fields: &Fields<'_>, policy: &ServicePolicy) {
    let of_connections =
        [(policy.timeouts.connect.is_some(), "connect"), (policy.timeouts.first_byte.is_some(), "firstByte")];
    for (_, key) in of_connections.iter().filter(|(is_there, _)| *is_there) {
        let found = format!("timeouts.{key} of a UDP service");
        fields.conflict("policy", found, "timeouts that flows of datagrams have: idle, maxAge");
    }
    let of_tcp = [
        (policy.health.is_some(), "health"),
        (policy.local_hop, "localHop"),
        (policy.proxy_protocol != ProxyProtocol::Off, "proxyProtocol"),
        (!policy.accept_proxy_protocol.is_empty(), "acceptProxyProtocol"),
        (!policy.transparent_source.is_empty(), "transparentSource"),
    ];
    for (_, key) in of_tcp.iter().filter(|(is_there, _)| *is_there) {
        fields.conflict("policy", format!("{key} of a UDP service"), "what flows of datagrams have, too");
    }
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
    alone(node, "policy", "", |fields| Some(policy(fields)))
}

fn policy(fields: &Fields<'_>) -> ServicePolicy {
    let policy = ServicePolicy {
        balance: fields.value("balance", balance::algorithm).unwrap_or_default(),
        near: fields.value("near", balance::near).unwrap_or_default(),
        slow_start: fields.value("slowStart", balance::duration_or_off).flatten(),
        outliers: balance::outliers(fields),
        failover: balance::failover(fields),
        local_hop: fields.value("localHop", values::switch).unwrap_or_default(),
        proxy_protocol: fields.value("proxyProtocol", proxy_protocol).unwrap_or_default(),
        accept_proxy_protocol: networks(fields, "acceptProxyProtocol"),
        transparent_source: source::transparent(fields),
        health: section(fields, "health", "policy.health").and_then(|fields| health::read(&fields)),
        timeouts: section(fields, "timeouts", "policy.timeouts")
            .map(|fields| limits::timeouts(&fields))
            .unwrap_or_default(),
        retries: section(fields, "retries", "policy.retries")
            .map(|fields| limits::retries(&fields))
            .unwrap_or_default(),
        limits: section(fields, "limits", "policy.limits").map(|fields| limits::limits(&fields)).unwrap_or_default(),
    };
    if policy.local_hop && !policy.transparent_source.is_empty() {
        fields.conflict("transparentSource", "it beside localHop: on".into(), "one of the two");
    }
    policy
}

/// The mapping under a key, if the key is there.
fn section<'a>(fields: &Fields<'a>, name: &'static str, section: &'static str) -> Option<Fields<'a>> {
    fields.has(name).then(|| fields.mapping_of(name, section)).flatten()
}

/// A list of 1 to 64 networks.
pub(super) fn networks(fields: &Fields<'_>, name: &'static str) -> Vec<Cidr> {
    fields.scalars(name, 1..=64, NETWORK, parsed).into_iter().map(|network| network.value).collect()
}

fn proxy_protocol(text: &str) -> Result<ProxyProtocol, Refused> {
    match text {
        "off" => Ok(ProxyProtocol::Off),
        "v2" => Ok(ProxyProtocol::V2),
        _ => Err(Refused(None)),
    }
}

#[cfg(test)]
mod tests;

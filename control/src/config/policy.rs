//! A `policy` mapping, of an export or an import, as a [`ServicePolicy`].

mod health;
mod limits;

use super::fields::{Fields, Refused, parsed};
use isthmus_control_api::{Algorithm, Cidr, ProxyProtocol, ServicePolicy};
use std::sync::Arc;

const NETWORK: &str = "a CIDR, as 10.0.0.0/8 or 2001:db8::/32, or an IP address";

/// The policy of the export or import whose `fields` these are. What is wrong in it is noted, and as if it were left out.
pub(super) fn read(fields: &Fields<'_>) -> Arc<ServicePolicy> {
    if !fields.has("policy") {
        return Arc::default();
    }
    fields.mapping_of("policy", "policy").map(|fields| Arc::new(policy(&fields))).unwrap_or_default()
}

fn policy(fields: &Fields<'_>) -> ServicePolicy {
    ServicePolicy {
        balance: fields.value("balance", algorithm).unwrap_or_default(),
        proxy_protocol: fields.value("proxyProtocol", proxy_protocol).unwrap_or_default(),
        accept_proxy_protocol: networks(fields, "acceptProxyProtocol"),
        health: section(fields, "health", "policy.health").and_then(|fields| health::read(&fields)),
        timeouts: section(fields, "timeouts", "policy.timeouts")
            .map(|fields| limits::timeouts(&fields))
            .unwrap_or_default(),
        retries: section(fields, "retries", "policy.retries")
            .map(|fields| limits::retries(&fields))
            .unwrap_or_default(),
        limits: section(fields, "limits", "policy.limits").map(|fields| limits::limits(&fields)).unwrap_or_default(),
    }
}

/// The mapping under a key, if the key is there.
fn section<'a>(fields: &Fields<'a>, name: &'static str, section: &'static str) -> Option<Fields<'a>> {
    fields.has(name).then(|| fields.mapping_of(name, section)).flatten()
}

fn networks(fields: &Fields<'_>, name: &'static str) -> Vec<Cidr> {
    fields.scalars(name, 1..=64, NETWORK, parsed).into_iter().map(|network| network.value).collect()
}

fn proxy_protocol(text: &str) -> Result<ProxyProtocol, Refused> {
    match text {
        "off" => Ok(ProxyProtocol::Off),
        "v2" => Ok(ProxyProtocol::V2),
        _ => Err(Refused(None)),
    }
}

fn algorithm(text: &str) -> Result<Algorithm, Refused> {
    match text {
        "leastRequest" => Ok(Algorithm::LeastRequest),
        _ => Err(Refused(None)),
    }
}

#[cfg(test)]
mod tests;

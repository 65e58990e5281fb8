//! ● DNSEndpoints for ExternalDNS: the names that an export is annotated with, and the gateways' public addresses.

use super::{
    Kind, ObjectKey, Problem, PublicAddresses, Settings, World,
    asked::unheeded,
    here::Context,
    marks::{MANAGED_BY, MANAGER, is_ours},
};
use crate::{api::mcs::ServiceExport, compat, optional::OptionalKind};
use k8s_openapi::{
    api::core::v1::Service,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Resource, ResourceExt as _,
    api::{DynamicObject, TypeMeta},
};
use serde_json::{Value, json};
use std::net::IpAddr;

/// On a ServiceExport, or on a Service that is exported without one: names, joined by commas.
pub const HOSTNAME: &str = "external-dns.alpha.kubernetes.io/hostname";
/// On the same: for how many seconds an answer may be kept.
pub const TTL: &str = "external-dns.alpha.kubernetes.io/ttl";
/// The most names of one export.
const MAX_NAMES: usize = 16;

/// The DNSEndpoint of an export, and what of it cannot be had. `export` is its ServiceExport, if it has one.
pub(super) fn record(
    cx: &Context<'_>,
    key: &ObjectKey,
    export: Option<&ServiceExport>,
) -> (Option<DynamicObject>, Vec<Problem>) {
    let (Some(public), Some(_)) = (&cx.settings.external_dns, cx.world.optional.get(&OptionalKind::DnsEndpoint)) else {
        return (None, Vec::new());
    };
    let service = cx.world.services.get(key).map(|service| &**service);
    let said = match export {
        Some(export) => said(export),
        None => service.and_then(said),
    };
    let Some((names, ttl, owner)) = said else { return (None, Vec::new()) };
    let mut problems = Vec::new();
    let names = names_of(&names, &mut problems);
    let addresses = addresses(cx.world, public);
    if addresses.is_empty() {
        let service = &public.service;
        problems.push(unheeded(format!("{HOSTNAME}: the Service {service} has no load balancer's address")));
    }
    let ttl = ttl.and_then(|said| seconds(&said, &mut problems));
    let endpoints: Vec<_> = names.iter().flat_map(|name| endpoints(name, ttl, &addresses)).collect();
    if endpoints.is_empty() {
        return (None, problems);
    }
    let known = cx.world.optional_object(OptionalKind::DnsEndpoint, key);
    if known.is_some_and(|other| !is_ours(&**other)) {
        problems.push(Problem::NotOurs { kind: Kind::Record, key: key.clone() });
        return (None, problems);
    }
    (Some(object(key, owner, &endpoints)), problems)
}

/// Names, seconds, and whose they are.
type Said = (String, Option<String>, OwnerReference);

/// What an object is annotated with, if it is.
fn said<K: Resource<DynamicType = ()>>(of: &K) -> Option<Said> {
    let names = of.annotations().get(HOSTNAME)?.clone();
    let owner = OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: of.name_any(),
        uid: of.uid().unwrap_or_default(),
        ..OwnerReference::default()
    };
    Some((names, of.annotations().get(TTL).cloned(), owner))
}

fn names_of(said: &str, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut names = Vec::new();
    for name in said.split(',').map(str::trim) {
        let label = |label: &str| {
            let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(is_part)
        };
        let bare = name.trim_end_matches('.');
        let fits = bare.len() <= 253 && bare.strip_prefix("*.").unwrap_or(bare).split('.').all(label);
        if !fits || names.len() >= MAX_NAMES {
            let expected = format!("at most {MAX_NAMES} DNS names, joined by commas");
            problems.push(unheeded(compat::refused(HOSTNAME, name, &expected)));
        } else {
            names.push(bare.to_owned());
        }
    }
    names
}

fn seconds(said: &str, problems: &mut Vec<Problem>) -> Option<u32> {
    let seconds = said.parse().ok().filter(|seconds| (1..=i32::MAX.unsigned_abs()).contains(seconds));
    if seconds.is_none() {
        problems.push(unheeded(compat::refused(TTL, said, "whole seconds, 1 or more")));
    }
    seconds
}

/// Where the gateways can be reached from outside.
fn addresses(world: &World, public: &PublicAddresses) -> Vec<String> {
    if !public.fixed.is_empty() {
        return public.fixed.clone();
    }
    let service: Option<&Service> = world.services.get(&public.service).map(|service| &**service);
    let balancer = service.and_then(|service| service.status.as_ref()?.load_balancer.as_ref());
    let ingress = balancer.into_iter().flat_map(|of| of.ingress.iter().flatten());
    ingress.filter_map(|of| of.ip.clone().or_else(|| of.hostname.clone())).collect()
}

/// The records of a name: its addresses, or, where there are none, the name that it is another name of.
fn endpoints(name: &str, ttl: Option<u32>, addresses: &[String]) -> Vec<Value> {
    let of = |is: fn(&IpAddr) -> bool| -> Vec<&String> {
        addresses.iter().filter(|text| text.parse::<IpAddr>().is_ok_and(|ip| is(&ip))).collect()
    };
    let (v4, v6) = (of(IpAddr::is_ipv4), of(IpAddr::is_ipv6));
    let names: Vec<_> = addresses.iter().filter(|text| text.parse::<IpAddr>().is_err()).take(1).collect();
    let sets = if v4.is_empty() && v6.is_empty() { vec![("CNAME", names)] } else { vec![("A", v4), ("AAAA", v6)] };
    let record = |(kind, targets): (&str, Vec<&String>)| {
        let mut record = json!({"dnsName": name, "recordType": kind, "targets": targets});
        if let Some(ttl) = ttl {
            record["recordTTL"] = json!(ttl);
        }
        record
    };
    sets.into_iter().filter(|(_, targets)| !targets.is_empty()).map(record).collect()
}

fn object(key: &ObjectKey, owner: OwnerReference, endpoints: &[Value]) -> DynamicObject {
    let resource = OptionalKind::DnsEndpoint.resource();
    DynamicObject {
        types: Some(TypeMeta { api_version: resource.api_version, kind: resource.kind }),
        metadata: ObjectMeta {
            namespace: Some((*key.namespace).to_owned()),
            name: Some((*key.name).to_owned()),
            labels: Some([(MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: json!({"spec": {"endpoints": endpoints}}),
    }
}

/// The services that have a DNSEndpoint of ours.
pub(super) fn known<'a>(world: &'a World, settings: &Settings) -> impl Iterator<Item = &'a ObjectKey> {
    let ours = world.optional(OptionalKind::DnsEndpoint).filter(|(_, object)| is_ours(*object));
    ours.map(|(key, _)| key).filter(move |_| settings.external_dns.is_some())
}

//! What local clients can use: `imports`.

use super::{
    error::At,
    fields::{Fields, Once, again, parsed},
    parse::Listeners,
    policy, values,
};
use crate::registry::DesiredImport;
use isthmus_control_api::{Cidr, ClusterName, Listen, ServerName, ServicePolicy, ServicePort, Weights};
use std::collections::BTreeMap;

/// How many names an import may be for.
const NAMES: std::ops::RangeInclusive<usize> = 1..=100;

pub(super) fn read(
    top: &Fields<'_>,
    listeners: &mut Listeners,
    cluster: Option<&ClusterName>,
) -> BTreeMap<Listen, DesiredImport> {
    let (mut imports, mut shared) = (BTreeMap::new(), Shared::default());
    for fields in top.mappings("imports", "imports[]", 0..=10_000) {
        let service = fields.value("service", values::service);
        let port = fields.value("port", values::port);
        let protocol = fields.value("protocol", values::protocol);
        let affinity = fields.value("affinity", values::affinity);
        let sticky = fields.value("sessionAffinity", values::session_affinity);
        let weights = fields.value("weights", values::weights).zip(cluster).map(|(all, own)| weights_from(all, own));
        let names = match fields.has("serverNames") {
            true => fields.scalars("serverNames", NAMES, "a DNS name in lower case, or *. before one", parsed),
            false => Vec::new(),
        };
        let policy = policy::read(&fields, policy::Of::Import);
        let address = fields.value("listen", values::listen);
        let socket = address.zip(protocol).map(|(address, protocol)| Listen { address, protocol, server_name: None });
        let Some(socket) = socket else { continue };
        if fields.has("serverNames") && !socket.protocol.is_tcp() {
            fields.conflict("serverNames", "names of a UDP service".into(), "none: only TLS over TCP has them");
        }
        if !socket.protocol.is_tcp() {
            policy::check_datagrams(&fields, &policy);
        }
        shared.claim(listeners, &socket, (&fields, &names), &policy);
        if let (Some(service), Some(port), Some(affinity), Some(sticky)) = (service, port, affinity, sticky) {
            let service = ServicePort { service, port, protocol: socket.protocol };
            let import = DesiredImport { service, affinity, weights, sticky, policy, member: None };
            let named = names.into_iter().map(|name| Listen { server_name: Some(name.value), ..socket.clone() });
            let mut listens: Vec<_> = named.collect();
            if !fields.has("serverNames") {
                listens.push(socket);
            }
            imports.extend(listens.into_iter().map(|listen| (listen, import.clone())));
        }
    }
    imports
}

/// Shares by cluster, `own` being this one.
fn weights_from(mut clusters: BTreeMap<ClusterName, u32>, own: &ClusterName) -> Weights {
    let local = clusters.remove(own).unwrap_or(0);
    Weights { local, clusters, others: true }
}

/// The addresses that imports share by the names that clients ask for.
#[derive(Default)]
struct Shared(BTreeMap<Listen, Place>);

struct Place {
    names: Once<ServerName>,
    /// Whether there is one for all others.
    has_default: bool,
    /// Whom the first import takes for proxies: they are asked before there is a name.
    proxies: Vec<Cidr>,
    /// Whether the first import has a local hop.
    hops: bool,
}

impl Shared {
    /// Takes an import's place: an address of its own, or a part of one that has names.
    fn claim(
        &mut self,
        listeners: &mut Listeners,
        socket: &Listen,
        (fields, names): (&Fields<'_>, &[At<ServerName>]),
        policy: &ServicePolicy,
    ) {
        let is_named = fields.has("serverNames");
        let (proxies, hops) = (&policy.accept_proxy_protocol, policy.local_hop);
        if hops && is_named {
            // The name is read before it is known whose bytes they are.
            fields.conflict("policy", "localHop: on where clients ask by name".into(), "localHop: off");
        }
        let Some(place) = self.0.get_mut(socket) else {
            listeners.claim(socket.clone(), fields, "listen");
            let mut once = Once::new();
            note_twice(&mut once, fields, names);
            self.0
                .insert(socket.clone(), Place { names: once, has_default: !is_named, hops, proxies: proxies.clone() });
            return;
        };
        if !is_named && std::mem::replace(&mut place.has_default, true) {
            // Neither has names: one is too many.
            listeners.claim(socket.clone(), fields, "listen");
        }
        note_twice(&mut place.names, fields, names);
        if (hops && !is_named) || place.hops {
            let found = format!("localHop: on at \"{}\", which imports share by name", socket.address);
            fields.conflict("policy", found, "localHop: off for all of them");
        }
        if place.proxies != *proxies {
            let found = format!("other networks than the first import at \"{}\" has", socket.address);
            fields.conflict("policy", format!("acceptProxyProtocol with {found}"), "the same for all at one address");
        }
    }
}

fn note_twice(once: &mut Once<ServerName>, fields: &Fields<'_>, names: &[At<ServerName>]) {
    for (index, name) in names.iter().enumerate() {
        if let Some(first) = once.seen_before(name.value.clone(), name.at) {
            let found = again(&name.value, first);
            fields.note(name.at, &format!("serverNames[{index}]"), found, "each name once at an address");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    fn read(imports: &str) -> Result<Vec<String>, String> {
        let text = format!("clusterset: demo\ncluster: west\nidentity: id\nimports:\n{imports}");
        let config = Config::parse(&text, Path::new("west.yaml")).map_err(|error| error.to_string())?;
        Ok(config.imports.iter().map(|(listen, import)| format!("{listen} {}", import.service.service)).collect())
    }

    fn import(service: &str, more: &str) -> String {
        format!("  - {{service: shop/{service}, port: 443, listen: \"127.0.0.1:8443\"{more}}}\n")
    }

    #[test]
    fn imports_with_names_share_an_address_with_each_other_and_one_without() {
        let text = import("api", ", serverNames: [api.example, \"*.api.example\"]")
            + &import("other", "")
            + &import("web", ", serverNames: [web.example]");
        let expected = [
            "127.0.0.1:8443 shop/other",
            "127.0.0.1:8443/tls/*.api.example shop/api",
            "127.0.0.1:8443/tls/api.example shop/api",
            "127.0.0.1:8443/tls/web.example shop/web",
        ];
        assert_eq!(read(&text).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let named = |service, names: &str| import(service, &format!(", serverNames: [{names}]"));
        let proxies = ", serverNames: [b], policy: {acceptProxyProtocol: [10.0.0.0/8]}";
        for (text, expected) in [
            (
                import("a", "") + &import("b", ""),
                "imports[1].listen: found \"127.0.0.1:8443\", which imports[0].listen",
            ),
            (named("a", "x") + &import("b", "") + &import("c", ""), "imports[2].listen: found"),
            (named("a", "x") + &named("b", "y, x"), "imports[1].serverNames[1]: found \"x\" a second time"),
            (named("a", "x, x"), "imports[0].serverNames[1]: found \"x\" a second time"),
            (named("a", "X"), "imports[0].serverNames[0]: found \"X\", expected a DNS name in lower case"),
            (named("a", ""), "imports[0].serverNames: found"),
            (
                named("a", "a") + &import("b", proxies),
                "imports[1].policy: found acceptProxyProtocol with other networks",
            ),
            (
                "  - {service: shop/a, port: 53, protocol: UDP, listen: \"127.0.0.1:53\", serverNames: [a]}\n".into(),
                "imports[0].serverNames: found names of a UDP service, expected none",
            ),
            (
                "  - {service: shop/a, port: 53, protocol: UDP, listen: \"127.0.0.1:53\", policy: {timeouts: {firstByte: 1s}}}\n"
                    .into(),
                "imports[0].policy: found timeouts.firstByte of a UDP service, expected timeouts that flows",
            ),
            (
                "  - {service: shop/a, port: 53, protocol: UDP, listen: \"127.0.0.1:53\", policy: {localHop: on}}\n".into(),
                "imports[0].policy: found localHop of a UDP service, expected what flows of datagrams have, too",
            ),
            (
                import("a", ", policy: {transparentSource: [{cluster: east, cidrs: [10.0.0.0/8]}]}"),
                "imports[0].policy.transparentSource: found it at an import, expected it at an export",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

//! ● What is wrong with services: listeners, endpoints, and streams that were opened.

use super::{
    fix::{self, Place},
    line::{Line, Lines},
    sources,
};
use isthmus_gateway::status::{
    ServiceKind, ServiceStatus, Status,
    probe::{ExportProbe, ImportProbe, ServiceProbe},
};
use std::collections::BTreeMap;

/// What was found by opening streams and connections.
#[derive(Debug, Default)]
pub(super) struct Probed {
    /// By service, `namespace/name`; why there is nothing, where that is so.
    pub(super) services: BTreeMap<String, Result<ServiceProbe, String>>,
    /// Connections to listeners, by their address.
    pub(super) listeners: BTreeMap<String, Result<(), String>>,
}

impl Probed {
    /// Nothing was tried, for that reason.
    pub(super) fn not(status: &Status, why: &str) -> Self {
        let of = |service: &ServiceStatus| (service.service.clone(), Err(why.to_owned()));
        Self { services: status.services.iter().map(of).collect(), listeners: BTreeMap::new() }
    }
}

/// Lines about each import and export; of one service only, if it is named.
pub(super) fn lines(status: &Status, probed: &Probed, only: Option<&str>) -> Vec<Line> {
    let wanted = |service: &&ServiceStatus| only.is_none_or(|only| only == service.service);
    let of = |service: &ServiceStatus| match service.kind {
        ServiceKind::Import => import(status, service, probed),
        ServiceKind::Export => export(service, probed),
    };
    status.services.iter().filter(wanted).flat_map(of).collect()
}

const ENDPOINTS: &str = "a cluster has ready endpoints";
const STREAM: &str = "streams are opened";

fn import(status: &Status, service: &ServiceStatus, probed: &Probed) -> Vec<Line> {
    let (name, at) = (service.name(), service.listen.clone().unwrap_or_default());
    let mut lines = Lines::about(format!("import {name} at {at}"));
    listener(&mut lines, service, &at, probed);
    weights(&mut lines, status, service);
    let ready: Vec<_> = service.clusters.iter().filter(|(_, ready)| **ready > 0).collect();
    if ready.is_empty() {
        let (service, own) = (&service.service, &status.cluster);
        let found = "no cluster has a ready endpoint";
        let fix = format!(
            "export {service} in a cluster that is linked with {own}, start an endpoint of it there, and see above whether the \
             link is up"
        );
        lines.failed("import.endpoints", ENDPOINTS, found, fix);
        return lines.into_vec();
    }
    let found = ready.iter().map(|(cluster, ready)| format!("{cluster} {ready}")).collect::<Vec<_>>().join(", ");
    lines.ok("import.endpoints", ENDPOINTS, Some(found));
    if !service.protocol.is_tcp() {
        lines.skipped("import.stream", STREAM, "a service of UDP does not say whether it takes a flow");
        return lines.into_vec();
    }
    match probed.services.get(&service.service) {
        Some(Ok(found)) => match found.imports.iter().find(|import| import.listen == at && import.name == name) {
            Some(import) => streams(&mut lines, status, service, import),
            None => lines.skipped("import.stream", STREAM, "the table has just changed"),
        },
        Some(Err(why)) => lines.skipped("import.stream", STREAM, why.as_str()),
        None => lines.skipped("import.stream", STREAM, "not tried, there being many services: name it with --service"),
    }
    lines.into_vec()
}

/// Clusters that have a share of it and are not linked: a name that is wrong takes a share from nobody, and nobody notices.
fn weights(lines: &mut Lines, status: &Status, service: &ServiceStatus) {
    let is_known = |cluster: &str| cluster == status.cluster || status.links.iter().any(|link| link.cluster == cluster);
    let unknown: Vec<_> = service.weights.keys().map(String::as_str).filter(|cluster| !is_known(cluster)).collect();
    let wanted = "the clusters that have a share are linked";
    if !unknown.is_empty() {
        let (found, own) = (format!("no link with {}", unknown.join(", ")), &status.cluster);
        let fix = format!(
            "correct the name in imports[].weights of {}, or link it with {own}: the others have its share meanwhile",
            service.service
        );
        lines.failed("import.weights", wanted, found, fix);
    } else if !service.weights.is_empty() {
        lines.ok("import.weights", wanted, None);
    }
}

fn listener(lines: &mut Lines, service: &ServiceStatus, at: &str, probed: &Probed) {
    let wanted = "its listener takes connections";
    let said = service.message.as_deref().filter(|message| !message.starts_with("no cluster has"));
    let fix = format!(
        "free {at}, or give imports[].listen of {} another address: the gateway tries again by itself",
        service.service
    );
    match (said, probed.listeners.get(at)) {
        (Some(message), _) => lines.failed("import.listener", wanted, message, fix),
        (None, Some(Err(error))) => lines.failed("import.listener", wanted, format!("cannot connect: {error}"), fix),
        (None, Some(Ok(()))) => lines.ok("import.listener", wanted, None),
        (None, None) => lines.skipped("import.listener", wanted, "not tried"),
    }
}

fn streams(lines: &mut Lines, status: &Status, service: &ServiceStatus, probe: &ImportProbe) {
    for found in &probe.clusters {
        let wanted = format!("{STREAM} at {}", found.cluster);
        let place = Place { own: &status.cluster, peer: &found.cluster };
        match (&found.reason, found.opened_ms) {
            // The gateway asks for itself, and a policy may be for its clients alone.
            (Some(reason), _) if reason == "denied" => {
                let why = format!(
                    "an access policy there denies it to the gateway itself; `isthmus trace {} --client ADDRESS` asks for a client",
                    service.service
                );
                lines.skipped("import.stream", wanted, why);
            }
            (Some(reason), _) => {
                let found = found.error.clone().unwrap_or_else(|| reason.clone());
                lines.failed("import.stream", wanted, found, fix::of_refusal(reason, &service.service, place));
            }
            (None, took) => {
                lines.ok("import.stream", wanted, took.map(|took| format!("an endpoint took one in {took:.1} ms")));
            }
        }
    }
}

fn export(service: &ServiceStatus, probed: &Probed) -> Vec<Line> {
    let name = service.name();
    let mut lines = Lines::about(format!("export {name}"));
    let wanted = "it has ready endpoints";
    if service.endpoints.is_empty() {
        let found = service.message.clone().unwrap_or_else(|| "no endpoint is ready".to_owned());
        let fix = format!(
            "start one, and name it in exports[].endpoints of {} (in Kubernetes: a ready pod)",
            service.service
        );
        lines.failed("export.endpoints", wanted, found, fix);
        return lines.into_vec();
    }
    lines.ok("export.endpoints", wanted, Some(service.endpoints.len().to_string()));
    health(&mut lines, service);
    let wanted = "its endpoints take connections";
    match probed.services.get(&service.service) {
        _ if !service.protocol.is_tcp() => {
            lines.skipped("export.connect", wanted, "endpoints of UDP do not say whether they are there");
        }
        Some(Ok(found)) => match found.exports.iter().find(|export| export.name == name) {
            Some(export) => {
                connections(&mut lines, export, wanted);
                sources::lines(&mut lines, export);
            }
            None => lines.skipped("export.connect", wanted, "the table has just changed"),
        },
        Some(Err(why)) => lines.skipped("export.connect", wanted, why.as_str()),
        None => lines.skipped("export.connect", wanted, "not tried, there being many services: name it with --service"),
    }
    lines.into_vec()
}

/// What streams and checks have found before.
fn health(lines: &mut Lines, service: &ServiceStatus) {
    let wanted = "its endpoints are well";
    let unwell =
        service.endpoints.iter().filter(|endpoint| matches!(endpoint.health.as_str(), "ejected" | "down" | "failing"));
    let words: Vec<_> = unwell
        .map(|endpoint| {
            let why =
                endpoint.check.as_ref().and_then(|check| check.error.clone()).or_else(|| endpoint.message.clone());
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            format!("{} is {}{why}", endpoint.address, endpoint.health)
        })
        .collect();
    if words.is_empty() {
        return lines.ok("export.health", wanted, None);
    }
    let fix = "see why they fail at the endpoints themselves, or take them out of exports[].endpoints";
    lines.failed("export.health", wanted, words.join("\n"), fix);
}

fn connections(lines: &mut Lines, probe: &ExportProbe, wanted: &str) {
    let failed = probe.endpoints.iter().filter_map(|endpoint| Some((&endpoint.address, endpoint.error.as_ref()?)));
    let failed: Vec<_> = failed.map(|(address, error)| format!("{address}: {error}")).collect();
    if failed.is_empty() {
        let slowest = probe.endpoints.iter().filter_map(|endpoint| endpoint.connected_ms).reduce(f64::max);
        return lines.ok("export.connect", wanted, slowest.map(|slowest| format!("within {slowest:.1} ms")));
    }
    let fix = "start what listens there, let connections from this host pass, or take them out of exports[].endpoints";
    lines.failed("export.connect", wanted, failed.join("\n"), fix);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::check::{line::Mark, samples};
    use serde_json::{Value, json};

    fn probe(change: impl FnOnce(&mut Value)) -> Result<ServiceProbe, String> {
        let mut json = json!({
            "cluster": "west", "service": "shop/api", "left_out": 0,
            "imports": [{"name": "shop/api:80", "listen": "127.0.0.1:18080",
                         "clusters": [{"cluster": "east", "opened_ms": 2.5, "reason": null, "error": null}]}],
            "exports": [{"name": "shop/api:80", "endpoints": [{"address": "10.0.0.2:8080", "connected_ms": 0.3, "error": null}]}],
        });
        change(&mut json);
        Ok(serde_json::from_value(json).unwrap())
    }

    fn probed(probe: Result<ServiceProbe, String>) -> Probed {
        Probed {
            services: [("shop/api".to_owned(), probe)].into(),
            listeners: [("127.0.0.1:18080".to_owned(), Ok(()))].into(),
        }
    }

    /// Each check and its mark, in order.
    fn marks(status: &Status, probed: &Probed) -> Vec<(&'static str, Mark)> {
        let lines = lines(status, probed, None);
        lines.iter().map(|line| (line.check, line.mark)).collect()
    }

    fn failed(status: &Status, probed: &Probed) -> Vec<&'static str> {
        marks(status, probed).into_iter().filter(|(_, mark)| *mark == Mark::Failed).map(|(check, _)| check).collect()
    }

    #[test]
    fn what_is_well_has_nothing_but_ticks() {
        let marks = marks(&samples::status(|_| ()), &probed(probe(|_| ())));
        assert_eq!(marks.len(), 6);
        assert!(marks.iter().all(|(_, mark)| *mark == Mark::Ok), "{marks:?}");
    }

    #[test]
    fn a_cluster_that_does_not_open_streams_fails_although_it_says_that_it_has_endpoints() {
        for reason in ["no_endpoint", "no_such_export", "timeout", "no_tunnel"] {
            let found = probe(|json| {
                json["imports"][0]["clusters"][0] =
                    json!({"cluster": "east", "opened_ms": null, "reason": reason, "error": "so it is"});
            });
            assert_eq!(failed(&samples::status(|_| ()), &probed(found)), ["import.stream"]);
        }
    }

    #[test]
    fn what_a_policy_denies_the_gateway_is_not_known_of_its_clients() {
        let found = probe(|json| json["imports"][0]["clusters"][0]["reason"] = json!("denied"));
        let marks = marks(&samples::status(|_| ()), &probed(found));
        assert!(marks.contains(&("import.stream", Mark::Skipped)), "{marks:?}");
    }

    #[test]
    fn endpoints_that_fail_are_named() {
        let found = probe(|json| json["exports"][0]["endpoints"][0]["error"] = json!("connection refused"));
        assert_eq!(failed(&samples::status(|_| ()), &probed(found)), ["export.connect"]);
        let ejected = samples::status(|json| json["services"][1]["endpoints"][0]["health"] = json!("ejected"));
        assert_eq!(failed(&ejected, &probed(probe(|_| ()))), ["export.health"]);
        let none = samples::status(|json| json["services"][1]["endpoints"] = json!([]));
        assert_eq!(failed(&none, &probed(probe(|_| ()))), ["export.endpoints"]);
    }

    #[test]
    fn listeners_and_endpoints_that_are_not_there_fail() {
        let status = samples::status(|json| json["services"][0]["message"] = json!("address in use"));
        assert_eq!(failed(&status, &probed(probe(|_| ()))), ["import.listener"]);
        let mut deaf = probed(probe(|_| ()));
        deaf.listeners.insert("127.0.0.1:18080".to_owned(), Err("refused".to_owned()));
        assert_eq!(failed(&samples::status(|_| ()), &deaf), ["import.listener"]);
        let nowhere = samples::status(|json| json["services"][0]["clusters"] = json!({"east": 0}));
        assert_eq!(failed(&nowhere, &probed(probe(|_| ()))), ["import.endpoints"]);
    }

    #[test]
    fn a_share_of_a_cluster_that_is_not_linked_is_named() {
        let with = |weights| samples::status(|json| json["services"][0]["weights"] = weights);
        let typo = with(json!({"east": 80, "wset": 20}));
        assert_eq!(failed(&typo, &probed(probe(|_| ()))), ["import.weights"]);
        let right = with(json!({"east": 80, "west": 20}));
        assert!(marks(&right, &probed(probe(|_| ()))).contains(&("import.weights", Mark::Ok)));
    }

    #[test]
    fn what_was_not_tried_gets_no_tick() {
        let status = samples::status(|_| ());
        for probed in [Probed::default(), Probed::not(&status, "this is a control")] {
            let marks = marks(&status, &probed);
            let skipped = marks.iter().filter(|(_, mark)| *mark == Mark::Skipped).count();
            assert_eq!(skipped, 3, "{marks:?}");
        }
    }
}

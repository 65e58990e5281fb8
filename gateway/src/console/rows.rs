//! ● The rows of the two lists, and what stands above them.

use super::rates::Rates;
use crate::status::{EndpointStatus, IdentityReport, LinkStatus, ServiceKind, ServiceStatus, Status};
use serde::Serialize;
use std::collections::BTreeMap;

/// What stands above the lists.
#[derive(Debug, Serialize)]
pub(super) struct Head<'s> {
    cluster: &'s str,
    clusterset: &'s str,
    gateway: &'s str,
    version: &'s str,
    ready: bool,
    not_ready: Option<&'s str>,
    table_version: u64,
    identity: &'s IdentityReport,
    silent_cores: &'s [usize],
    /// What control has to complain of.
    notices: Vec<&'s str>,
    /// Between two events, in milliseconds.
    period_ms: u64,
}

/// A link.
#[derive(Debug, Serialize)]
pub(super) struct LinkRow<'s> {
    #[serde(flatten)]
    link: &'s LinkStatus,
    rates: Rates,
}

/// A port of a service, imported or exported or both.
#[derive(Debug, Default, Serialize)]
pub(super) struct ServiceRow<'s> {
    /// `namespace/name`.
    service: &'s str,
    port: u16,
    udp: bool,
    /// Where local clients connect.
    listen: Vec<&'s str>,
    /// Imported: the clusters that serve it, with their ready endpoints.
    clusters: BTreeMap<&'s str, u32>,
    /// Exported: how many of its endpoints serve, and how many there are.
    endpoints: Option<(usize, usize)>,
    /// What is wrong.
    message: Option<&'s str>,
    rates: Rates,
}

/// Notices of each kind that are shown; the status has the others.
const MOST_NOTICES: usize = 20;

impl<'s> Head<'s> {
    pub(super) fn new(status: &'s Status, period_ms: u64) -> Self {
        Self {
            cluster: &status.cluster,
            clusterset: &status.clusterset,
            gateway: &status.gateway,
            version: &status.version,
            ready: status.ready,
            not_ready: status.not_ready.as_deref(),
            table_version: status.table.version,
            identity: &status.identity,
            silent_cores: &status.silent_cores,
            notices: notices(&status.control),
            period_ms,
        }
    }
}

impl<'s> LinkRow<'s> {
    pub(super) fn new(link: &'s LinkStatus, rates: Rates) -> Self {
        Self { link, rates }
    }
}

/// The rows of all services, by the name of their port. `rates` has those of one. Of what control complains of, each has what is
/// of its own: conflicts between clusters, above all.
pub(super) fn services<'s>(
    services: &'s [ServiceStatus],
    control: &'s serde_json::Value,
    rates: impl Fn(&str) -> Rates,
) -> BTreeMap<String, ServiceRow<'s>> {
    let complaints = lines(control, "problems").filter_map(|line| line.split_once(": "));
    // Of several the first.
    let complaints: BTreeMap<_, _> = complaints.rev().collect();
    let mut rows: BTreeMap<String, ServiceRow<'_>> = BTreeMap::new();
    for status in services {
        let row = rows.entry(status.name()).or_default();
        (row.service, row.port, row.udp) = (&status.service, status.port, !status.protocol.is_tcp());
        row.message = row.message.or(status.message.as_deref());
        match status.kind {
            ServiceKind::Import => {
                row.listen.extend(status.listen.as_deref());
                row.clusters.extend(status.clusters.iter().map(|(cluster, &ready)| (cluster.as_str(), ready)));
            }
            ServiceKind::Export => {
                let serving = status.endpoints.iter().filter(|endpoint| serves(endpoint)).count();
                row.endpoints = Some((serving, status.endpoints.len()));
                if serving == 0 && !status.endpoints.is_empty() {
                    row.message = row.message.or(Some("no endpoint serves"));
                }
            }
        }
    }
    for (name, row) in &mut rows {
        row.message = row.message.or(complaints.get(row.service).copied());
        row.rates = rates(name);
    }
    rows
}

fn serves(endpoint: &EndpointStatus) -> bool {
    !matches!(endpoint.health.as_str(), "ejected" | "down")
}

/// What control says is wrong: of its file, its registry, its gateways' tables.
fn notices(control: &serde_json::Value) -> Vec<&str> {
    let said = control["lastReloadError"].as_str().into_iter().chain(control["attachment"]["error"].as_str());
    let lists = ["failures", "problems"].into_iter().flat_map(|list| lines(control, list).take(MOST_NOTICES));
    said.chain(lists).collect()
}

fn lines<'c>(control: &'c serde_json::Value, list: &str) -> impl DoubleEndedIterator<Item = &'c str> + use<'c> {
    let lines = control["registry"][list].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.iter().filter_map(serde_json::Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(kind: ServiceKind, healths: &[&str]) -> ServiceStatus {
        let endpoints: Vec<_> = healths
            .iter()
            .map(|health| json!({"address": "10.0.0.1:80", "health": health, "inflight": 0, "ewma_ms": null, "failures": 0}))
            .collect();
        let kind = serde_json::to_value(kind).unwrap();
        let status = json!({"service": "shop/api", "port": 80, "kind": kind, "listen": null, "clusters": {"east": 2},
            "endpoints": endpoints, "message": null});
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_service_that_is_imported_and_exported_is_one_row() {
        let statuses =
            [service(ServiceKind::Import, &[]), service(ServiceKind::Export, &["healthy", "ejected", "unused"])];
        let rows = services(&statuses, &json!(null), |_| Rates::default());
        let row = &rows["shop/api:80"];
        assert_eq!((rows.len(), row.clusters["east"], row.endpoints, row.message), (1, 2, Some((2, 3)), None));
    }

    #[test]
    fn an_export_that_nobody_serves_says_so() {
        let statuses = [service(ServiceKind::Export, &["down", "ejected"])];
        assert_eq!(
            services(&statuses, &json!(null), |_| Rates::default())["shop/api:80"].message,
            Some("no endpoint serves")
        );
    }

    #[test]
    fn a_service_that_clusters_disagree_on_says_so() {
        let statuses = [service(ServiceKind::Import, &[])];
        let problems = ["shop/apis: other", "shop/api: Using port 80 from the oldest export", "shop/api: and more"];
        let control = json!({"registry": {"problems": problems}});
        let rows = services(&statuses, &control, |_| Rates::default());
        assert_eq!(rows["shop/api:80"].message, Some("Using port 80 from the oldest export"));
    }

    #[test]
    fn what_control_complains_of_is_above_the_lists() {
        let control =
            json!({"lastReloadError": "line 3", "registry": {"failures": ["no"], "problems": vec!["p"; 100]}});
        assert_eq!(notices(&control).len(), 2 + MOST_NOTICES);
        assert_eq!(notices(&json!(null)), [""; 0]);
    }
}

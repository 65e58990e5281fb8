//! ● Istio: global services by a label, and what DestinationRules say of the choice between clusters.

use super::{Asked, fields::text, hosts, label, refused};
use isthmus_control_api::{Affinity, ClusterName, Weights};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// On a Service: it has endpoints in all clusters and can be used from any.
const GLOBAL: &str = "istio.io/global";
/// The label by which a rule prefers endpoints of the client's own cluster.
const CLUSTER: &str = "topology.istio.io/cluster";
/// Where the setting of localities stands.
const LOCALITY: &str = "/spec/trafficPolicy/loadBalancer/localityLbSetting";
/// Shares are scaled by this, as one locality can be several clusters.
const SCALE: u32 = 120;

/// Reads a Service's labels.
pub(super) fn read(service: &ObjectMeta, asked: &mut Asked) {
    match label(service, GLOBAL) {
        None | Some("false") => {}
        Some("true") => {
            asked.global.get_or_insert(GLOBAL);
            asked.export.get_or_insert(GLOBAL);
        }
        Some(said) => asked.notes.push(refused(GLOBAL, said, "true or false")),
    }
}

/// A DestinationRule, as far as it is about the choice between clusters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Which clusters to prefer.
    pub affinity: Option<Affinity>,
    /// Shares by locality: from where, and how much to where.
    pub distribute: Vec<(String, Vec<(String, u32)>)>,
    /// What is not carried over.
    pub notes: Vec<String>,
}

/// The zones in which each cluster has endpoints of a service.
pub type Zones<'a> = BTreeMap<&'a ClusterName, BTreeSet<Arc<str>>>;

/// The service that a rule is about, as namespace and name, and what it says; `None` where its host is no Service.
pub fn rule(object: &DynamicObject) -> Option<((String, String), Rule)> {
    let service = hosts::service(text(object, "/spec/host")?, object.metadata.namespace.as_deref()?)?;
    let mut rule = Rule::default();
    let locality = object.data.pointer(LOCALITY);
    let is_on = locality.is_some_and(|of| of.get("enabled") != Some(&Value::Bool(false)));
    let lists = |key: &str| locality.and_then(|of| of.get(key)).and_then(Value::as_array).filter(|_| is_on);
    rule.distribute = lists("distribute").into_iter().flatten().filter_map(distribution).collect();
    let has_outliers = object.data.pointer("/spec/trafficPolicy/outlierDetection").is_some();
    if lists("failover").is_some() || lists("failoverPriority").is_some() || (has_outliers && locality.is_none()) {
        rule.affinity = Some(Affinity::Local);
    }
    if lists("failover").is_some() {
        rule.notes
            .push("failover: another cluster serves when this one does not, whichever; `to` does not count".into());
    }
    if let Some(labels) = lists("failoverPriority") {
        let others = labels.iter().filter_map(Value::as_str).filter(|label| *label != CLUSTER);
        rule.notes.extend(others.map(|label| format!("failoverPriority: {label}: clusters are told apart, not more")));
    }
    left_out(object, &mut rule.notes);
    Some((service, rule))
}

/// What of a rule's fields is not carried over.
fn left_out(object: &DynamicObject, notes: &mut Vec<String>) {
    let fields = |at: &str| object.data.pointer(at).and_then(Value::as_object);
    let policy = "spec.trafficPolicy";
    let mut note = |field: String, why: &str| notes.push(format!("{field}: not carried over{why}"));
    for key in fields("/spec/trafficPolicy/connectionPool/tcp").into_iter().flat_map(Map::keys) {
        let why = match key.as_str() {
            "connectTimeout" => "; limits.connectTimeout of the gateways counts",
            _ => "",
        };
        note(format!("{policy}.connectionPool.tcp.{key}"), why);
    }
    for key in fields("/spec/trafficPolicy/connectionPool").into_iter().flat_map(Map::keys).filter(|key| *key != "tcp")
    {
        note(format!("{policy}.connectionPool.{key}"), "");
    }
    for key in fields("/spec/trafficPolicy/loadBalancer").into_iter().flat_map(Map::keys) {
        if key != "localityLbSetting" {
            note(format!("{policy}.loadBalancer.{key}"), "; gateways choose by load");
        }
    }
    for key in fields("/spec/trafficPolicy").into_iter().flat_map(Map::keys) {
        match key.as_str() {
            "connectionPool" | "loadBalancer" => {}
            "outlierDetection" => {
                note(format!("{policy}.{key}"), "; gateways leave out endpoints that fail by rules of their own");
            }
            _ => note(format!("{policy}.{key}"), ""),
        }
    }
    if object.data.pointer("/spec/subsets").is_some() {
        note("spec.subsets".into(), "");
    }
}

fn distribution(of: &Value) -> Option<(String, Vec<(String, u32)>)> {
    let from = of.get("from").and_then(Value::as_str).unwrap_or("*");
    let to = of.get("to")?.as_object()?.iter();
    let to = to.filter_map(|(to, share)| Some((to.clone(), u32::try_from(share.as_u64()?).ok()?.min(100))));
    Some((from.to_owned(), to.collect()))
}

impl Rule {
    /// The shares of clusters that its distribution comes to for clients of cluster `own`, and what of it cannot be told. A locality is
    /// a cluster by its id, or else every cluster whose endpoints are there.
    pub fn weights(&self, own: &ClusterName, zones: &Zones<'_>) -> (Option<Weights>, Vec<String>) {
        let mut notes = Vec::new();
        let is_here = |from: &str| from == "*" || clusters(from, zones).contains(&own);
        let Some((_, to)) = self.distribute.iter().find(|(from, _)| is_here(from)) else {
            if !self.distribute.is_empty() {
                notes.push("distribute: none of its localities is this cluster".into());
            }
            return (None, notes);
        };
        let mut weights = Weights { others: true, ..Weights::default() };
        for (locality, share) in to {
            let found = clusters(locality, zones);
            let Some(count) = u32::try_from(found.len()).ok().filter(|count| *count > 0) else {
                notes.push(format!("distribute: no cluster has endpoints in {locality:?}"));
                continue;
            };
            for cluster in found {
                let each = share * SCALE / count;
                if cluster == own {
                    weights.local += each;
                } else {
                    *weights.clusters.entry(cluster.clone()).or_default() += each;
                }
            }
        }
        let has_any = weights.local > 0 || weights.clusters.values().any(|share| *share > 0);
        (has_any.then_some(weights), notes)
    }
}

/// The clusters of a locality, `region/zone/subzone`, of which trailing parts may be `*` or left out.
fn clusters<'a>(locality: &str, zones: &Zones<'a>) -> Vec<&'a ClusterName> {
    let mut parts = locality.split('/').filter(|part| !part.is_empty() && *part != "*");
    let (region, zone) = (parts.next().unwrap_or_default(), parts.next());
    if region.is_empty() {
        return zones.keys().copied().collect();
    }
    if let Some(by_id) = zones.keys().find(|cluster| cluster.as_str() == region && zone.is_none()) {
        return vec![by_id];
    }
    // Clouds name zones after their regions.
    let is_there = |of: &Arc<str>| zone.map_or_else(|| of.starts_with(region), |zone| **of == *zone);
    zones.iter().filter(|(_, of)| of.iter().any(is_there)).map(|(cluster, _)| *cluster).collect()
}

//! ● What plans need of namespaces, nodes and our own pods.

use super::ByName;
use crate::{compat::Marks, mcs::GatewayPod};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::core::PartialObjectMeta;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// Where a node is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The namespaces in which objects can be made.
pub(super) fn namespaces(all: &ByName<PartialObjectMeta<Namespace>>) -> BTreeSet<Arc<str>> {
    let lasting = all.values().filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
    lasting.filter_map(|namespace| namespace.metadata.name.as_deref().map(Arc::from)).collect()
}

/// What the namespaces that have any say by their labels and annotations.
pub(super) fn marks(all: &ByName<PartialObjectMeta<Namespace>>) -> BTreeMap<Arc<str>, Marks> {
    let marked = all.values().map(|namespace| (&namespace.metadata, Marks::of(&namespace.metadata)));
    let marked = marked.filter(|(_, marks)| *marks != Marks::default());
    marked.filter_map(|(meta, marks)| Some((meta.name.as_deref()?.into(), marks))).collect()
}

/// The zones of the nodes that have one.
pub(super) fn zones(all: &ByName<PartialObjectMeta<Node>>) -> BTreeMap<Arc<str>, Arc<str>> {
    let zone = |node: &PartialObjectMeta<Node>| {
        let zone = node.metadata.labels.as_ref()?.get(ZONE)?;
        Some((node.metadata.name.as_deref()?.into(), zone.as_str().into()))
    };
    all.values().filter_map(|node| zone(node)).collect()
}

/// The ready ones of our gateway's pods.
pub(super) fn gateways(all: &ByName<Pod>) -> Vec<GatewayPod> {
    all.values().filter_map(|pod| gateway(pod)).collect()
}

fn gateway(pod: &Pod) -> Option<GatewayPod> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !is_ready || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse::<IpAddr>().ok()) {
        if !addresses.iter().any(|known| known.is_ipv4() == ip.is_ipv4()) {
            addresses.push(ip);
        }
    }
    Some(GatewayPod {
        name: pod.metadata.name.clone()?,
        namespace: pod.metadata.namespace.clone()?,
        addresses,
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
    })
}

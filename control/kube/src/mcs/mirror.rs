//! ● Other names of a service. Mirrors: each service of a linked cluster under a name of its own, `<service>-<cluster>`, which leads there
//! and nowhere else; opt-in by link, or by service as Linkerd has it. And `<service>-federated`, the union of those that ask for it.

use super::{
    Kind, ObjectKey, Problem, ServicePlan,
    asked::{FEDERATED, MIRROR},
    derived::gateway_service,
    here::Here,
    marks::is_ours,
    merge::{Constituents, MergedPort, merge},
    ports::{self, Ports},
    service::{give, listen},
    slices::{self, Serving},
};
use isthmus_control::{
    System,
    exchange::summary::{Port, bounds::is_label},
    registry::DesiredImport,
};
use isthmus_control_api::{Affinity, ClusterName, ServicePort, Weights};
use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeMap;

/// Another name of a service, which leads to some of its clusters.
struct Alias<'a> {
    key: ObjectKey,
    clusters: Vec<&'a ClusterName>,
    weights: Option<Weights>,
}

/// The mirrors of a service, one for each cluster that has it and is mirrored, and the union of its members if it is federated. A
/// headless one has none: its endpoints have addresses.
pub(super) fn fill(plan: &mut ServicePlan, here: &Here<'_>, ports: &mut Ports) {
    let own = &here.cx.settings.cluster;
    for (cluster, _) in here.constituents.iter().filter(|(cluster, summary)| *cluster != own && !summary.headless) {
        let key = ObjectKey::new(&here.key.namespace, &format!("{}-{cluster}", here.key.name));
        if here.cx.settings.mirrored.contains(cluster) || asks(here, cluster, MIRROR, &key) {
            let weights = Weights { local: 0, clusters: [(cluster.clone(), 1)].into(), others: false };
            one(plan, here, &Alias { key, clusters: vec![cluster], weights: Some(weights) }, ports);
        }
    }
    let key = ObjectKey::new(&here.key.namespace, &format!("{}-federated", here.key.name));
    let clusters: Vec<_> = here.constituents.keys().filter(|cluster| asks(here, cluster, FEDERATED, &key)).collect();
    if !clusters.is_empty() {
        let weights = (clusters.len() < here.constituents.len()).then(|| Weights {
            local: u32::from(clusters.contains(&own)),
            clusters: clusters.iter().filter(|of| **of != own).map(|of| ((*of).clone(), 1)).collect(),
            others: false,
        });
        one(plan, here, &Alias { key, clusters, weights }, ports);
    }
}

/// Whether a cluster asks that its service have that alias, and such words count here. What one that has said nothing since our start
/// had before stays.
fn asks(here: &Here<'_>, cluster: &ClusterName, word: &str, alias: &ObjectKey) -> bool {
    let Some(summary) = here.constituents.get(cluster).filter(|summary| !summary.headless) else { return false };
    here.cx.settings.compat.contains(&System::Linkerd)
        && (summary.annotations.get(word).is_some_and(|said| **said == *"true")
            || here.held.contains(cluster) && !here.names_in_slices(cluster, alias).is_empty())
}

fn one(plan: &mut ServicePlan, here: &Here<'_>, alias: &Alias<'_>, ports: &mut Ports) {
    let Alias { key, clusters, weights } = alias;
    if !is_label(&key.name) {
        plan.problems.push(Problem::Unheeded { what: format!("a mirror: {} is longer than 63 bytes", key.name) });
        return;
    }
    let observed = here.cx.world.services.get(key).map(|service| &**service);
    if observed.is_some_and(|other| !is_ours(other)) {
        plan.problems.push(Problem::NotOurs { kind: Kind::Service, key: key.clone() });
        return;
    }
    let named = named(here, clusters, observed);
    let given = give(plan, here, key, named.keys(), ports);
    plan.services.extend(gateway_service(here, key, &named, &given, observed, &[]));
    let Some(observed) = observed else { return };
    for cluster in clusters {
        let serving = here.served(cluster, key, &named, &given);
        let serving = Serving { cluster, service: key, observed, named: &named, ports: serving };
        plan.slices.extend(slices::of_gateways(here, &serving));
    }
    listen(plan, observed, &given, |port| DesiredImport {
        service: ServicePort { service: here.name.clone(), port: port.number, protocol: port.protocol },
        affinity: Affinity::None,
        weights: weights.clone(),
        member: None,
    });
}

/// The ports that the clusters have; of those that have said nothing since our start, those that the alias has.
fn named(here: &Here<'_>, clusters: &[&ClusterName], observed: Option<&Service>) -> BTreeMap<Port, MergedPort> {
    let heard = clusters.iter().filter(|cluster| !here.held.contains(**cluster));
    let heard: Constituents = heard
        .filter_map(|cluster| here.constituents.get_key_value(*cluster))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if let Some(merged) = merge(&heard) {
        return merged.ports;
    }
    let ports =
        observed.into_iter().flat_map(|service| service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()));
    let text = |text: &Option<String>| text.as_deref().map(Into::into);
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        Some((ports::number(port)?, MergedPort { name: text(&port.name), app_protocol: text(&port.app_protocol) }))
    };
    ports.filter_map(port).collect()
}

//! ● Other names of a service. Mirrors: each service of a linked cluster under a name of its own, `<service>-<cluster>`, which leads there
//! and nowhere else; opt-in by link, or by service as Linkerd has it. And `<service>-federated`, the union of those that ask for it.

use super::{
    ObjectKey, Problem, ServicePlan,
    asked::{FEDERATED, MIRROR, unheeded},
    derivation::{self, federated_name, mirror_name},
    derived::gateway_service,
    here::Here,
    merge::{Constituents, MergedPort, merge},
    ports::{self, Ports},
    preference::only,
    service::{Wanting, give, listen},
    slices::{self, Role, Serving},
};
use crate::api::mcs::SOURCE_CLUSTER;
use isthmus_control::{
    System,
    exchange::summary::{Port, bounds::is_label},
    registry::DesiredImport,
};
use isthmus_control_api::{Affinity, ClusterName, ServicePort, Weights};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use std::collections::BTreeMap;

/// Another name of a service, which leads to some of its clusters.
struct Alias<'a> {
    key: ObjectKey,
    role: Role,
    clusters: Vec<&'a ClusterName>,
    weights: Option<Weights>,
}

/// The mirrors of a service, one for each cluster that has it and is mirrored, and the union of its members if it is federated. A
/// headless one has none: its endpoints have addresses.
pub(super) fn fill(plan: &mut ServicePlan, here: &Here<'_>, ports: &mut Ports) {
    let own = &here.cx.settings.cluster;
    for (cluster, _) in here.constituents.iter().filter(|(cluster, summary)| *cluster != own && !summary.headless) {
        let key = ObjectKey::new(&here.key.namespace, &mirror_name(here.key, cluster.as_str()));
        if here.cx.settings.mirrored.contains(cluster) || asks(here, cluster, MIRROR, &key) {
            one(
                plan,
                here,
                &Alias { key, role: Role::Mirror, clusters: vec![cluster], weights: Some(only(cluster)) },
                ports,
            );
        }
    }
    let key = ObjectKey::new(&here.key.namespace, &federated_name(here.key));
    let clusters: Vec<_> = here.constituents.keys().filter(|cluster| asks(here, cluster, FEDERATED, &key)).collect();
    if !clusters.is_empty() {
        let weights = (clusters.len() < here.constituents.len()).then(|| Weights {
            local: u32::from(clusters.contains(&own)),
            clusters: clusters.iter().filter(|of| **of != own).map(|of| ((*of).clone(), 1)).collect(),
            others: false,
        });
        one(plan, here, &Alias { key, role: Role::Federated, clusters, weights }, ports);
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
    let Alias { key, role, clusters, weights } = alias;
    if !is_label(&key.name) {
        plan.problems.push(unheeded(format!("a mirror: {} is longer than 63 bytes", key.name)));
        return;
    }
    if plan.services.iter().any(|service| ObjectKey::of(service) == *key) {
        plan.problems.push(unheeded(format!("a federation: a mirror has its name, {}", key.name)));
        return;
    }
    let taken = |by| Problem::Taken { key: key.clone(), by };
    let observed = derivation::observed(here.cx.world, key, here.key);
    let observed = match observed.and_then(|found| ports.name_mirror(key, here.key).map_err(taken).map(|()| found)) {
        Ok(observed) => observed,
        Err(problem) => {
            plan.problems.push(problem);
            return;
        }
    };
    let named = named(here, clusters, observed);
    let payers = if clusters.contains(&&here.cx.settings.cluster) { Vec::new() } else { clusters.clone() };
    let wanted = named.keys().map(|port| (*port, payers.clone()));
    let wanting = Wanting { service: key, payers: payers.clone(), is_there: observed.is_some() };
    let given = give(plan, here, &wanting, wanted, ports);
    let service = gateway_service(here, key, &named, &given, observed, &[]);
    plan.services.extend(service.map(|mut service| {
        if let (Role::Mirror, [cluster]) = (role, &clusters[..]) {
            service.labels_mut().insert(SOURCE_CLUSTER.into(), cluster.to_string());
        }
        service
    }));
    let Some(observed) = observed else { return };
    for cluster in clusters {
        let served = here.served(cluster, key, &named, &given);
        let serving = Serving { cluster, role: *role, service: key, observed, named: &named, ports: served };
        plan.slices.extend(slices::of_gateways(here, &serving));
    }
    listen(plan, key, &given, ports, |port| DesiredImport {
        service: ServicePort { service: here.name.clone(), port: port.number, protocol: port.protocol },
        affinity: Affinity::None,
        weights: weights.clone(),
        sticky: clusters.iter().any(|of| here.constituents.get(*of).is_some_and(|of| of.affinity.is_some())),
        policy: Default::default(),
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
    let mut named = merge(&heard).map(|merged| merged.ports).unwrap_or_default();
    if heard.len() == clusters.len() {
        return named;
    }
    let ports =
        observed.into_iter().flat_map(|service| service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()));
    let text = |text: &Option<String>| text.as_deref().map(Into::into);
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        Some((ports::number(port)?, MergedPort { name: text(&port.name), app_protocol: text(&port.app_protocol) }))
    };
    for (port, of) in ports.filter_map(port) {
        named.entry(port).or_insert(of);
    }
    named
}

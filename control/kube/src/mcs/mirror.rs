//! ● Mirrors: each service of a linked cluster under a name of its own, `<service>-<cluster>`, which leads there and nowhere else. Opt-in
//! by link.

use super::{
    Kind, ObjectKey, Problem, ServicePlan,
    derived::gateway_service,
    here::Here,
    marks::is_ours,
    merge::{Constituents, MergedPort, merge},
    ports::{self, Ports},
    service::{give, listen},
    slices::{self, Serving},
};
use isthmus_control::{
    exchange::summary::{Port, bounds::is_label},
    registry::DesiredImport,
};
use isthmus_control_api::{Affinity, ClusterName, ServicePort, Weights};
use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeMap;

/// The mirrors of a service, one for each cluster that has it and is mirrored. A headless one has none: its endpoints have addresses.
pub(super) fn fill(plan: &mut ServicePlan, here: &Here<'_>, ports: &mut Ports) {
    for cluster in here.constituents.keys().filter(|cluster| here.cx.settings.mirrored.contains(*cluster)) {
        if here.constituents.get(cluster).is_some_and(|summary| !summary.headless) {
            one(plan, here, cluster, ports);
        }
    }
}

fn one(plan: &mut ServicePlan, here: &Here<'_>, cluster: &ClusterName, ports: &mut Ports) {
    let name = format!("{}-{cluster}", here.key.name);
    if !is_label(&name) {
        plan.problems.push(Problem::Unheeded { what: format!("a mirror: {name} is longer than 63 bytes") });
        return;
    }
    let key = ObjectKey::new(&here.key.namespace, &name);
    let observed = here.cx.world.services.get(&key).map(|service| &**service);
    if observed.is_some_and(|other| !is_ours(other)) {
        plan.problems.push(Problem::NotOurs { kind: Kind::Service, key });
        return;
    }
    let named = named(here, cluster, observed);
    let given = give(plan, here, &key, named.keys(), ports);
    plan.services.extend(gateway_service(here, &key, &named, &given, observed, &[]));
    let Some(observed) = observed else { return };
    let serving = here.served(cluster, &key, &named, &given);
    let serving = Serving { cluster, service: &key, observed, named: &named, ports: serving };
    plan.slices.extend(slices::of_gateways(here, &serving));
    listen(plan, observed, &given, |port| DesiredImport {
        service: ServicePort { service: here.name.clone(), port: port.number, protocol: port.protocol },
        affinity: Affinity::None,
        weights: Some(Weights { local: 0, clusters: [(cluster.clone(), 1)].into(), others: false }),
        sticky: here.constituents.get(cluster).is_some_and(|of| of.affinity.is_some()),
        member: None,
    });
}

/// The ports that the cluster has; of one that has said nothing since our start, those that its mirror has.
fn named(here: &Here<'_>, cluster: &ClusterName, observed: Option<&Service>) -> BTreeMap<Port, MergedPort> {
    if !here.held.contains(cluster) {
        let alone: Constituents =
            here.constituents.get_key_value(cluster).map(|(k, v)| (k.clone(), v.clone())).into_iter().collect();
        return merge(&alone).map(|merged| merged.ports).unwrap_or_default();
    }
    let ports =
        observed.into_iter().flat_map(|service| service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()));
    let text = |text: &Option<String>| text.as_deref().map(Into::into);
    let port = |port: &k8s_openapi::api::core::v1::ServicePort| {
        Some((ports::number(port)?, MergedPort { name: text(&port.name), app_protocol: text(&port.app_protocol) }))
    };
    ports.filter_map(port).collect()
}

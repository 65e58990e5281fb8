//! ● Mirrors: each service of a linked cluster under a name of its own, `<service>-<cluster>`, which leads there and nowhere else. Opt-in
//! by link.

use super::{
    ObjectKey, Problem, ServicePlan,
    derivation::{self, mirror_name},
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
    exchange::summary::{Port, bounds::is_label},
    registry::DesiredImport,
};
use isthmus_control_api::{Affinity, ClusterName, ServicePort};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
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
    let name = mirror_name(here.key, cluster.as_str());
    if !is_label(&name) {
        plan.problems.push(Problem::Unheeded { what: format!("a mirror: {name} is longer than 63 bytes") });
        return;
    }
    let key = ObjectKey::new(&here.key.namespace, &name);
    let taken = |by| Problem::Taken { key: key.clone(), by };
    let observed = derivation::observed(here.cx.world, &key, here.key);
    let observed = match observed.and_then(|found| ports.name_mirror(&key, here.key).map_err(taken).map(|()| found)) {
        Ok(observed) => observed,
        Err(problem) => {
            plan.problems.push(problem);
            return;
        }
    };
    let named = named(here, cluster, observed);
    let wanting = Wanting { service: &key, payers: vec![cluster], is_there: observed.is_some() };
    let given = give(plan, here, &wanting, named.keys().map(|port| (*port, vec![cluster])), ports);
    let service = gateway_service(here, &key, &named, &given, observed, &[]);
    plan.services.extend(service.map(|mut service| {
        service.labels_mut().insert(SOURCE_CLUSTER.into(), cluster.to_string());
        service
    }));
    let Some(observed) = observed else { return };
    let serving = here.served(cluster, &key, &named, &given);
    let serving = Serving { cluster, role: Role::Mirror, service: &key, observed, named: &named, ports: serving };
    plan.slices.extend(slices::of_gateways(here, &serving));
    listen(plan, &key, &given, ports, |port| DesiredImport {
        service: ServicePort { service: here.name.clone(), port: port.number, protocol: port.protocol },
        affinity: Affinity::None,
        weights: Some(only(cluster)),
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

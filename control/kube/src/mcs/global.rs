//! ● Global services: other clusters serve under a Service's own name here, beside its own pods. Opt-in by an annotation of the Service.

use super::{
    ObjectKey, Problem, ServicePlan,
    endpoints::{self, Ready},
    here::Here,
    ports,
    slices::{self, Role, Serving},
};
use isthmus_control::exchange::summary::Port;
use isthmus_control_api::Affinity;
use k8s_openapi::api::core::v1::Service;
use std::{collections::BTreeMap, net::IpAddr};

/// On a Service: it is exported, and the clusters that export it serve it here, too.
pub const GLOBAL: &str = "isthmus.io/global";

/// The slices that lead from the local Service to the gateways, if it is global and the others are to serve. `ready` are its own
/// endpoints, `given` the gateway's ports of the service.
pub(super) fn fill(
    plan: &mut ServicePlan,
    here: &Here<'_>,
    ready: Option<&BTreeMap<IpAddr, Ready<'_>>>,
    given: &BTreeMap<Port, u16>,
) {
    let Some(by) = here.cx.asked.get(here.key).and_then(|asked| asked.global) else { return };
    let Some(local) = here.cx.world.services.get(here.key) else { return };
    let has_own = match ready {
        Some(ready) => !ready.is_empty(),
        // It is not exported.
        None => !endpoints::ready(here.cx.world, here.key, local).is_empty(),
    };
    let affinity = here.preference.affinity;
    let has_selector = local.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|of| !of.is_empty());
    if has_selector && (affinity == Affinity::Remote || here.preference.weights.is_some()) {
        let what = format!("{by}: clients of a Service with a selector reach its own pods, too, whatever is preferred");
        plan.problems.push(Problem::Unheeded { what });
    }
    if affinity == Affinity::Local && has_own {
        return;
    }
    let key = ObjectKey::of(&**local);
    let own = own_ports(local);
    for cluster in here.constituents.keys().filter(|cluster| **cluster != here.cx.settings.cluster) {
        let named = &here.merged.ports;
        let mut ports = here.served(cluster, &here.derived, named, given);
        ports.retain(|port, _| own.contains(port));
        let serving = Serving { cluster, role: Role::Global, service: &key, observed: local, named, ports };
        plan.slices.extend(slices::of_gateways(here, &serving));
    }
}

fn own_ports(service: &Service) -> Vec<Port> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.filter_map(ports::number).collect()
}

//! ● The plan of one service.

use super::{
    GLOBAL, Grouped as _, Kind, ObjectKey, Problem, ServicePlan, Unwanted, World, derived,
    export::{self, Exported},
    export_status, global, headless,
    here::{Context, Here, here},
    import,
    marks::{self, is_ours},
    mirror,
    ports::{Ports, targets},
    preference::{self, Preference},
    slices::{self, Serving},
};
use crate::api::mcs::ServiceExport;
use isthmus_control::{exchange::summary::Port, registry::DesiredImport};
use isthmus_control_api::ServicePort;
use k8s_openapi::api::core::v1::Service;
use std::{collections::BTreeMap, sync::Arc};

/// What is to be for the service of that name.
pub(super) fn plan(cx: &Context<'_>, key: &ObjectKey, ports: &mut Ports) -> ServicePlan {
    let mut plan = ServicePlan::default();
    let export = cx.world.exports.get(key).map(|export| &**export);
    let is_exported = export.is_some() || cx.world.services.get(key).is_some_and(is_marked);
    let exported = is_exported.then(|| export::exported(cx.world, key, export));
    let own = exported.as_ref().and_then(|exported| exported.as_ref().ok());
    if let Some(own) = own {
        plan.exports = own.table.clone();
        plan.summary = Some(own.summary.clone());
        plan.problems.extend(own.problems.iter().cloned());
        plan.problems.extend(lacking(cx, key).into_iter().chain(untold(cx, key)));
    }
    let (preference, problems) = preference(cx, key, export);
    let here = key.service().and_then(|name| here(cx, key, name, own, preference));
    if let Some(here) = &here {
        plan.problems.extend(problems);
        fill(&mut plan, here, own, ports);
    }
    if let (None, Some(Err(invalid))) = (export, &exported) {
        plan.problems.push(Problem::Unheeded { what: format!("{}: {}", marks::EXPORT, invalid.message) });
    }
    if let (Some(export), Some(exported)) = (export, &exported) {
        plan.export_status = Some(export_status::status(cx, export, exported.as_ref(), here.as_ref(), &plan.problems));
    }
    plan.unwanted = unwanted(cx.world, key, &plan);
    plan
}

/// Import, derived Services, slices, and what the gateway listens for.
fn fill(plan: &mut ServicePlan, here: &Here<'_>, own: Option<&Exported<'_>>, ports: &mut Ports) {
    let Here { cx, key, .. } = here;
    if !cx.world.namespaces.contains(&key.namespace) {
        plan.problems.push(Problem::NoNamespaceHere);
        return;
    }
    if here.import.is_some_and(|import| !is_ours(import)) {
        plan.problems.push(Problem::NotOurs { kind: Kind::Import, key: (*key).clone() });
        return;
    }
    let given = if here.merged.from.headless {
        headless::fill(plan, here, own, ports)
    } else {
        let given = fill_virtual(plan, here, ports);
        global::fill(plan, here, own.map(|own| &own.ready), &given);
        given
    };
    mirror::fill(plan, here, ports);
    let import = import::wanted(here);
    plan.import_status = Some(import::status(here, &import, &given, plan));
    plan.import = Some(import);
}

/// A service with a virtual address: one Service, whose endpoints are the gateways. Says which of its ports have one of the gateway's.
fn fill_virtual(plan: &mut ServicePlan, here: &Here<'_>, ports: &mut Ports) -> BTreeMap<Port, u16> {
    let given = give(plan, here, &here.derived, here.merged.ports.keys(), ports);
    let taken = here.cx.world.services.get(&here.derived);
    if let Some(other) = taken.filter(|other| !is_ours(&***other)) {
        plan.problems.push(Problem::NotOurs { kind: Kind::Service, key: ObjectKey::of(&**other) });
        return given;
    }
    let is_other = taken.is_some() && here.observed.is_none();
    // One of the other type goes first: a Service's type of address cannot be changed.
    let service = (!is_other).then(|| derived::virtual_service(here, &given)).flatten();
    plan.services.extend(service);
    let Some(observed) = here.observed else { return given };
    for cluster in here.constituents.keys() {
        let named = &here.merged.ports;
        let ports = here.served(cluster, &here.derived, named, &given);
        let serving = Serving { cluster, service: &here.derived, observed, named, ports };
        plan.slices.extend(slices::of_gateways(here, &serving));
    }
    listen(plan, observed, &given, |port| DesiredImport {
        service: ServicePort { service: here.name.clone(), port: port.number, protocol: port.protocol },
        affinity: here.preference.affinity,
        weights: here.preference.weights.clone(),
        sticky: here.merged.from.affinity.is_some(),
        member: None,
    });
    given
}

/// Gateway ports for ports of a derived Service.
pub(super) fn give<'p>(
    plan: &mut ServicePlan,
    here: &Here<'_>,
    service: &ObjectKey,
    wanted: impl Iterator<Item = &'p Port>,
    ports: &mut Ports,
) -> BTreeMap<Port, u16> {
    let mut given = BTreeMap::new();
    for &port in wanted {
        match ports.give(service, port) {
            Some(target) => drop(given.insert(port, target)),
            None => plan.problems.push(Problem::NoPort {
                port: ServicePort { service: here.name.clone(), port: port.number, protocol: port.protocol },
            }),
        }
    }
    given
}

/// What the gateway listens for: on ports that the API server shows, as no other replica of control can have given them out otherwise.
pub(super) fn listen(
    plan: &mut ServicePlan,
    observed: &Service,
    given: &BTreeMap<Port, u16>,
    import: impl Fn(Port) -> DesiredImport,
) {
    let shown = targets(observed).filter(|(port, target)| given.get(port) == Some(target));
    plan.imports.extend(shown.map(|(port, target)| (target, import(port))));
}

/// What clients are to prefer: the export's word, then the Service's, then the import's.
fn preference(cx: &Context<'_>, key: &ObjectKey, export: Option<&ServiceExport>) -> (Preference, Vec<Problem>) {
    let own = &cx.settings.cluster;
    let of_service = || cx.world.services.get(key).and_then(|service| preference::of(&**service, own));
    let of_import = || cx.world.imports.get(key).and_then(|import| preference::of(&**import, own));
    let said = export.and_then(|export| preference::of(export, own)).or_else(of_service).or_else(of_import);
    said.unwrap_or_default()
}

/// Whether a Service is exported by its own word.
pub(super) fn is_marked(service: &Arc<Service>) -> bool {
    marks::is_marked(&**service, marks::EXPORT) || marks::is_marked(&**service, GLOBAL)
}

/// The clusters that have not the namespace of a service that is exported here.
fn lacking(cx: &Context<'_>, key: &ObjectKey) -> Option<Problem> {
    let lacking = cx.peers.iter().filter(|(_, peer)| peer.exports.lacking.contains(&key.namespace));
    let clusters: Vec<_> = lacking.map(|(cluster, _)| cluster.to_string()).collect();
    (!clusters.is_empty()).then_some(Problem::NoNamespaceThere { clusters })
}

/// The clusters that cannot be told of a service that is exported here.
fn untold(cx: &Context<'_>, key: &ObjectKey) -> Option<Problem> {
    let name = key.service()?;
    let untold = cx.peers.iter().filter(|(_, peer)| peer.untold.contains(&name));
    let clusters: Vec<_> = untold.map(|(cluster, _)| cluster.to_string()).collect();
    (!clusters.is_empty()).then_some(Problem::NoRoom { clusters })
}

/// Objects of ours that belong to the service and are not in its plan.
fn unwanted(world: &World, key: &ObjectKey, plan: &ServicePlan) -> Vec<Unwanted> {
    let unwanted = |kind, (key, uid)| Unwanted { kind, key, uid };
    let import = world.imports.get(key).filter(|import| plan.import.is_none() && is_ours(&***import));
    let services = world.services.of_service(key).filter(|(key, service)| {
        is_ours(&***service) && !plan.services.iter().any(|of| of.metadata.name.as_deref() == Some(&*key.name))
    });
    let slices = world.slices.of_service(key).filter(|(name, slice)| {
        let is_wanted = || plan.slices.iter().any(|of| of.metadata.name.as_deref() == Some(&*name.name));
        is_ours(&***slice) && slice.origin().as_ref() == Some(key) && !is_wanted()
    });
    let imports = import.into_iter().map(|import| unwanted(Kind::Import, marks::identity(&**import)));
    let services = services.map(|(_, service)| unwanted(Kind::Service, marks::identity(&**service)));
    let slices = slices.map(|(_, slice)| unwanted(Kind::Slice, marks::identity(&**slice)));
    slices.chain(services).chain(imports).collect()
}

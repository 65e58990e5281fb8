//! ● The plan of one service.

use super::{
    Grouped as _, Kind, ObjectKey, Problem, ServicePlan, Unwanted, World,
    asked::unheeded,
    derivation, derived,
    export::{self, Exported},
    export_status, global, headless,
    here::{Context, Here, here},
    import,
    marks::{self, is_ours},
    mirror, policy,
    ports::{Ports, Refused},
    preference::{self, Preference},
    records, skupper,
    slices::{self, Role, Serving},
};
use crate::{
    api::mcs::ServiceExport,
    compat::{gke, submariner},
    optional::OptionalKind,
};
use isthmus_control::{System, exchange::summary::Port, registry::DesiredImport};
use isthmus_control_api::{ClusterName, ServicePort};
use std::{collections::BTreeMap, sync::Arc};

/// What is to be for the service of that name.
pub(super) fn plan(cx: &Context<'_>, key: &ObjectKey, ports: &mut Ports) -> ServicePlan {
    if skupper::is_routing_key(key, cx.settings) {
        return skupper::plan(cx, key);
    }
    let mut plan = ServicePlan { problems: cx.skupper.problems(key).collect(), ..ServicePlan::default() };
    let asked = cx.asked.get(key);
    plan.problems.extend(asked.into_iter().flat_map(|asked| asked.problems.iter().cloned()));
    let export = cx.world.exports.get(key).map(|export| &**export);
    let foreign = foreign_export(cx, key);
    let by = asked.and_then(|asked| asked.export).or_else(|| foreign.as_ref().map(|_| OptionalKind::GkeExport.kind()));
    let is_exported = export.is_some() || by.is_some();
    let exported = is_exported.then(|| export::exported(cx.world, key, export.or(foreign.as_ref()), asked));
    let own = exported.as_ref().and_then(|exported| exported.as_ref().ok());
    if let Some(own) = own {
        plan.exports = own.table.iter().map(|(port, export)| (port.clone(), Arc::new(export.clone()))).collect();
        plan.summary = Some(own.summary.clone());
        plan.problems.extend(own.problems.iter().cloned());
        plan.problems.extend(lacking(cx, key).into_iter().chain(untold(cx, key)));
    }
    let said = policy::said(cx, key, export);
    plan.problems.extend(said.problems.iter().cloned());
    let (preference, problems) = preference(cx, key, export);
    let mut here = key.service().and_then(|name| here(cx, key, name, own, preference));
    if let Some(here) = &mut here {
        plan.problems.extend(problems);
        plan.problems.extend(preference::by_rule(here));
    }
    if let Some(here) = &here {
        fill(&mut plan, here, own, ports);
    }
    if let (None, Some(by), Some(Err(invalid))) = (export, by, &exported) {
        plan.problems.push(Problem::Unheeded { what: format!("{by}: {}", invalid.message) });
    }
    if let (Some(export), Some(exported)) = (export, &exported) {
        plan.problems.extend(noted(cx, export));
        plan.export_status = Some(export_status::status(cx, export, exported.as_ref(), here.as_ref(), &plan.problems));
    }
    skupper::fill(&mut plan, cx, key, ports);
    plan.exports.values_mut().for_each(|export| Arc::make_mut(export).policy = said.policy.clone());
    plan.imports.values_mut().for_each(|import| Arc::make_mut(import).policy = said.policy.clone());
    plan.policy_status = said.status;
    if plan.summary.is_some() {
        let (record, problems) = records::record(cx, key, export);
        plan.record = record;
        plan.problems.extend(problems);
    }
    plan.unwanted = unwanted(cx.world, key, &plan);
    plan
}

/// The ServiceExport of another system, if it is asked for.
fn foreign_export(cx: &Context<'_>, key: &ObjectKey) -> Option<ServiceExport> {
    cx.world.optional_object(OptionalKind::GkeExport, key).map(|object| gke::export(object))
}

/// What another system's users say on a ServiceExport, and is not so.
fn noted(cx: &Context<'_>, export: &ServiceExport) -> Option<Problem> {
    let is_asked = cx.settings.compat.contains(&System::Submariner);
    is_asked.then(|| submariner::notes(&export.metadata)).flatten().map(unheeded)
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
    leave_others(plan, here);
    let import = import::wanted(here);
    plan.import_status = Some(import::status(here, &import, &given, plan));
    plan.import = Some(import);
}

/// Leaves out the slices whose names somebody else's have.
fn leave_others(plan: &mut ServicePlan, here: &Here<'_>) {
    let slices = &here.cx.world.slices;
    let problems = &mut plan.problems;
    plan.slices.retain(|slice| {
        let is_free = slices.get(slice.key()).is_none_or(|found| is_ours(&**found));
        if !is_free {
            problems.push(Problem::NotOurs { kind: Kind::Slice, key: slice.key().clone() });
        }
        is_free
    });
}

/// A service with a virtual address: one Service, whose endpoints are the gateways. Says which of its ports have one of the gateway's.
fn fill_virtual(plan: &mut ServicePlan, here: &Here<'_>, ports: &mut Ports) -> BTreeMap<Port, u16> {
    let taken = match derivation::observed(here.cx.world, &here.derived, here.key) {
        Ok(taken) => taken,
        Err(problem) => {
            plan.problems.push(problem);
            return BTreeMap::new();
        }
    };
    let wanted = here.merged.ports.keys().map(|port| (*port, here.payers(Some(port))));
    let wanting = Wanting { service: &here.derived, payers: here.payers(None), is_there: here.observed.is_some() };
    let given = give(plan, here, &wanting, wanted, ports);
    let is_other = taken.is_some() && here.observed.is_none();
    // One of the other type goes first: a Service's type of address cannot be changed.
    let service = (!is_other).then(|| derived::virtual_service(here, &given)).flatten();
    plan.services.extend(service);
    let Some(observed) = here.observed else { return given };
    for cluster in here.constituents.keys() {
        let named = &here.merged.ports;
        let served = here.served(cluster, &here.derived, named, &given);
        let serving = Serving { cluster, role: Role::Import, service: &here.derived, observed, named, ports: served };
        plan.slices.extend(slices::of_gateways(here, &serving));
    }
    listen(plan, &here.derived, &given, ports, |port| DesiredImport {
        service: ServicePort { service: here.name.clone(), port: port.number, protocol: port.protocol },
        affinity: here.preference.affinity,
        weights: here.preference.weights.clone(),
        sticky: here.merged.from.affinity.is_some(),
        policy: Default::default(),
        member: None,
    });
    given
}

/// A derived Service that ports are asked for.
pub(super) struct Wanting<'a> {
    /// Its name.
    pub(super) service: &'a ObjectKey,
    /// The clusters of which one has it made.
    pub(super) payers: Vec<&'a ClusterName>,
    /// Whether the API server has it.
    pub(super) is_there: bool,
}

/// Gateway ports for ports of a derived Service, each with the clusters that export it. One that gets none stays as it is.
pub(super) fn give<'a>(
    plan: &mut ServicePlan,
    here: &Here<'_>,
    wanting: &Wanting<'_>,
    wanted: impl Iterator<Item = (Port, Vec<&'a ClusterName>)>,
    ports: &mut Ports,
) -> BTreeMap<Port, u16> {
    let Wanting { service, payers, is_there } = wanting;
    let wanted: Vec<_> = wanted.collect();
    let over = |what, more, clusters: &[&ClusterName]| Problem::OverQuota {
        what,
        more,
        clusters: clusters.iter().map(ToString::to_string).collect(),
    };
    if wanted.is_empty() {
        return BTreeMap::new();
    }
    if ports.address(service, payers, *is_there).is_err() {
        plan.problems.push(over(format!("address for Service {service}"), 0, payers));
        return BTreeMap::new();
    }
    let (mut given, mut none, mut dear) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (port, payers) in wanted {
        let of = ServicePort { service: here.name.clone(), port: port.number, protocol: port.protocol };
        match ports.give(service, port, &payers) {
            Ok(target) => drop(given.insert(port, target)),
            Err(Refused::Range) => none.push(of),
            Err(Refused::Quota) => dear.push((of, payers)),
        }
    }
    let no_port = none.first().map(|port| Problem::NoPort { port: port.clone(), more: none.len() - 1 });
    let over = dear.first().map(|(port, payers)| over(format!("gateway port for {port}"), dear.len() - 1, payers));
    plan.problems.extend(no_port.into_iter().chain(over));
    if given.is_empty() {
        plan.waiting.insert((*service).clone());
    }
    given
}

/// What the gateway listens for: on ports that no other replica of control can have given out otherwise.
pub(super) fn listen(
    plan: &mut ServicePlan,
    service: &ObjectKey,
    given: &BTreeMap<Port, u16>,
    ports: &Ports,
    import: impl Fn(Port) -> DesiredImport,
) {
    let settled = given.iter().filter(|(port, _)| ports.is_settled(service, **port));
    plan.imports.extend(settled.map(|(port, target)| (*target, Arc::new(import(*port)))));
}

/// What clients are to prefer: the export's word, then the Service's, then the import's, then what other systems' keys say.
fn preference(cx: &Context<'_>, key: &ObjectKey, export: Option<&ServiceExport>) -> (Preference, Vec<Problem>) {
    let own = &cx.settings.cluster;
    let of_service = || cx.world.services.get(key).and_then(|service| preference::of(&**service, own));
    let of_import = || cx.world.imports.get(key).and_then(|import| preference::of(&**import, own));
    let said = export.and_then(|export| preference::of(export, own)).or_else(of_service).or_else(of_import);
    said.unwrap_or_else(|| {
        let affinity = cx.asked.get(key).and_then(|asked| asked.affinity);
        (Preference { affinity: affinity.unwrap_or_default(), is_own: affinity.is_some(), weights: None }, Vec::new())
    })
}

/// The clusters that have not the namespace of a service that is exported here.
pub(super) fn lacking(cx: &Context<'_>, key: &ObjectKey) -> Option<Problem> {
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
        let is_wanted = || plan.services.iter().any(|of| of.metadata.name.as_deref() == Some(&*key.name));
        is_ours(&***service) && !plan.waiting.contains(*key) && !is_wanted()
    });
    let slices = world.slices.of_service(key).filter(|(name, slice)| {
        let is_wanted = || plan.slices.iter().any(|of| of.key().name == name.name);
        is_ours(&***slice) && slice.origin().as_ref() == Some(key) && !is_wanted()
    });
    let imports = import.into_iter().map(|import| unwanted(Kind::Import, marks::identity(&**import)));
    let services = services.map(|(_, service)| unwanted(Kind::Service, marks::identity(&**service)));
    let slices = slices.map(|(_, slice)| unwanted(Kind::Slice, marks::identity(&**slice)));
    let record = world.optional_object(OptionalKind::DnsEndpoint, key);
    let record = record.filter(|record| plan.record.is_none() && is_ours(&***record));
    let record = record.map(|record| unwanted(Kind::Record, marks::identity(&**record)));
    slices.chain(services).chain(imports).chain(record).collect()
}

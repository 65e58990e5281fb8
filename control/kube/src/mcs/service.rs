//! ● The plan of one service.

use super::{
    Grouped as _, Kind, ObjectKey, PeerView, PeerViews, Problem, ServicePlan, Settings, Unwanted, World,
    conditions::Conditions,
    conflicts, derived,
    export::{self, Exported, Invalid},
    headless, import,
    marks::{self, is_ours},
    merge::{Constituents, Merged, merge},
    names::derived_name,
    ports::{Ports, targets},
    slices::{self, Serving},
};
use crate::api::mcs::{SOURCE_CLUSTER, ServiceExport, ServiceExportStatus, ServiceImport};
use isthmus_control::{
    exchange::summary::{Port, PortSummary, Summary},
    registry::DesiredImport,
};
use isthmus_control_api::{Affinity, ClusterName, ServiceName, ServicePort};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::Time};
use kube::{Resource, ResourceExt as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// On a ServiceExport, Service or ServiceImport: which clusters to prefer.
const AFFINITY: &str = "isthmus.io/affinity";

/// What all services' plans are made from.
pub(super) struct Context<'a> {
    pub(super) world: &'a World,
    pub(super) peers: &'a PeerViews,
    pub(super) settings: &'a Settings,
    pub(super) now: &'a Time,
}

/// A service of the clusterset as it is to be here, and what there is of it.
pub(super) struct Here<'a> {
    pub(super) cx: &'a Context<'a>,
    pub(super) key: &'a ObjectKey,
    pub(super) name: ServiceName,
    pub(super) constituents: Constituents,
    /// The clusters that serve it by what the API server has from before, as they have said nothing since our start.
    pub(super) held: BTreeSet<ClusterName>,
    pub(super) merged: Merged,
    /// The name of the Service that is derived from it.
    pub(super) derived: ObjectKey,
    /// That Service, if it is there, ours, and of the right type.
    pub(super) observed: Option<&'a Service>,
    /// The import, if it is there.
    pub(super) import: Option<&'a ServiceImport>,
    pub(super) affinity: Affinity,
}

/// What is to be for the service of that name.
pub(super) fn plan(cx: &Context<'_>, key: &ObjectKey, ports: &mut Ports) -> ServicePlan {
    let mut plan = ServicePlan::default();
    let export = cx.world.exports.get(key).map(|export| &**export);
    let exported = export.map(|export| export::exported(cx.world, key, export));
    let own = exported.as_ref().and_then(|exported| exported.as_ref().ok());
    if let Some(own) = own {
        plan.exports = own.table.clone();
        plan.summary = Some(own.summary.clone());
        plan.problems.extend(own.problems.iter().cloned());
        plan.problems.extend(lacking(cx, key));
    }
    let here = key.service().and_then(|name| here(cx, key, name, own, export));
    if let Some(here) = &here {
        fill(&mut plan, here, own, ports);
    }
    if let (Some(export), Some(exported)) = (export, &exported) {
        plan.export_status = Some(export_status(cx, export, exported.as_ref(), here.as_ref(), &plan.problems));
    }
    plan.unwanted = unwanted(cx.world, key, &plan);
    plan
}

/// The service as it is to be here; `None` if no cluster exports it.
fn here<'a>(
    cx: &'a Context<'a>,
    key: &'a ObjectKey,
    name: ServiceName,
    own: Option<&Exported<'_>>,
    export: Option<&ServiceExport>,
) -> Option<Here<'a>> {
    let import = cx.world.imports.get(key).map(|import| &**import);
    let mut constituents: Constituents =
        own.map(|own| (cx.settings.cluster.clone(), own.summary.clone())).into_iter().collect();
    for (cluster, peer) in cx.peers {
        let said = peer.exports.services.get(&name).cloned();
        constituents.extend(said.or_else(|| stated(peer, &name)).map(|summary| (cluster.clone(), summary)));
    }
    let held = held(cx, import.filter(|import| is_ours(*import)), &mut constituents);
    let merged = merge(&constituents)?;
    let derived = ObjectKey::new(&key.namespace, &derived_name(name.as_str()));
    let fits = |service: &&Service| is_ours(*service) && derived::is_headless(service) == merged.from.headless;
    let observed = cx.world.services.get(&derived).map(|service| &**service).filter(fits);
    let service = cx.world.services.get(key).map(|service| &**service);
    let affinity = affinity_of(export).or_else(|| affinity_of(service)).or_else(|| affinity_of(import));
    let affinity = affinity.unwrap_or_default();
    Some(Here { cx, key, name, constituents, held, merged, derived, observed, import, affinity })
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
        fill_virtual(plan, here, ports)
    };
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
        let ports =
            given.iter().filter(|(port, _)| here.serves(cluster, **port)).map(|(port, target)| (*port, *target));
        let serving = Serving { cluster, service: &here.derived, observed, ports: ports.collect() };
        plan.slices.extend(slices::of_gateways(here, &serving));
    }
    listen(plan, observed, &given, |port| DesiredImport {
        service: ServicePort { service: here.name.clone(), port: port.number, protocol: port.protocol },
        affinity: here.affinity,
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

impl Here<'_> {
    /// Whether a cluster serves a port now.
    pub(super) fn serves(&self, cluster: &ClusterName, port: Port) -> bool {
        let ready = || self.constituents.get(cluster).and_then(|of| of.ready(port.number, port.protocol));
        self.is_up(cluster) && ready().is_some_and(|ready| ready > 0) || self.is_held_with(cluster, port)
    }

    /// Whether a cluster can be reached now: this one always.
    pub(super) fn is_up(&self, cluster: &ClusterName) -> bool {
        *cluster == self.cx.settings.cluster || self.cx.peers.get(cluster).is_some_and(|peer| peer.up)
    }

    /// Whether a cluster that has said nothing since our start served the port before, by the slice that there is.
    fn is_held_with(&self, cluster: &ClusterName, port: Port) -> bool {
        let name = self.merged.ports.get(&port).and_then(|port| port.name.as_deref()).unwrap_or_default();
        self.is_unheard(cluster)
            && self
                .slices_of(cluster)
                .any(|slice| slice.ports.iter().flatten().any(|port| port.name.as_deref().unwrap_or_default() == name))
    }

    /// Whether a peer has said nothing since our start.
    pub(super) fn is_unheard(&self, cluster: &ClusterName) -> bool {
        self.cx.peers.get(cluster).is_some_and(|peer| !peer.synced && peer.stated.is_empty())
    }

    /// The slices of the derived Service that there are for a cluster.
    fn slices_of<'s>(
        &'s self,
        cluster: &'s ClusterName,
    ) -> impl Iterator<Item = &'s k8s_openapi::api::discovery::v1::EndpointSlice> {
        let slices = self.cx.world.slices.of_service(&self.derived).map(|(_, slice)| &**slice);
        slices.filter(move |slice| {
            is_ours(*slice) && slice.labels().get(SOURCE_CLUSTER).is_some_and(|of| of == cluster.as_str())
        })
    }
}

/// What the configuration says that a peer serves which cannot say so itself. It is never the oldest.
fn stated(peer: &PeerView, name: &ServiceName) -> Option<Arc<Summary>> {
    let ports = peer.stated.iter().filter(|port| port.service == *name);
    let port = |port: &ServicePort| {
        (Port { number: port.port, protocol: port.protocol }, PortSummary { ready: 1, ..PortSummary::default() })
    };
    let ports: BTreeMap<_, _> = ports.map(port).collect();
    (!ports.is_empty()).then(|| Arc::new(Summary { since: u64::MAX, ports, ..Summary::default() }))
}

/// Adds the clusters of which only the import tells, as they have said nothing since our start: what the import says, says each of them,
/// and is older than anything else.
fn held(cx: &Context<'_>, import: Option<&ServiceImport>, constituents: &mut Constituents) -> BTreeSet<ClusterName> {
    let clusters =
        import.and_then(|import| import.status.as_ref()).map(|status| status.clusters.as_slice()).unwrap_or_default();
    let mut held = BTreeSet::new();
    for cluster in clusters.iter().filter_map(|of| of.cluster.parse::<ClusterName>().ok()) {
        let unheard = cx.peers.get(&cluster).is_some_and(|peer| !peer.synced && peer.stated.is_empty());
        if let Some(import) = import.filter(|_| unheard && !constituents.contains_key(&cluster)) {
            constituents.insert(cluster.clone(), Arc::new(import::as_summary(cx.world, import, &cluster)));
            held.insert(cluster);
        }
    }
    held
}

fn affinity_of<K: Resource>(object: Option<&K>) -> Option<Affinity> {
    match object?.annotations().get(AFFINITY)?.as_str() {
        "local" => Some(Affinity::Local),
        "remote" => Some(Affinity::Remote),
        "none" => Some(Affinity::None),
        _ => None,
    }
}

/// The clusters that have not the namespace of a service that is exported here.
fn lacking(cx: &Context<'_>, key: &ObjectKey) -> Option<Problem> {
    let lacking = cx.peers.iter().filter(|(_, peer)| peer.exports.lacking.contains(&key.namespace));
    let clusters: Vec<_> = lacking.map(|(cluster, _)| cluster.to_string()).collect();
    (!clusters.is_empty()).then_some(Problem::NoNamespaceThere { clusters })
}

fn export_status(
    cx: &Context<'_>,
    export: &ServiceExport,
    exported: Result<&Exported<'_>, &Invalid>,
    here: Option<&Here<'_>>,
    problems: &[Problem],
) -> ServiceExportStatus {
    let known = export.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let make = Conditions { known, generation: export.metadata.generation, now: cx.now };
    if let Err(Invalid { reason, message }) = exported {
        let valid = make.make("Valid", false, reason, message.as_str());
        let ready = make.make("Ready", false, "Failed", "an export that is not valid is not exported");
        return ServiceExportStatus { conditions: vec![valid, ready] };
    }
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let failed = problems.iter().any(|problem| matches!(problem, Problem::NotOurs { kind: Kind::Import, .. }));
    let reason = if failed { "Failed" } else { "Exported" };
    let conflicts = here.map(|here| here.merged.conflicts.as_slice()).unwrap_or_default();
    let conflict = match (here, make.known("Conflict")) {
        // Not all that it was made from is known yet.
        (Some(here), Some(known)) if !here.held.is_empty() => known.clone(),
        (Some(here), _) if !conflicts.is_empty() => {
            let message = conflicts::message(conflicts, &here.merged.oldest, here.constituents.len());
            make.make("Conflict", true, &conflicts::reasons(conflicts), message)
        }
        _ => make.make("Conflict", false, "NoConflicts", ""),
    };
    let valid = make.make("Valid", true, "Valid", "");
    ServiceExportStatus { conditions: vec![valid, make.make("Ready", !failed, reason, said.join("; ")), conflict] }
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

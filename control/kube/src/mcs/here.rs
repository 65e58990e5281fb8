//! ● A service of the clusterset, as one cluster sees it.

use super::{
    ObjectKey, PeerView, PeerViews, Settings, World,
    asked::Asked,
    derivation, derived,
    export::Exported,
    import,
    marks::is_ours,
    merge::{Constituents, Merged, MergedPort, merge},
    names::derived_name,
    preference::Preference,
    skupper::Skupper,
};
use crate::{
    api::mcs::{SOURCE_CLUSTER, ServiceImport},
    compat::istio::Rule,
};
use isthmus_control::exchange::summary::{Port, PortSummary, Summary};
use isthmus_control_api::{ClusterName, ServiceName, ServicePort};
use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What all services' plans are made from.
pub(super) struct Context<'a> {
    pub(super) world: &'a World,
    pub(super) peers: &'a PeerViews,
    pub(super) settings: &'a Settings,
    /// What Services ask for.
    pub(super) asked: &'a BTreeMap<ObjectKey, Asked>,
    /// What DestinationRules say of services.
    pub(super) rules: &'a BTreeMap<ObjectKey, Rule>,
    /// Connectors and Listeners.
    pub(super) skupper: &'a Skupper<'a>,
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
    /// That Service, if it is there, the service's, and of the right type.
    pub(super) observed: Option<&'a Service>,
    /// The import, if it is there.
    pub(super) import: Option<&'a ServiceImport>,
    pub(super) preference: Preference,
}

/// The service as it is to be here; `None` if no cluster exports it.
pub(super) fn here<'a>(
    cx: &'a Context<'a>,
    key: &'a ObjectKey,
    name: ServiceName,
    own: Option<&Exported<'_>>,
    preference: Preference,
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
    let fits = |service: &&Service| derived::is_headless(service) == merged.from.headless;
    let observed = derivation::observed(cx.world, &derived, key).ok().flatten().filter(fits);
    Some(Here { cx, key, name, constituents, held, merged, derived, observed, import, preference })
}

impl Here<'_> {
    /// The gateway's ports, of those that are `given`, behind which a cluster serves now. They are a Service's of ours, which `named`
    /// tells of.
    pub(super) fn served(
        &self,
        cluster: &ClusterName,
        service: &ObjectKey,
        named: &BTreeMap<Port, MergedPort>,
        given: &BTreeMap<Port, u16>,
    ) -> BTreeMap<Port, u16> {
        let summary = self.constituents.get(cluster).filter(|_| self.is_up(cluster));
        let ready =
            |port: &Port| summary.and_then(|of| of.ready(port.number, port.protocol)).is_some_and(|ready| ready > 0);
        let held = if self.is_awaited(cluster) { self.names_in_slices(cluster, service) } else { BTreeSet::new() };
        let is_held =
            |port| named.get(port).is_some_and(|port| held.contains(port.name.as_deref().unwrap_or_default()));
        given.iter().filter(|(port, _)| ready(port) || is_held(port)).map(|(port, target)| (*port, *target)).collect()
    }

    /// The linked clusters that what is made here for one port, or for any, is counted for: those that export it, the oldest export's
    /// first; none, if this cluster exports it, too.
    pub(super) fn payers(&self, port: Option<&Port>) -> Vec<&ClusterName> {
        let exports = |of: &Summary| port.is_none_or(|port| of.ports.contains_key(port));
        let mut exporting: Vec<_> = self.constituents.iter().filter(|(_, of)| exports(of)).collect();
        exporting.sort_by_key(|(cluster, of)| (of.since, *cluster));
        if exporting.iter().any(|(cluster, _)| **cluster == self.cx.settings.cluster) {
            return Vec::new();
        }
        exporting.into_iter().map(|(cluster, _)| cluster).collect()
    }

    /// Whether a cluster can be reached now: this one always.
    pub(super) fn is_up(&self, cluster: &ClusterName) -> bool {
        *cluster == self.cx.settings.cluster || self.cx.peers.get(cluster).is_some_and(|peer| peer.up)
    }

    /// Whether a peer has said nothing since our start, and may yet.
    pub(super) fn is_awaited(&self, cluster: &ClusterName) -> bool {
        self.cx.peers.get(cluster).is_some_and(|peer| is_unheard(peer) && !peer.late)
    }

    /// The names of the ports that there are in a cluster's slices of a Service.
    pub(super) fn names_in_slices(&self, cluster: &ClusterName, service: &ObjectKey) -> BTreeSet<&str> {
        let slices = self.cx.world.slices.of_service(service).map(|(_, slice)| &**slice);
        let of = slices.filter(|slice: &&EndpointSlice| {
            is_ours(*slice) && slice.labels().get(SOURCE_CLUSTER).is_some_and(|of| of == cluster.as_str())
        });
        of.flat_map(|slice| slice.ports.iter().flatten()).map(|port| port.name.as_deref().unwrap_or_default()).collect()
    }
}

/// Whether a peer has said nothing since our start.
pub(super) fn is_unheard(peer: &PeerView) -> bool {
    !peer.synced && peer.stated.is_empty()
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
        let unheard = cx.peers.get(&cluster).is_some_and(is_unheard);
        if let Some(import) = import.filter(|_| unheard && !constituents.contains_key(&cluster)) {
            constituents.insert(cluster.clone(), Arc::new(import::as_summary(cx.world, import, &cluster)));
            held.insert(cluster);
        }
    }
    held
}

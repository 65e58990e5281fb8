//! ● What the API server has, as last seen: the [`World`] that plans are made from, kept up by the events of watches.
//!
//! ```text
//! apply, delete ──────────▶ ┐
//! init … listed … complete ─┴─ Listing (of each kind) ──▶ World, links, properties
//! ```

mod derived;
mod listing;

use crate::{
    api::{
        about::ClusterProperty,
        link::ClusterLink,
        mcs::{ServiceExport, ServiceImport},
    },
    mcs::{self, Grouped, ObjectKey, Objects, Stated, World, is_ours},
    optional::OptionalKind,
};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{api::DynamicObject, core::PartialObjectMeta, runtime::watcher::Event};
use listing::{Changed, Listing};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Objects of a kind by their names.
type ByName<K> = BTreeMap<ObjectKey, Arc<K>>;

/// A kind that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watched {
    /// Services.
    Services,
    /// EndpointSlices.
    Slices,
    /// ServiceExports.
    Exports,
    /// ServiceImports.
    Imports,
    /// Namespaces.
    Namespaces,
    /// Nodes, of which the zone counts.
    Nodes,
    /// The pods of our gateway.
    Gateways,
    /// ClusterLinks.
    Links,
    /// ClusterProperties.
    Properties,
    /// A kind of another system.
    Optional(OptionalKind),
}

/// An event of one of the watches.
#[allow(clippy::large_enum_variant, reason = "it is boxed where it waits")]
#[derive(Debug)]
pub enum Change {
    /// Of Services.
    Services(Event<Service>),
    /// Of EndpointSlices.
    Slices(Event<EndpointSlice>),
    /// Of ServiceExports.
    Exports(Event<ServiceExport>),
    /// Of ServiceImports.
    Imports(Event<ServiceImport>),
    /// Of Namespaces.
    Namespaces(Event<PartialObjectMeta<Namespace>>),
    /// Of Nodes.
    Nodes(Event<PartialObjectMeta<Node>>),
    /// Of the pods of our gateway.
    Gateways(Event<Pod>),
    /// Of ClusterLinks.
    Links(Event<ClusterLink>),
    /// Of ClusterProperties.
    Properties(Event<ClusterProperty>),
    /// Of a kind of another system.
    Optional(OptionalKind, Event<DynamicObject>),
    /// The API server does not have that kind.
    Absent(OptionalKind),
}

/// What an event means for the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Nothing but the endpoints of a Service of this cluster has changed.
    Endpoints(ObjectKey),
    /// Nothing but what we write of one service ourselves has changed: EndpointSlices, statuses.
    Derived(ObjectKey),
    /// An object of one service has changed.
    Service(ObjectKey),
    /// Something else that plans are made from has.
    Plan,
    /// Any object may have.
    All,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Index {
    world: World,
    services: Listing<Service>,
    slices: Listing<EndpointSlice>,
    exports: Listing<ServiceExport>,
    imports: Listing<ServiceImport>,
    namespaces: Known<PartialObjectMeta<Namespace>>,
    nodes: Known<PartialObjectMeta<Node>>,
    gateways: Known<Pod>,
    links: Known<ClusterLink>,
    properties: Known<ClusterProperty>,
    /// The kinds of other systems that are watched.
    optional: BTreeMap<OptionalKind, Listing<DynamicObject>>,
    /// Those of them that the API server did not have when it was asked first: nothing is waited for.
    absent: BTreeSet<OptionalKind>,
}

/// The objects of a kind that the world has in another form, or not at all.
#[derive(Debug)]
struct Known<K> {
    objects: ByName<K>,
    listing: Listing<K>,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), listing: Listing::default() }
    }
}

impl<K: kube::Resource> Known<K> {
    fn take(&mut self, event: Event<K>) -> bool {
        self.listing.take(event, &mut self.objects).is_any()
    }
}

impl Watched {
    /// All that are always watched.
    pub const ALL: [Self; 9] = [
        Self::Services,
        Self::Slices,
        Self::Exports,
        Self::Imports,
        Self::Namespaces,
        Self::Nodes,
        Self::Gateways,
        Self::Links,
        Self::Properties,
    ];

    /// What people call them.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Slices => "endpointslices",
            Self::Exports => "serviceexports",
            Self::Imports => "serviceimports",
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::Gateways => "pods",
            Self::Links => "clusterlinks",
            Self::Properties => "clusterproperties",
            Self::Optional(kind) => kind.name(),
        }
    }

    /// The file that defines the kind, if it is none of Kubernetes' own.
    pub const fn definition(self) -> Option<&'static str> {
        match self {
            Self::Exports => Some("deploy/crds/multicluster.x-k8s.io_serviceexports.yaml"),
            Self::Imports => Some("deploy/crds/multicluster.x-k8s.io_serviceimports.yaml"),
            Self::Links => Some("deploy/crds/isthmus.io_clusterlinks.yaml"),
            Self::Properties => Some("deploy/crds/about.k8s.io_clusterproperties.yaml"),
            _ => None,
        }
    }

    /// Whether nothing can be said before a whole list of them has come. What is not needed makes something better, and no more.
    pub const fn is_needed(self) -> bool {
        !matches!(self, Self::Nodes | Self::Properties)
    }
}

impl Index {
    /// Without anything, where these kinds of other systems are watched.
    pub fn new(optional: &[OptionalKind]) -> Self {
        let optional = optional.iter().map(|kind| (*kind, Listing::default())).collect();
        Self { optional, ..Self::default() }
    }

    /// All kinds that are watched.
    pub fn watched(&self) -> impl Iterator<Item = Watched> {
        Watched::ALL.into_iter().chain(self.optional.keys().copied().map(Watched::Optional))
    }

    /// Whether the API server does not have the kind, so that it is gone without.
    pub fn is_absent(&self, watched: Watched) -> bool {
        matches!(watched, Watched::Optional(kind) if self.absent.contains(&kind))
    }

    /// What plans are made from.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The links, by name.
    pub fn links(&self) -> impl Iterator<Item = &Arc<ClusterLink>> {
        self.links.objects.values()
    }

    /// The cluster property of that name.
    pub fn property(&self, name: &str) -> Option<&Arc<ClusterProperty>> {
        self.properties.objects.get(&ObjectKey::new("", name))
    }

    /// Whether a whole list of the kind has ever come.
    pub fn is_complete(&self, watched: Watched) -> bool {
        match watched {
            Watched::Services => self.services.is_complete(),
            Watched::Slices => self.slices.is_complete(),
            Watched::Exports => self.exports.is_complete(),
            Watched::Imports => self.imports.is_complete(),
            Watched::Namespaces => self.namespaces.listing.is_complete(),
            Watched::Nodes => self.nodes.listing.is_complete(),
            Watched::Gateways => self.gateways.listing.is_complete(),
            Watched::Links => self.links.listing.is_complete(),
            Watched::Properties => self.properties.listing.is_complete(),
            Watched::Optional(kind) => self.optional.get(&kind).is_some_and(Listing::is_complete),
        }
    }

    /// Whether enough is known to plan.
    pub fn is_whole(&self) -> bool {
        let mut needed = self.watched().filter(|watched| watched.is_needed());
        needed.all(|watched| self.is_complete(watched) || self.is_absent(watched))
    }

    /// Takes what a watch says.
    pub fn take(&mut self, change: Change) -> Effect {
        let world = &mut self.world;
        match change {
            Change::Services(event) => grouped(&mut self.services, event, &mut world.services),
            Change::Slices(event) => slices(&mut self.slices, event, &mut world.slices),
            Change::Exports(event) => grouped(&mut self.exports, event, &mut world.exports),
            Change::Imports(event) => grouped(&mut self.imports, event, &mut world.imports),
            Change::Namespaces(event) => {
                let effect = derived(&mut self.namespaces, event, &mut world.namespaces, derived::namespaces);
                let marks = derived::marks(&self.namespaces.objects);
                let is_marked = world.marks != marks;
                world.marks = marks;
                if is_marked { Effect::Plan } else { effect }
            }
            Change::Nodes(event) => derived(&mut self.nodes, event, &mut world.zones, derived::zones),
            Change::Gateways(event) => derived(&mut self.gateways, event, &mut world.gateways, derived::gateways),
            Change::Links(event) => links(&mut self.links, event),
            Change::Properties(event) => plan_if(self.properties.take(event)),
            Change::Optional(kind, event) => {
                let listing = self.optional.entry(kind).or_default();
                let was_complete = listing.is_complete();
                let changed = listing.take(event, world.optional.entry(kind).or_default());
                policies(world, kind, &changed);
                if listing.is_complete() && self.absent.remove(&kind) {
                    return Effect::All;
                }
                match changed {
                    Changed::Nothing => plan_if(was_complete != listing.is_complete()),
                    // These belong to the service of their name.
                    Changed::Object(key) if matches!(kind, OptionalKind::DnsEndpoint | OptionalKind::ServicePolicy) => {
                        Effect::Service(key)
                    }
                    Changed::Object(_) => Effect::Plan,
                    Changed::All => Effect::All,
                }
            }
            Change::Absent(kind) => {
                let is_known = self.optional.get(&kind).is_some_and(Listing::is_complete);
                plan_if(!is_known && self.absent.insert(kind))
            }
        }
    }
}

/// Keeps what policies say in step with the objects.
fn policies(world: &mut World, kind: OptionalKind, changed: &Changed) {
    let Some(objects) = world.optional.get(&kind) else { return };
    match (kind, changed) {
        (_, Changed::Nothing) => {}
        (OptionalKind::AccessPolicy, _) => world.access = mcs::access(objects, &world.access),
        (OptionalKind::ServicePolicy, Changed::Object(key)) => {
            let before = world.policies.remove(key);
            let stated = objects.get(key).map(|object| Stated::read(object, before.as_ref()));
            world.policies.extend(stated.map(|stated| (key.clone(), stated)));
        }
        (OptionalKind::ServicePolicy, Changed::All) => {
            let before = std::mem::take(&mut world.policies);
            let stated = objects.iter().map(|(key, object)| (key.clone(), Stated::read(object, before.get(key))));
            world.policies = stated.collect();
        }
        _ => {}
    }
}

/// Takes an event of a kind whose objects belong to services.
fn grouped<K: Grouped>(listing: &mut Listing<K>, event: Event<K>, objects: &mut Objects<K>) -> Effect {
    let before = match &event {
        Event::Apply(object) | Event::Delete(object) => objects.get(&ObjectKey::of(object)).cloned(),
        _ => None,
    };
    match listing.take(event, objects) {
        Changed::Nothing => Effect::None,
        Changed::All => Effect::All,
        Changed::Object(key) => {
            let after = objects.get(&key);
            let [was, is] = [before.as_ref(), after].map(|object| object.map(|object| service(&**object)));
            match (was, is) {
                (Some(was), Some(is)) if was != is => Effect::All,
                (was, is) => {
                    let of = is.or(was).unwrap_or(key);
                    let is_derived = before.zip(after).is_some_and(|(was, is)| K::differs_in_status_alone(&was, is));
                    if is_derived { Effect::Derived(of) } else { Effect::Service(of) }
                }
            }
        }
    }
}

/// The same of EndpointSlices, which matter to one service alone: to their Service's export, or to the one that we made them for.
fn slices(
    listing: &mut Listing<EndpointSlice>,
    event: Event<EndpointSlice>,
    objects: &mut Objects<EndpointSlice>,
) -> Effect {
    let is_derived = match &event {
        Event::Apply(slice) | Event::Delete(slice) => slice.origin().is_some() || is_ours(slice),
        _ => true,
    };
    match grouped(listing, event, objects) {
        Effect::Service(key) if is_derived => Effect::Derived(key),
        Effect::Service(key) => Effect::Endpoints(key),
        effect => effect,
    }
}

/// The service that an object belongs to: that of the clusterset, the Service whose slice it is, or itself.
fn service<K: Grouped>(object: &K) -> ObjectKey {
    object.origin().or_else(|| object.group()).unwrap_or_else(|| ObjectKey::of(object))
}

/// Takes an event of ClusterLinks. Their statuses are what we say of them ourselves, of a hundred links all the time: nothing is planned by
/// those.
fn links(known: &mut Known<ClusterLink>, event: Event<ClusterLink>) -> Effect {
    let before = match &event {
        Event::Apply(link) => known.objects.get(&ObjectKey::of(link)).cloned(),
        _ => None,
    };
    let changed = known.take(event);
    let after = before.as_ref().and_then(|before| known.objects.get(&ObjectKey::of(&**before)));
    plan_if(changed && !before.as_ref().zip(after).is_some_and(|(was, is)| mcs::is_same_link(was, is)))
}

/// Takes an event of a kind of which the world has what `derive` makes of all its objects.
fn derived<K: kube::Resource, T: PartialEq>(
    known: &mut Known<K>,
    event: Event<K>,
    into: &mut T,
    derive: fn(&ByName<K>) -> T,
) -> Effect {
    let was_complete = known.listing.is_complete();
    if !known.take(event) {
        return Effect::None;
    }
    let now = derive(&known.objects);
    // The first list is news even where nothing is in it.
    let changed = *into != now || was_complete != known.listing.is_complete();
    *into = now;
    plan_if(changed)
}

fn plan_if(changed: bool) -> Effect {
    if changed { Effect::Plan } else { Effect::None }
}

#[cfg(test)]
mod tests;

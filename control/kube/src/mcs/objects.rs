//! ● Objects of one kind by name, and by the service that they belong to.

use crate::api::{
    link::ClusterLink,
    mcs::{SERVICE_NAME, ServiceExport, ServiceImport},
};
use isthmus_control_api::ServiceName;
use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, ResourceExt as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// On every EndpointSlice: the name of its Service.
pub(super) const SLICE_OF: &str = "kubernetes.io/service-name";

/// On EndpointSlices of ours that are not an import's own: the name of the service of the clusterset that they belong to.
pub(super) const ORIGIN: &str = "isthmus.io/service-name";

/// A namespaced object's name, as the API server has it: wider than a [`ServiceName`], which is two DNS labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its own name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// `namespace` and `name`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    /// As a service's name, if it can be one.
    pub fn service(&self) -> Option<ServiceName> {
        self.to_string().parse().ok()
    }
}

impl From<&ServiceName> for ObjectKey {
    fn from(service: &ServiceName) -> Self {
        Self::new(service.namespace(), service.name())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A kind of which several objects can belong to one service.
pub trait Grouped: Resource<DynamicType = ()> {
    /// The service that this object belongs to, other than by its own name.
    fn group(&self) -> Option<ObjectKey>;

    /// The service of the clusterset that it belongs to, where that is another.
    fn origin(&self) -> Option<ObjectKey> {
        None
    }

    /// Whether two states of an object differ in nothing but its status, and in what the API server notes of every change.
    fn differs_in_status_alone(_: &Self, _: &Self) -> bool {
        false
    }
}

/// Those that are derived from a service of the clusterset.
impl Grouped for Service {
    fn group(&self) -> Option<ObjectKey> {
        by_label(self, SERVICE_NAME)
    }
}

/// Those of a Service, whoever wrote them.
impl Grouped for EndpointSlice {
    fn group(&self) -> Option<ObjectKey> {
        by_label(self, SLICE_OF)
    }

    fn origin(&self) -> Option<ObjectKey> {
        by_label(self, SERVICE_NAME).or_else(|| by_label(self, ORIGIN))
    }
}

impl Grouped for ServiceExport {
    fn group(&self) -> Option<ObjectKey> {
        None
    }

    fn differs_in_status_alone(one: &Self, other: &Self) -> bool {
        one.spec == other.spec && is_same_but_for_changes(&one.metadata, &other.metadata)
    }
}

impl Grouped for ServiceImport {
    fn group(&self) -> Option<ObjectKey> {
        None
    }

    fn differs_in_status_alone(one: &Self, other: &Self) -> bool {
        one.spec == other.spec && is_same_but_for_changes(&one.metadata, &other.metadata)
    }
}

/// Whether two states of a link differ in nothing but its status, and in what the API server notes of every change.
pub(crate) fn is_same_link(one: &ClusterLink, other: &ClusterLink) -> bool {
    one.spec == other.spec && is_same_but_for_changes(&one.metadata, &other.metadata)
}

/// Whether they are the same but for what every change of the object changes.
fn is_same_but_for_changes(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    let lasting = |meta: &ObjectMeta| ObjectMeta { resource_version: None, managed_fields: None, ..meta.clone() };
    lasting(one) == lasting(other)
}

fn by_label<K: Resource>(object: &K, label: &str) -> Option<ObjectKey> {
    let name = object.labels().get(label)?;
    Some(ObjectKey::new(object.meta().namespace.as_deref()?, name))
}

/// All objects of one kind that are known.
#[derive(Debug)]
pub struct Objects<K> {
    all: BTreeMap<ObjectKey, Arc<K>>,
    groups: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
}

impl<K> Clone for Objects<K> {
    fn clone(&self) -> Self {
        Self { all: self.all.clone(), groups: self.groups.clone() }
    }
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), groups: BTreeMap::new() }
    }
}

impl<K: Grouped> Objects<K> {
    /// Takes an object in place of an older one of the same name, which is returned.
    pub fn insert(&mut self, object: Arc<K>) -> Option<Arc<K>> {
        let key = ObjectKey::of(&*object);
        let old = self.remove(&key);
        for group in object.group().into_iter().chain(object.origin()) {
            self.groups.entry(group).or_default().insert(key.clone());
        }
        self.all.insert(key, object);
        old
    }

    /// Forgets an object.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let old = self.all.remove(key)?;
        for group in old.group().into_iter().chain(old.origin()) {
            let Some(members) = self.groups.get_mut(&group) else { continue };
            members.remove(key);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
        Some(old)
    }

    /// The objects that belong to `service`, by name.
    pub fn of_service(&self, service: &ObjectKey) -> impl Iterator<Item = (&ObjectKey, &Arc<K>)> {
        self.groups.get(service).into_iter().flatten().filter_map(|key| self.all.get_key_value(key))
    }
}

impl<K> Objects<K> {
    /// The object of that name.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.all.get(key)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<K>)> {
        self.all.iter()
    }

    /// The services that anything belongs to.
    pub fn groups(&self) -> impl Iterator<Item = &ObjectKey> {
        self.groups.keys()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl<K: Grouped> FromIterator<K> for Objects<K> {
    fn from_iter<I: IntoIterator<Item = K>>(objects: I) -> Self {
        let mut all = Self::default();
        for object in objects {
            all.insert(Arc::new(object));
        }
        all
    }
}

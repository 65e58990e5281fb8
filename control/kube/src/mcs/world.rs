//! ● What a plan is made from.

use super::{Access, ObjectKey, Objects, Quota, Stated};
use crate::{
    api::mcs::{ServiceExport, ServiceImport},
    compat::{Marks, Systems},
    optional::OptionalKind,
};
use isthmus_control_api::{ClusterName, ClustersetName};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::api::DynamicObject;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::RangeInclusive,
    sync::Arc,
};

/// What the API server has, as last seen.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The namespaces, but for those that are being deleted: nothing can be made in these.
    pub namespaces: BTreeSet<Arc<str>>,
    /// What namespaces say by labels and annotations, where they say anything.
    pub marks: BTreeMap<Arc<str>, Marks>,
    /// All Services, ours too.
    pub services: Objects<Service>,
    /// All EndpointSlices, ours too.
    pub slices: Objects<EndpointSlice>,
    /// All ServiceExports.
    pub exports: Objects<ServiceExport>,
    /// All ServiceImports.
    pub imports: Objects<ServiceImport>,
    /// The zone of each node that has one.
    pub zones: BTreeMap<Arc<str>, Arc<str>>,
    /// The ready pods of our gateway.
    pub gateways: Vec<GatewayPod>,
    /// What ServicePolicies say, each of the service of its name.
    pub policies: BTreeMap<ObjectKey, Stated>,
    /// What AccessPolicies say.
    pub access: Access,
    /// The objects of the kinds that need not be there.
    pub optional: BTreeMap<OptionalKind, BTreeMap<ObjectKey, Arc<DynamicObject>>>,
}

impl World {
    /// The object of that name, of a kind of another system.
    pub fn optional_object(&self, kind: OptionalKind, key: &ObjectKey) -> Option<&Arc<DynamicObject>> {
        self.optional.get(&kind)?.get(key)
    }

    /// The objects of a kind of another system.
    pub fn optional(&self, kind: OptionalKind) -> impl Iterator<Item = (&ObjectKey, &DynamicObject)> {
        self.optional.get(&kind).into_iter().flatten().map(|(key, object)| (key, &**object))
    }
}

/// A ready pod of our gateway: where every import leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayPod {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Its addresses: at most one of a family.
    pub addresses: Vec<IpAddr>,
    /// The node that it runs on.
    pub node: Option<String>,
}

/// What does not change while control runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This cluster's id.
    pub cluster: ClusterName,
    /// Its clusterset.
    pub clusterset: ClustersetName,
    /// The ports that imports can have on the gateway. None of them may be used there for anything else.
    pub ports: RangeInclusive<u16>,
    /// What each linked cluster may take up.
    pub quota: Quota,
    /// The linked clusters whose services are mirrored under names of their own.
    pub mirrored: BTreeSet<ClusterName>,
    /// The systems whose manifests are understood.
    pub compat: Systems,
    /// How names get the gateways' addresses from ExternalDNS; `None`: not at all.
    pub external_dns: Option<PublicAddresses>,
}

/// Where the gateways can be reached from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicAddresses {
    /// The Service whose load balancer leads to them.
    pub service: ObjectKey,
    /// IP addresses or DNS names that count instead, if there are any.
    pub fixed: Vec<String>,
}

//! ● What a plan is made from.

use super::{Objects, Quota};
use crate::api::mcs::{ServiceExport, ServiceImport};
use isthmus_control_api::{ClusterName, ClustersetName};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
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
}

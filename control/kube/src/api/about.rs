//! `about.k8s.io`: what a cluster says of itself (KEP-2149).

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The name of the property that holds a cluster's id.
pub const CLUSTER_ID: &str = "cluster.clusterset.k8s.io";
/// The name of the property that holds its clusterset's name.
pub const CLUSTERSET: &str = "clusterset.k8s.io";

/// A fact of a cluster: the object's name is the property's.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(group = "about.k8s.io", version = "v1beta1", kind = "ClusterProperty", plural = "clusterproperties")]
#[kube(derive = "PartialEq", schema = "disabled")]
pub struct ClusterPropertySpec {
    /// The fact: at most 128 KiB.
    pub value: String,
}

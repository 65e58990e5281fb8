//! `isthmus.io`: our own kinds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A link with another cluster: the object's name is that cluster's id, so there cannot be two to one cluster.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(group = "isthmus.io", version = "v1alpha1", kind = "ClusterLink")]
#[kube(status = "ClusterLinkStatus", derive = "PartialEq", schema = "disabled")]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterLinkSpec {
    /// Where the peer's gateways can be dialled, `host:port`; empty: the peer dials us.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// `auto`, `tls`, `quic` or `h2`; `None`: `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// The Secret, beside our gateway, with what the link is trusted by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<SecretRef>,
    /// Namespaces whose exports the peer hears of; `*` is all of them, and so is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_namespaces: Option<Vec<String>>,
    /// Namespaces whose services are taken from the peer; `*` is all of them, and so is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import_namespaces: Option<Vec<String>>,
    /// What the peer's streams may take in one gateway here: the keys of `links[].limits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Value>,
    /// Whether the peer's services are mirrored under names of their own, `<service>-<cluster>`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mirror: bool,
}

/// A Secret by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    /// Its name.
    pub name: String,
}

/// How a link fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterLinkStatus {
    /// `Established`, `TrustValid`, `TablesSynced`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Who dials: `out` or `in`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
    /// What the tunnels use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Round-trip time, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u32>,
    /// Services that the peer exports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imported: Option<u32>,
    /// Services that the peer hears of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exported: Option<u32>,
    /// When the peer was last heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync: Option<Time>,
    /// What the peer runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_version: Option<String>,
}

//! `multicluster.x-k8s.io`: the Multi-Cluster Services API (KEP-1645), as its v1beta1 has it.

use k8s_openapi::{api::core::v1::SessionAffinityConfig, apimachinery::pkg::apis::meta::v1::Condition};
use kube::CustomResource;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// On EndpointSlices, and on what we derive: the name of the service that they belong to.
pub const SERVICE_NAME: &str = "multicluster.kubernetes.io/service-name";
/// On EndpointSlices: the cluster that the endpoints stand for.
pub const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
/// On a ServiceImport: the name of the Service that was derived from it.
pub const DERIVED_SERVICE: &str = "multicluster.kubernetes.io/derived-service";

/// Asks that the Service of the same name be usable in the other clusters.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(group = "multicluster.x-k8s.io", version = "v1beta1", kind = "ServiceExport", namespaced)]
#[kube(status = "ServiceExportStatus", derive = "PartialEq", derive = "Default", schema = "disabled")]
#[serde(rename_all = "camelCase", default, remote = "Self")]
pub struct ServiceExportSpec {
    /// Labels for the imports.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exported_labels: BTreeMap<String, String>,
    /// Annotations for the imports.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exported_annotations: BTreeMap<String, String>,
}

/// How an export fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceExportStatus {
    /// One of a type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A service of the clusterset, as this cluster can use it.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "multicluster.x-k8s.io", version = "v1beta1", kind = "ServiceImport", namespaced)]
#[kube(status = "ServiceImportStatus", derive = "PartialEq", derive = "Default", schema = "disabled")]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct ServiceImportSpec {
    /// The union of what the exporting clusters have.
    #[serde(default)]
    pub ports: Vec<ImportPort>,
    /// Its virtual addresses, one of a family; none of a headless one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<String>,
    /// Whether it has a virtual address.
    #[serde(rename = "type", default)]
    pub type_: ImportType,
    /// `ClientIP` or `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<String>,
    /// For how long a client stays, where `ClientIP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// `IPv4`, `IPv6` or both, in the order of `ips`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<String>,
    /// `Cluster` or `Local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<String>,
    /// Which endpoints to prefer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<String>,
}

/// Whether an import has an address of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImportType {
    /// It has a virtual address.
    #[default]
    ClusterSetIP,
    /// Each endpoint has one.
    Headless,
}

/// A port of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportPort {
    /// Its name, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// What is spoken over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// Its number, 1 to 65535.
    pub port: i32,
}

/// What an import was made from, and how it fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceImportStatus {
    /// Whether there are EndpointSlices for it: `Present` or `Absent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_slice_objects: Option<String>,
    /// The exporting clusters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterStatus>,
    /// One of a type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An exporting cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its id.
    pub cluster: String,
}

/// An object without a spec is one whose spec says nothing: the definitions ask for none, and one that could not be read would hide all
/// others of its kind.
macro_rules! absent_is_default {
    ($($spec:ident as $name:literal),*) => {$(
        impl<'de> Deserialize<'de> for $spec {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                struct Stated(#[serde(with = $name)] $spec);
                Ok(Option::<Stated>::deserialize(from)?.map_or_else(Self::default, |Stated(spec)| spec))
            }
        }

        impl Serialize for $spec {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                // The derived one, which is no trait's.
                $spec::serialize(self, to)
            }
        }
    )*};
}
absent_is_default!(ServiceExportSpec as "ServiceExportSpec", ServiceImportSpec as "ServiceImportSpec");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_needs_no_spec() {
        let text = r#"{"apiVersion": "multicluster.x-k8s.io/v1beta1", "metadata": {"name": "api"}}"#;
        assert_eq!(serde_json::from_str::<ServiceExport>(text).unwrap().spec, ServiceExportSpec::default());
        assert_eq!(serde_json::from_str::<ServiceImport>(text).unwrap().spec, ServiceImportSpec::default());
        let stated = r#"{"spec": {"exportedLabels": {"a": "1"}}, "metadata": {}}"#;
        let export: ServiceExport = serde_json::from_str(stated).unwrap();
        assert_eq!(export.spec.exported_labels["a"], "1");
        assert_eq!(serde_json::to_value(&export).unwrap()["spec"]["exportedLabels"]["a"], "1");
    }
}

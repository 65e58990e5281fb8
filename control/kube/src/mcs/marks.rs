//! ● How our objects are told from others'.

use super::ObjectKey;
use crate::api::mcs::ServiceImport;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt as _};

/// On ServiceImports and Services of ours, and what it says.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub const MANAGER: &str = "isthmus";
/// On EndpointSlices of ours, so that Kubernetes' own controllers leave them alone.
pub const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of [`SLICE_MANAGED_BY`].
pub const SLICE_MANAGER: &str = "control.isthmus.io";

/// Whether an object carries our mark. Whoever may write it can give it the mark, and so give it to us.
pub fn is_ours<K: Resource>(object: &K) -> bool {
    let is = |label, value| object.labels().get(label).is_some_and(|found| found == value);
    is(MANAGED_BY, MANAGER) || is(SLICE_MANAGED_BY, SLICE_MANAGER)
}

/// On a Service, or on a Namespace for all its Services that do not say otherwise: it is exported without a ServiceExport.
pub const EXPORT: &str = "isthmus.io/export";

/// What makes the API server remove an object together with `import`; `None` until the import is there.
pub(super) fn owned_by(import: &ServiceImport) -> Option<OwnerReference> {
    import.controller_owner_ref(&())
}

/// The uid of an object, as the precondition of its deletion.
pub(super) fn identity<K: Resource>(object: &K) -> (ObjectKey, Option<String>) {
    (ObjectKey::of(object), object.meta().uid.clone())
}

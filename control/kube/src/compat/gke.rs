//! ● GKE's multi-cluster Services: ServiceExports of a group of its own, which say nothing but their names.

use crate::api::mcs::{ServiceExport, ServiceExportSpec};
use kube::api::DynamicObject;

/// The same as a ServiceExport of the MCS API.
pub fn export(object: &DynamicObject) -> ServiceExport {
    let mut export = ServiceExport::new("", ServiceExportSpec::default());
    export.metadata = object.metadata.clone();
    export
}

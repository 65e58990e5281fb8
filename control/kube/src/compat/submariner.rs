//! ● Submariner's service discovery: it uses ServiceExports of the MCS API themselves, with an annotation of its own.

use super::{annotation, refused};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// On a ServiceExport: whether the service has an address of the clusterset.
const CLUSTERSET_IP: &str = "lighthouse.submariner.io/use-clusterset-ip";

/// What of a ServiceExport's keys is not carried over.
pub fn notes(export: &ObjectMeta) -> Option<String> {
    let (key, said) = annotation(export, &[CLUSTERSET_IP])?;
    match said {
        "true" => None,
        "false" => Some(format!("{key}: a service that is not headless always has an address of the clusterset")),
        _ => Some(refused(key, said, "true or false")),
    }
}

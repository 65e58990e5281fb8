//! ● Linkerd's multicluster extension: mirrored and federated services, by labels of Services.

use super::{Asked, label, refused};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// `true`, or `remote-discovery` where Linkerd would have pods reached without a gateway: the other clusters have a mirror either way.
pub const EXPORTED: &str = "mirror.linkerd.io/exported";
/// `member`: part of a union of all services of the name.
pub const FEDERATED: &str = "mirror.linkerd.io/federated";

/// Reads a Service's labels.
pub(super) fn read(service: &ObjectMeta, asked: &mut Asked) {
    match label(service, EXPORTED) {
        None => {}
        Some("true" | "remote-discovery") => {
            asked.mirror = true;
            asked.export.get_or_insert(EXPORTED);
        }
        // What Linkerd's own selector does not pick.
        Some("false") => {}
        Some(said) => asked.notes.push(refused(EXPORTED, said, "true or remote-discovery")),
    }
    match label(service, FEDERATED) {
        None => {}
        Some("member") => {
            asked.federated = true;
            asked.export.get_or_insert(FEDERATED);
        }
        Some(said) => asked.notes.push(refused(FEDERATED, said, "member")),
    }
}

//! ● Cilium's Cluster Mesh: global services, by annotations of Services and Namespaces.
//!
//! As Cilium has it, `shared` and `affinity` count on a global Service only, a global one is shared unless it says otherwise, and a
//! Namespace that is not global takes its Services out.

use super::{Asked, Marks, annotation, refused};
use isthmus_control_api::Affinity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Each key and its older name, which counts where the newer one is not there.
const GLOBAL: [&str; 2] = ["service.cilium.io/global", "io.cilium/global-service"];
const SHARED: [&str; 2] = ["service.cilium.io/shared", "io.cilium/shared-service"];
const AFFINITY: [&str; 2] = ["service.cilium.io/affinity", "io.cilium/service-affinity"];
/// On a Namespace: whether its Services can be global. They can where it says nothing.
const GLOBAL_NAMESPACE: &str = "clustermesh.cilium.io/global";
/// On a Namespace: its Services are global unless they say otherwise.
const ALL_GLOBAL: &str = "io.cilium/global-service";

/// Reads a Service's keys.
pub(super) fn read(service: &ObjectMeta, namespace: &Marks, asked: &mut Asked) {
    let by_namespace = || {
        let said = namespace.annotations.get(ALL_GLOBAL).or_else(|| namespace.labels.get(ALL_GLOBAL));
        said.map(|said| (ALL_GLOBAL, said.as_str()))
    };
    let said = annotation(service, &GLOBAL).or_else(by_namespace);
    let Some((key, is_global)) = said.map(|(key, said)| (key, truth(key, said, asked))) else { return };
    if !is_global {
        return;
    }
    if let Some(said) = namespace.annotations.get(GLOBAL_NAMESPACE)
        && !truth(GLOBAL_NAMESPACE, said, asked)
    {
        asked.notes.push(format!("{key}: its Namespace is not global, by {GLOBAL_NAMESPACE}"));
        return;
    }
    asked.global = Some(key);
    if annotation(service, &SHARED).is_none_or(|(key, said)| truth(key, said, asked)) {
        asked.export = Some(key);
    }
    if let Some((key, said)) = annotation(service, &AFFINITY) {
        match said.to_lowercase().as_str() {
            "" | "none" => asked.affinity = Some(Affinity::None),
            "local" => asked.affinity = Some(Affinity::Local),
            "remote" => asked.affinity = Some(Affinity::Remote),
            _ => asked.notes.push(refused(key, said, "local, remote or none")),
        }
    }
}

/// Whether it says `true`, in whatever case; anything else is no, as it is to Cilium.
fn truth(key: &str, said: &str, asked: &mut Asked) -> bool {
    let said_low = said.to_lowercase();
    if said_low != "true" && said_low != "false" {
        asked.notes.push(refused(key, said, "true or false"));
    }
    said_low == "true"
}

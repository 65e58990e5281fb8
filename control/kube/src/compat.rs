//! ● Manifests of other systems, translated into what plans are made from: each system in a file of its own, and nothing beyond it
//! knows any system's keys.
//!
//! ```text
//! labels and annotations of a Service and its Namespace ──▶ Asked     cilium, istio, linkerd
//! annotations of a ServiceExport ─────────────────────────▶ notes     submariner
//! objects of kinds of their own ──fields──▶ Export, Rule, Listener, Connector     gke, istio, skupper
//! ```

pub mod cilium;
mod fields;
pub mod gke;
pub mod hosts;
pub mod istio;
pub mod linkerd;
pub mod skupper;
pub mod submariner;

use isthmus_control::System;
use isthmus_control_api::Affinity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

/// The systems that are asked for.
pub type Systems = BTreeSet<System>;

/// Labels and annotations of a Namespace, as far as anybody here reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What the keys of other systems ask for a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The key by which it is to be exported.
    pub export: Option<&'static str>,
    /// The key by which the other clusters are to serve under its own name here.
    pub global: Option<&'static str>,
    /// Whether other clusters are to have it under the name `<service>-<cluster>`.
    pub mirror: bool,
    /// Whether it is to be part of `<service>-federated`.
    pub federated: bool,
    /// Which endpoints clients here are to prefer.
    pub affinity: Option<Affinity>,
    /// What is not carried over, and what makes no sense.
    pub notes: Vec<String>,
}

/// What the keys of `systems` on a Service and its Namespace ask for.
pub fn asked(systems: &Systems, service: &ObjectMeta, namespace: &Marks) -> Asked {
    let mut asked = Asked::default();
    for system in systems {
        match system {
            System::Cilium => cilium::read(service, namespace, &mut asked),
            System::Istio => istio::read(service, &mut asked),
            System::Linkerd => linkerd::read(service, &mut asked),
            System::Gke | System::Skupper | System::Submariner => {}
        }
    }
    asked
}

impl Marks {
    /// Those of an object that begin as one of [`Self::READ`].
    pub fn of(meta: &ObjectMeta) -> Self {
        let read = |of: &Option<BTreeMap<String, String>>| -> BTreeMap<String, String> {
            let all = of.iter().flatten().filter(|(key, _)| Self::READ.iter().any(|read| key.starts_with(read)));
            all.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        Self { labels: read(&meta.labels), annotations: read(&meta.annotations) }
    }

    /// How the keys begin that anybody here reads.
    pub const READ: [&'static str; 3] = ["isthmus.io/", "clustermesh.cilium.io/", "io.cilium/"];
}

/// The label of that name.
fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// The annotation of the first of these names that there is, and its name.
fn annotation<'a>(meta: &'a ObjectMeta, keys: &[&'static str]) -> Option<(&'static str, &'a str)> {
    let annotations = meta.annotations.as_ref()?;
    keys.iter().find_map(|key| Some((*key, annotations.get(*key)?.as_str())))
}

/// What is said of a value that makes no sense.
pub fn refused(key: &str, found: &str, expected: &str) -> String {
    let found: String = found.chars().take(80).collect();
    format!("{key}: found {found:?}, expected {expected}")
}

#[cfg(test)]
mod tests;

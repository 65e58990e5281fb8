//! ● What is to be written for a service: where what is wanted and what is there differ.

use super::{MANAGER, STATUS_MANAGER, diff::differs};
use crate::{
    api::{
        about::ClusterProperty,
        link::ClusterLink,
        mcs::{ServiceExport, ServiceImport},
    },
    index::Watched,
    mcs::{self, ObjectKey, ServicePlan, Unwanted, Wanted, World, is_ours},
    optional::OptionalKind,
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Resource, api::ApiResource};
use serde::Serialize;
use serde_json::{Value, json};
use std::{fmt, sync::Arc};

/// What a write is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: ObjectKey,
    /// Which half of it.
    pub part: Part,
}

/// The kinds that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// ServiceImport.
    Import,
    /// Service.
    Service,
    /// EndpointSlice.
    Slice,
    /// ServiceExport: its status only.
    Export,
    /// ClusterLink: its status only.
    Link,
    /// ClusterProperty.
    Property,
    /// DNSEndpoint.
    Record,
    /// ServicePolicy: its status only.
    ServicePolicy,
    /// AccessPolicy: its status only.
    AccessPolicy,
}

/// The halves of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All but the status.
    Object,
    /// The status.
    Status,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// What it is about.
    pub target: Target,
    /// What is done.
    pub action: Action,
}

/// What a write does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Server-side apply of an object that is not there, as far as is known: it is made, or nothing is done.
    Create(Value),
    /// Server-side apply of the object with the uid that is stated in it, and of no other of its name. Fields that others have changed
    /// meanwhile are taken back.
    Apply(Value),
    /// Server-side apply of the status, of the same.
    Status(Value),
    /// Deletes the object with that uid, and no other of its name.
    Delete {
        /// The uid.
        uid: Option<String>,
    },
}

impl Kind {
    /// As the API server has it.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Import => ApiResource::erase::<ServiceImport>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::Slice => ApiResource::erase::<EndpointSlice>(&()),
            Self::Export => ApiResource::erase::<ServiceExport>(&()),
            Self::Link => ApiResource::erase::<ClusterLink>(&()),
            Self::Property => ApiResource::erase::<ClusterProperty>(&()),
            Self::Record => OptionalKind::DnsEndpoint.resource(),
            Self::ServicePolicy => OptionalKind::ServicePolicy.resource(),
            Self::AccessPolicy => OptionalKind::AccessPolicy.resource(),
        }
    }

    /// By which watch it is known what there is of it.
    pub const fn watched(self) -> Watched {
        match self {
            Self::Import => Watched::Imports,
            Self::Service => Watched::Services,
            Self::Slice => Watched::Slices,
            Self::Export => Watched::Exports,
            Self::Link => Watched::Links,
            Self::Property => Watched::Properties,
            Self::Record => Watched::Optional(OptionalKind::DnsEndpoint),
            Self::ServicePolicy => Watched::Optional(OptionalKind::ServicePolicy),
            Self::AccessPolicy => Watched::Optional(OptionalKind::AccessPolicy),
        }
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Import => "ServiceImport",
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::Export => "ServiceExport",
            Self::Link => "ClusterLink",
            Self::Property => "ClusterProperty",
            Self::Record => "DNSEndpoint",
            Self::ServicePolicy => "ServicePolicy",
            Self::AccessPolicy => "AccessPolicy",
        }
    }
}

impl From<mcs::Kind> for Kind {
    fn from(kind: mcs::Kind) -> Self {
        match kind {
            mcs::Kind::Import => Self::Import,
            mcs::Kind::Service => Self::Service,
            mcs::Kind::Slice => Self::Slice,
            mcs::Kind::Record => Self::Record,
        }
    }
}

impl Action {
    /// What it does, in a word.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Apply(_) => "apply",
            Self::Status(_) => "status",
            Self::Delete { .. } => "delete",
        }
    }
}

/// All of it: two that are the same do the same.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(body) => write!(f, "create {body}"),
            Self::Apply(body) => write!(f, "apply {body}"),
            Self::Status(body) => write!(f, "status {body}"),
            Self::Delete { uid } => write!(f, "delete {}", uid.as_deref().unwrap_or_default()),
        }
    }
}

/// As `ServiceImport shop/api`, or `ServiceExport shop/api, status`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.key.to_string();
        write!(f, "{} {}", self.kind.as_str(), name.trim_start_matches('/'))?;
        if self.part == Part::Status { f.write_str(", status") } else { Ok(()) }
    }
}

/// What is to be written for a service, so that what its plan wants is there. Deletions come last.
pub fn of_service(key: &ObjectKey, plan: &ServicePlan, world: &World) -> Vec<Write> {
    let mut writes = Vec::new();
    let import = world.imports.get(key);
    if let Some(wanted) = &plan.import {
        writes.extend(object(Kind::Import, wanted, import));
    }
    if let (Some(wanted), Some(import)) = (&plan.import_status, import.filter(|import| is_ours(&***import))) {
        writes.extend(status(Kind::Import, wanted, import));
    }
    if let (Some(wanted), Some(export)) = (&plan.export_status, world.exports.get(key)) {
        writes.extend(status(Kind::Export, wanted, export));
    }
    let policy = world.optional_object(OptionalKind::ServicePolicy, key);
    if let (Some(wanted), Some(policy)) = (&plan.policy_status, policy) {
        writes.extend(status(Kind::ServicePolicy, wanted, policy));
    }
    for wanted in &plan.services {
        let known = world.services.get(&ObjectKey::of(wanted));
        writes.extend(object_if(Kind::Service, wanted, known, |known| {
            is_ours(known) || mcs::is_of_connector(world, known)
        }));
    }
    writes.extend(plan.slices.iter().filter_map(|wanted| slice(wanted, world.slices.get(wanted.key()))));
    if let Some(wanted) = &plan.record {
        let known = world.optional_object(OptionalKind::DnsEndpoint, key);
        writes.extend(object(Kind::Record, wanted, known));
    }
    for Unwanted { kind, key, uid } in &plan.unwanted {
        let target = Target { kind: (*kind).into(), key: key.clone(), part: Part::Object };
        writes.push(Write { target, action: Action::Delete { uid: uid.clone() } });
    }
    writes
}

/// The write of a slice, if it is needed. What was found right stays so until it changes.
fn slice(wanted: &Wanted, observed: Option<&Arc<EndpointSlice>>) -> Option<Write> {
    if observed.is_some_and(|observed| wanted.is_known_right(&**observed)) {
        return None;
    }
    let write = apply(Kind::Slice, wanted.key().clone(), wanted.body()?, observed, is_ours);
    if let (None, Some(observed)) = (&write, observed) {
        wanted.found_right(&**observed);
    }
    write
}

/// The write of an object, if it is needed. What somebody else made is left alone: it may have come after the plan.
pub fn object<K>(kind: Kind, wanted: &K, observed: Option<&Arc<K>>) -> Option<Write>
where
    K: Resource + Serialize,
{
    object_if(kind, wanted, observed, is_ours)
}

/// The same, where `is_ours` says what may be written.
fn object_if<K>(kind: Kind, wanted: &K, observed: Option<&Arc<K>>, is_ours: impl Fn(&K) -> bool) -> Option<Write>
where
    K: Resource + Serialize,
{
    apply(kind, ObjectKey::of(wanted), serde_json::to_value(wanted).ok()?, observed, is_ours)
}

/// The same of an object that is wanted with the name `key` and says `wanted`.
fn apply<K>(
    kind: Kind,
    key: ObjectKey,
    wanted: Value,
    observed: Option<&Arc<K>>,
    is_ours: impl Fn(&K) -> bool,
) -> Option<Write>
where
    K: Resource + Serialize,
{
    let mut body = body(kind, wanted);
    let target = Target { kind, key, part: Part::Object };
    let Some(observed) = observed else { return Some(Write { target, action: Action::Create(body) }) };
    // What is going is made again once it has gone.
    if !is_ours(observed) || observed.meta().deletion_timestamp.is_some() {
        return None;
    }
    let mut found = serde_json::to_value(&**observed).ok()?;
    // An object of a list need not say what it is.
    for name in ["apiVersion", "kind"] {
        found[name] = body[name].clone();
    }
    if !differs(&body, &found, MANAGER, "") {
        return None;
    }
    body["metadata"]["uid"] = json!(observed.meta().uid);
    Some(Write { target, action: Action::Apply(body) })
}

/// The write of an object's status, if it is needed.
pub fn status<K>(kind: Kind, wanted: &impl Serialize, observed: &Arc<K>) -> Option<Write>
where
    K: Resource + Serialize,
{
    let key = ObjectKey::of(&**observed);
    let mut metadata = json!({"name": &*key.name});
    if !key.namespace.is_empty() {
        metadata["namespace"] = json!(&*key.namespace);
    }
    let mut body = body(kind, json!({"metadata": metadata, "status": serde_json::to_value(wanted).ok()?}));
    if !differs(&body, &serde_json::to_value(&**observed).ok()?, STATUS_MANAGER, "status") {
        return None;
    }
    body["metadata"]["uid"] = json!(observed.meta().uid);
    let target = Target { kind, key, part: Part::Status };
    Some(Write { target, action: Action::Status(body) })
}

/// With `apiVersion` and `kind`, and without what cannot be applied.
fn body(kind: Kind, mut body: Value) -> Value {
    let resource = kind.resource();
    if let Some(fields) = body.as_object_mut() {
        fields.insert("apiVersion".into(), json!(resource.api_version));
        fields.insert("kind".into(), json!(resource.kind));
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            for name in ["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp"] {
                metadata.remove(name);
            }
        }
    }
    body
}

#[cfg(test)]
mod tests;

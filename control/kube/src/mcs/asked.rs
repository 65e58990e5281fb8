//! ● What users' objects ask for services, in our own words and in those of other systems. Our own count where both say something.

use super::{GLOBAL, ObjectKey, Problem, Settings, World, marks};
use crate::{
    compat::{self, Marks, istio},
    optional::OptionalKind,
};
use isthmus_control::System;
use isthmus_control_api::Affinity;
use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeMap;

/// Said of a service among the annotations that peers are told: they are to have a mirror of it.
pub(super) const MIRROR: &str = "isthmus.io/mirror";
/// The same: it is part of `<service>-federated`.
pub(super) const FEDERATED: &str = "isthmus.io/federated";

/// What is asked for one service, other than by its ServiceExport.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The key by which it is exported.
    pub(super) export: Option<&'static str>,
    /// The key by which other clusters serve under its own name here.
    pub(super) global: Option<&'static str>,
    /// Whether peers are to have a mirror of it.
    pub(super) mirror: bool,
    /// Whether it is part of a federation.
    pub(super) federated: bool,
    /// What clients are to prefer, where nothing of ours says so.
    pub(super) affinity: Option<Affinity>,
    /// What is not carried over, and what makes no sense.
    pub(super) problems: Vec<Problem>,
}

/// What is asked for each Service that asks for anything.
pub(super) fn all(world: &World, settings: &Settings) -> BTreeMap<ObjectKey, Asked> {
    let silent = Marks::default();
    let users = world.services.iter().filter(|(_, service)| !marks::is_ours(&***service));
    let asked = users.map(|(key, service)| {
        let namespace = world.marks.get(&key.namespace).unwrap_or(&silent);
        (key.clone(), of(service, namespace, settings))
    });
    asked.filter(|(_, asked)| *asked != Asked::default()).collect()
}

/// What is asked for one Service, if it asks for anything.
pub(super) fn one(world: &World, settings: &Settings, key: &ObjectKey) -> BTreeMap<ObjectKey, Asked> {
    let service = world.services.get(key).filter(|service| !marks::is_ours(&***service));
    let asked =
        service.map(|service| of(service, world.marks.get(&key.namespace).unwrap_or(&Marks::default()), settings));
    asked.filter(|asked| *asked != Asked::default()).map(|asked| (key.clone(), asked)).into_iter().collect()
}

/// The DestinationRule of each service that has one: of several the oldest.
pub(super) fn rules(world: &World, settings: &Settings) -> BTreeMap<ObjectKey, istio::Rule> {
    let mut rules = BTreeMap::new();
    if !settings.compat.contains(&System::Istio) {
        return rules;
    }
    let mut all: Vec<_> = world.optional(OptionalKind::DestinationRule).collect();
    all.sort_by_key(|(key, object)| (object.metadata.creation_timestamp.clone().map(|time| time.0), (*key).clone()));
    for (key, object) in all {
        let Some(((namespace, name), mut rule)) = istio::rule(object) else { continue };
        rule.notes.iter_mut().for_each(|note| note.insert_str(0, &format!("DestinationRule {key}: ")));
        rules.entry(ObjectKey::new(&namespace, &name)).or_insert(rule);
    }
    rules
}

fn of(service: &Service, namespace: &Marks, settings: &Settings) -> Asked {
    let compat::Asked { export, global, mirror, federated, affinity, notes } =
        compat::asked(&settings.compat, &service.metadata, namespace);
    let mut asked = Asked { export, global, mirror, federated, affinity, problems: Vec::new() };
    asked.problems.extend(notes.into_iter().map(unheeded));
    let annotations = service.metadata.annotations.as_ref();
    let mut said =
        |key| annotations.and_then(|all| all.get(key)).and_then(|said| truth(key, said, &mut asked.problems));
    let (export, global) = (said(marks::EXPORT), said(GLOBAL));
    match global {
        Some(true) => (asked.global, asked.export) = (Some(GLOBAL), Some(GLOBAL)),
        Some(false) => asked.global = None,
        None => {}
    }
    match export {
        Some(true) => asked.export = Some(marks::EXPORT),
        Some(false) => (asked.export, asked.mirror, asked.federated) = (None, false, false),
        None => asked.export = asked.export.or_else(|| by_namespace(service, namespace, &mut asked.problems)),
    }
    asked
}

/// Whether the namespace has all its Services exported: but for those that cannot be, and the API server's own.
fn by_namespace(service: &Service, namespace: &Marks, problems: &mut Vec<Problem>) -> Option<&'static str> {
    let all = truth(marks::EXPORT, namespace.annotations.get(marks::EXPORT)?, problems)?;
    let is_external = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    let ObjectKey { namespace, name } = ObjectKey::of(service);
    let is_api_server = (&*namespace, &*name) == ("default", "kubernetes");
    (all && !is_external && !is_api_server).then_some(marks::EXPORT)
}

fn truth(key: &str, said: &str, problems: &mut Vec<Problem>) -> Option<bool> {
    match said {
        "true" => Some(true),
        "false" => Some(false),
        _ => {
            problems.push(unheeded(compat::refused(key, said, "true or false")));
            None
        }
    }
}

/// Something that is asked for, and is not so.
pub(super) fn unheeded(what: String) -> Problem {
    Problem::Unheeded { what }
}

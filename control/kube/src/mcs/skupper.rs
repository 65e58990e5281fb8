//! ● Skupper's Connectors and Listeners: routing keys are services in a namespace of no cluster, which Connectors export and Services of
//! Listeners lead to.

mod connectors;
mod listeners;

pub(crate) use connectors::is_of_connector;
pub(super) use connectors::plan;
pub(super) use listeners::fill;

use super::{ObjectKey, Problem, Settings, World, asked::unheeded, names::digest};
use crate::{
    compat::skupper::{self, Connector, Listener, NAMESPACE},
    optional::OptionalKind,
};
use isthmus_control::{System, exchange::summary::Port};
use isthmus_control_api::{Protocol, ServiceName, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{ResourceExt as _, api::DynamicObject};
use std::collections::{BTreeMap, btree_map::Entry};

/// The only port of a routing key's service.
const KEY_PORT: Port = Port { number: skupper::PORT, protocol: Protocol::Tcp };

/// The Connectors and Listeners that make sense, by the service whose plan they belong to, and what is wrong with the others.
#[derive(Debug, Default)]
pub(super) struct Skupper<'a> {
    connectors: BTreeMap<ObjectKey, Vec<(&'a DynamicObject, Connector)>>,
    listeners: BTreeMap<ObjectKey, BTreeMap<Port, (&'a DynamicObject, Listener)>>,
    problems: BTreeMap<ObjectKey, Vec<Problem>>,
}

impl<'a> Skupper<'a> {
    /// Those that the API server has, if they are asked for.
    pub(super) fn read(world: &'a World, settings: &Settings) -> Self {
        let mut all = Self::default();
        if !settings.compat.contains(&System::Skupper) {
            return all;
        }
        for (key, object) in world.optional(OptionalKind::Connector) {
            match skupper::connector(object) {
                Ok(connector) => {
                    let service = ObjectKey::new(NAMESPACE, &skupper::service_name(&connector.routing_key, digest));
                    all.note(&service, OptionalKind::Connector, key, &connector.notes);
                    all.connectors.entry(service).or_default().push((object, connector));
                }
                Err(why) => all.note(key, OptionalKind::Connector, key, &[why]),
            }
        }
        for (key, object) in world.optional(OptionalKind::Listener) {
            match skupper::listener(object) {
                Ok(listener) => {
                    let service = ObjectKey::new(&key.namespace, &listener.host);
                    all.note(&service, OptionalKind::Listener, key, &listener.notes);
                    let port = Port { number: listener.port, protocol: Protocol::Tcp };
                    let ports = all.listeners.entry(service.clone()).or_default();
                    if let Entry::Vacant(place) = ports.entry(port) {
                        place.insert((object, listener));
                    } else {
                        let why = format!("spec.port: found {}, which another Listener of the host has", port.number);
                        all.note(&service, OptionalKind::Listener, key, &[why]);
                    }
                }
                Err(why) => all.note(key, OptionalKind::Listener, key, &[why]),
            }
        }
        all
    }

    /// The services whose plans have anything of theirs.
    pub(super) fn services(&self) -> impl Iterator<Item = &ObjectKey> {
        self.connectors.keys().chain(self.listeners.keys()).chain(self.problems.keys())
    }

    /// What is wrong with those that belong to a service.
    pub(super) fn problems(&self, key: &ObjectKey) -> impl Iterator<Item = Problem> {
        self.problems.get(key).into_iter().flatten().cloned()
    }

    fn note(&mut self, service: &ObjectKey, kind: OptionalKind, object: &ObjectKey, notes: &[String]) {
        if !notes.is_empty() {
            let problems = notes.iter().map(|note| unheeded(format!("{kind} {object}: {note}")));
            self.problems.entry(service.clone()).or_default().extend(problems);
        }
    }
}

/// Whether a service is a routing key. The objects of its plan are in other namespaces.
pub(super) fn is_routing_key(key: &ObjectKey, settings: &Settings) -> bool {
    *key.namespace == *NAMESPACE && settings.compat.contains(&System::Skupper)
}

fn service_port(service: ServiceName) -> ServicePort {
    ServicePort { service, port: KEY_PORT.number, protocol: KEY_PORT.protocol }
}

/// The metadata of what goes with an object.
fn owned(key: &ObjectKey, kind: OptionalKind, object: &DynamicObject) -> ObjectMeta {
    ObjectMeta {
        namespace: Some((*key.namespace).to_owned()),
        name: Some((*key.name).to_owned()),
        owner_references: Some(vec![owner(kind, object)]),
        ..ObjectMeta::default()
    }
}

fn owner(kind: OptionalKind, object: &DynamicObject) -> OwnerReference {
    let resource = kind.resource();
    OwnerReference {
        api_version: resource.api_version,
        kind: resource.kind,
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

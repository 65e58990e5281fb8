//! ● What a plan says.

use super::{ObjectKey, Wanted};
use crate::api::{
    mcs::{ServiceExportStatus, ServiceImport, ServiceImportStatus},
    policy::PolicyStatus,
};
use isthmus_control::{exchange::summary::Summary, registry::DesiredImport, shared};
use isthmus_control_api::{Export, ServicePort};
use k8s_openapi::api::core::v1::Service;
use kube::api::DynamicObject;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// What is to be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// For each service that anything is to be done for or was done for.
    pub services: BTreeMap<ObjectKey, ServicePlan>,
}

/// What is to be for one service. Objects are whole, as they are to be applied: without what the API server fills in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServicePlan {
    /// Its import, without its status.
    pub import: Option<ServiceImport>,
    /// The status of its import.
    pub import_status: Option<ServiceImportStatus>,
    /// The status of its export, if it has one here.
    pub export_status: Option<ServiceExportStatus>,
    /// The status of its ServicePolicy, if it has one.
    pub policy_status: Option<PolicyStatus>,
    /// The Services derived from it.
    pub services: Vec<Service>,
    /// Their EndpointSlices.
    pub slices: Vec<Wanted>,
    /// Services that are to be there and cannot be written now, as they lack a port of the gateway: what is there of them stays.
    pub waiting: BTreeSet<ObjectKey>,
    /// What ExternalDNS is told of it.
    pub record: Option<DynamicObject>,
    /// Objects of ours that are to go.
    pub unwanted: Vec<Unwanted>,
    /// What the gateway serves of it to peers and to its own imports.
    pub exports: BTreeMap<ServicePort, Arc<Export>>,
    /// What the gateway listens for, by port.
    pub imports: BTreeMap<u16, Arc<DesiredImport>>,
    /// What peers are told of it.
    pub summary: Option<Arc<Summary>>,
    /// What could not be done.
    pub problems: Vec<Problem>,
}

impl ServicePlan {
    /// Takes over from `before` what gateways and peers are told, and the slices, where they are the same: whoever compares has to look at
    /// those only that are not one and the same, and what is the same is there once.
    pub fn share(&mut self, before: &Self) {
        fn take_over<K: Ord, T: Eq>(now: &mut BTreeMap<K, Arc<T>>, before: &BTreeMap<K, Arc<T>>) {
            now.iter_mut().for_each(|(key, value)| *value = shared(before.get(key), value));
        }
        take_over(&mut self.exports, &before.exports);
        take_over(&mut self.imports, &before.imports);
        self.summary = self.summary.as_ref().map(|summary| shared(before.summary.as_ref(), summary));
        let known: BTreeMap<_, _> = before.slices.iter().map(|slice| (slice.key(), slice)).collect();
        for slice in &mut self.slices {
            if let Some(known) = known.get(slice.key()).filter(|known| **known == slice) {
                slice.clone_from(known);
            }
        }
        self.slices.shrink_to_fit();
    }

    /// What the clusters that export it disagree on, in a sentence each.
    pub fn conflict(&self) -> Option<&str> {
        let conditions = &self.export_status.as_ref()?.conditions;
        let conflict = conditions.iter().find(|condition| condition.type_ == "Conflict" && condition.status == "True");
        conflict.map(|conflict| conflict.message.as_str())
    }
}

/// An object of ours that is to go, as it was seen: only that very one is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwanted {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: ObjectKey,
    /// Its uid, as the deletion's precondition.
    pub uid: Option<String>,
}

/// The kinds that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// ServiceImport.
    Import,
    /// Service.
    Service,
    /// EndpointSlice.
    Slice,
    /// DNSEndpoint.
    Record,
}

/// What could not be done for a service, for its status and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The range of gateway ports is used up.
    NoPort {
        /// The first port of the service, or of one of its endpoints, that has none.
        port: ServicePort,
        /// How many more have none.
        more: usize,
    },
    /// The clusters that export it have taken up as much as they may.
    OverQuota {
        /// What it lacks: the first of them.
        what: String,
        /// How many more it lacks.
        more: usize,
        /// The clusters' ids.
        clusters: Vec<String>,
    },
    /// Ports of SCTP: no gateway carries them.
    NotCarried {
        /// The ports' numbers.
        ports: Vec<u16>,
    },
    /// Linked clusters export it, and this cluster has not its namespace.
    NoNamespaceHere,
    /// These linked clusters cannot import what is exported here: they have not its namespace.
    NoNamespaceThere {
        /// The clusters' ids.
        clusters: Vec<String>,
    },
    /// These linked clusters are told of so many services already that there is no room for this one.
    NoRoom {
        /// The clusters' ids.
        clusters: Vec<String>,
    },
    /// Something of the export is more than peers can be told; it was left out.
    Cut {
        /// What.
        what: String,
    },
    /// What an annotation or a link asks for, and is not so.
    Unheeded {
        /// What, and why not.
        what: String,
    },
    /// A Service that belongs to another service of the clusterset has the name of one that is needed.
    Taken {
        /// Its name.
        key: ObjectKey,
        /// The service that has it.
        by: ObjectKey,
    },
    /// An object that is not ours has the name of one that is needed.
    NotOurs {
        /// Its kind.
        kind: Kind,
        /// Its name.
        key: ObjectKey,
    },
}

/// So many more, if any.
struct And(usize);

impl fmt::Display for And {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPort { port, more } => write!(f, "no gateway port is left for {port}{}", And(*more)),
            Self::OverQuota { what, more, clusters } => {
                write!(f, "the quota of {} is used up: there is no {what}{}", clusters.join(", "), And(*more))
            }
            Self::Taken { key, by } => write!(f, "Service {key} belongs to {by}, which had the name first"),
            Self::NotCarried { ports } => {
                let ports: Vec<_> = ports.iter().map(|port| format!("{port}/SCTP")).collect();
                write!(f, "not carried: {}; gateways carry TCP and UDP", ports.join(", "))
            }
            Self::NoNamespaceHere => f.write_str("this cluster has not its namespace"),
            Self::NoNamespaceThere { clusters } => write!(f, "its namespace is missing in {}", clusters.join(", ")),
            Self::NoRoom { clusters } => {
                write!(f, "there is no room for it in what {} can be told", clusters.join(", "))
            }
            Self::Cut { what } => write!(f, "left out of what peers are told: {what}"),
            Self::Unheeded { what } => write!(f, "not heeded: {what}"),
            Self::NotOurs { kind, key } => write!(f, "{kind:?} {key} exists and is not ours"),
        }
    }
}

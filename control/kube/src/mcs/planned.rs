//! ● What a plan says.

use super::ObjectKey;
use crate::api::mcs::{ServiceExportStatus, ServiceImport, ServiceImportStatus};
use isthmus_control::{exchange::summary::Summary, registry::DesiredImport};
use isthmus_control_api::{Export, ServicePort};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use std::{collections::BTreeMap, fmt, sync::Arc};

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
    /// The Services derived from it.
    pub services: Vec<Service>,
    /// Their EndpointSlices.
    pub slices: Vec<EndpointSlice>,
    /// Objects of ours that are to go.
    pub unwanted: Vec<Unwanted>,
    /// What the gateway serves of it to peers and to its own imports.
    pub exports: BTreeMap<ServicePort, Export>,
    /// What the gateway listens for, by port.
    pub imports: BTreeMap<u16, DesiredImport>,
    /// What peers are told of it.
    pub summary: Option<Arc<Summary>>,
    /// What could not be done.
    pub problems: Vec<Problem>,
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
}

/// What could not be done for a service, for its status and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The range of gateway ports is used up.
    NoPort {
        /// The port of the service that has none.
        port: ServicePort,
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
    /// An object that is not ours has the name of one that is needed.
    NotOurs {
        /// Its kind.
        kind: Kind,
        /// Its name.
        key: ObjectKey,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPort { port } => write!(f, "no gateway port is left for {port}"),
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

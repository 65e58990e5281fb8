//! `isthmus.io`: policies, whose specs have the keys of the configuration file.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

/// Of a policy: whether it is taken as it is.
pub const ACCEPTED: &str = "Accepted";

/// How a policy fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyStatus {
    /// [`ACCEPTED`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

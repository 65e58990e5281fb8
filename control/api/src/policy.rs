//! How the streams of one service port are served: what a `policy` of an export or an import says.
//!
//! An export's rules what gateways do at the endpoints, an import's what they do at the client's side.

pub mod balance;

use balance::{Algorithm, Failover, Near, Outliers};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// What there is to say about it. What is left out is as in [`Default`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServicePolicy {
    /// How endpoints are chosen.
    pub balance: Algorithm,
    /// Which endpoints are preferred for where they are.
    pub near: Near,
    /// How long a new endpoint takes to get its whole share; `None`: it has it at once.
    pub slow_start: Option<Duration>,
    /// Which endpoints are left out for what their streams show.
    pub outliers: Outliers,
    /// When streams go to other clusters than the preferred one.
    pub failover: Failover,
}

/// Whether nothing is said: then it is left out where it is written.
pub(crate) fn is_default(policy: &Arc<ServicePolicy>) -> bool {
    **policy == ServicePolicy::default()
}

//! How the streams of one service port are served: what a `policy` of an export or an import says.
//!
//! An export's rules what gateways do at the endpoints, an import's what they do at the client's side.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What there is to say about it. What is left out is as in [`Default`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServicePolicy {
    /// How endpoints are chosen.
    pub balance: Algorithm,
}

/// Which endpoint takes the next stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Algorithm {
    /// Of two at random, the one that is less loaded.
    #[default]
    LeastRequest,
}

/// Whether nothing is said: then it is left out where it is written.
pub(crate) fn is_default(policy: &Arc<ServicePolicy>) -> bool {
    **policy == ServicePolicy::default()
}

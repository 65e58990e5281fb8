//! A `policy` mapping, of an export or an import, as a [`ServicePolicy`].

use super::fields::{Fields, Refused};
use isthmus_control_api::{Algorithm, ServicePolicy};
use std::sync::Arc;

/// The policy of the export or import whose `fields` these are. What is wrong in it is noted, and as if it were left out.
pub(super) fn read(fields: &Fields<'_>) -> Arc<ServicePolicy> {
    if !fields.has("policy") {
        return Arc::default();
    }
    fields.mapping_of("policy", "policy").map(|fields| Arc::new(policy(&fields))).unwrap_or_default()
}

fn policy(fields: &Fields<'_>) -> ServicePolicy {
    ServicePolicy { balance: fields.value("balance", algorithm).unwrap_or_default() }
}

fn algorithm(text: &str) -> Result<Algorithm, Refused> {
    match text {
        "leastRequest" => Ok(Algorithm::LeastRequest),
        _ => Err(Refused(None)),
    }
}

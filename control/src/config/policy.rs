//! A `policy` mapping, of an export or an import, as a [`ServicePolicy`].

mod balance;

use super::fields::Fields;
use isthmus_control_api::ServicePolicy;
use std::sync::Arc;

/// The policy of the export or import whose `fields` these are. What is wrong in it is noted, and as if it were left out.
pub(super) fn read(fields: &Fields<'_>) -> Arc<ServicePolicy> {
    if !fields.has("policy") {
        return Arc::default();
    }
    fields.mapping_of("policy", "policy").map(|fields| Arc::new(policy(&fields))).unwrap_or_default()
}

fn policy(fields: &Fields<'_>) -> ServicePolicy {
    ServicePolicy {
        balance: fields.value("balance", balance::algorithm).unwrap_or_default(),
        near: fields.value("near", balance::near).unwrap_or_default(),
        slow_start: fields.value("slowStart", balance::duration_or_off).flatten(),
        outliers: balance::outliers(fields),
        failover: balance::failover(fields),
    }
}

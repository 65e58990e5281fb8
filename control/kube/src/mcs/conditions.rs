//! ● Conditions, whose times change only when what they say does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What is longer in a message is cut: the API server takes 32 KiB.
const MAX_MESSAGE: usize = 4096;

/// Makes the conditions of one object.
pub(super) struct Conditions<'a> {
    /// Those that it has.
    pub(super) known: &'a [Condition],
    /// The object's generation that they are about.
    pub(super) generation: Option<i64>,
    /// For those that change.
    pub(super) now: &'a Time,
}

impl Conditions<'_> {
    /// The condition of that type, as it is to be.
    pub(super) fn make(&self, type_: &str, status: bool, reason: &str, message: impl Into<String>) -> Condition {
        let status = if status { "True" } else { "False" };
        let known = self.known(type_).filter(|known| known.status == status);
        let message: String = message.into();
        Condition {
            last_transition_time: known.map_or_else(|| self.now.clone(), |known| known.last_transition_time.clone()),
            message: message.chars().take(MAX_MESSAGE).collect(),
            observed_generation: self.generation,
            reason: reason.into(),
            status: status.into(),
            type_: type_.into(),
        }
    }

    /// The condition of that type, as it is.
    pub(super) fn known(&self, type_: &str) -> Option<&Condition> {
        self.known.iter().find(|known| known.type_ == type_)
    }
}

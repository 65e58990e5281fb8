//! ● How the streams of a service are served, as its ServicePolicy says, or an annotation.

use super::{ObjectKey, Problem, asked::unheeded, conditions::Conditions, here::Context};
use crate::{
    api::{
        mcs::ServiceExport,
        policy::{ACCEPTED, PolicyStatus},
    },
    optional::OptionalKind,
};
use isthmus_control::config::{ConfigError, policy};
use isthmus_control_api::ServicePolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt as _, api::DynamicObject};
use serde_json::{Value, json};
use std::sync::Arc;

/// On a ServiceExport or a Service, where there is no ServicePolicy of its name: the same keys, as YAML.
pub const POLICY: &str = "isthmus.io/policy";

/// What is said of a service's streams.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Nothing but defaults, where what is said is wrong.
    pub(super) policy: Arc<ServicePolicy>,
    /// What the ServicePolicy is to say of itself.
    pub(super) status: Option<PolicyStatus>,
    pub(super) problems: Vec<Problem>,
}

/// What is said of a service: by its ServicePolicy, then its ServiceExport, then its Service.
pub(super) fn said(cx: &Context<'_>, key: &ObjectKey, export: Option<&ServiceExport>) -> Said {
    if let Some(object) = cx.world.optional_object(OptionalKind::ServicePolicy, key) {
        let read = policy::from_json(&spec(object));
        let wrong = read.as_ref().err().map(|errors| in_words(errors));
        let status = Some(status(object, cx.now, wrong.as_deref()));
        return Said { status, ..taken(read, OptionalKind::ServicePolicy.kind()) };
    }
    let service = cx.world.services.get(key);
    let text = export.and_then(annotation).or_else(|| service.and_then(|service| annotation(&**service)));
    text.map(|text| taken(policy::from_text(text), POLICY)).unwrap_or_default()
}

/// The `spec` of a policy; an empty one, where it has none that is an object.
pub(crate) fn spec(object: &DynamicObject) -> Value {
    object.data.get("spec").filter(|spec| spec.is_object()).cloned().unwrap_or_else(|| json!({}))
}

/// What is wrong with a policy, in one line.
pub(crate) fn in_words(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What a policy is to say of itself.
pub(crate) fn status(object: &DynamicObject, now: &Time, wrong: Option<&str>) -> PolicyStatus {
    let known = object.data.get("status").cloned().unwrap_or_default();
    let known: PolicyStatus = serde_json::from_value(known).unwrap_or_default();
    let make = Conditions { known: &known.conditions, generation: object.metadata.generation, now };
    let reason = if wrong.is_some() { "Invalid" } else { ACCEPTED };
    PolicyStatus { conditions: vec![make.make(ACCEPTED, wrong.is_none(), reason, wrong.unwrap_or_default())] }
}

fn taken(read: Result<ServicePolicy, Vec<ConfigError>>, by: &str) -> Said {
    match read {
        Ok(policy) => Said { policy: Arc::new(policy), ..Said::default() },
        Err(errors) => Said { problems: vec![unheeded(format!("{by}: {}", in_words(&errors)))], ..Said::default() },
    }
}

fn annotation<K: Resource>(object: &K) -> Option<&str> {
    object.annotations().get(POLICY).map(String::as_str)
}

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

/// A ServicePolicy, as read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stated {
    /// What counts: where what it says is wrong, what it said when that was right; nothing but defaults, where it never was.
    pub policy: Arc<ServicePolicy>,
    /// What is wrong with it, and what counts until that is mended.
    pub wrong: Option<String>,
}

impl Stated {
    /// `before`: the same policy as it was until now.
    pub(crate) fn read(object: &DynamicObject, before: Option<&Self>) -> Self {
        match policy::from_json(&spec(object)) {
            Ok(policy) => Self { policy: Arc::new(policy), wrong: None },
            Err(errors) => {
                let policy = before.map(|before| before.policy.clone()).unwrap_or_default();
                let now =
                    if *policy == ServicePolicy::default() { "defaults count" } else { "it counts as it was before" };
                Self { policy, wrong: Some(format!("{}; until then {now}", in_words(&errors))) }
            }
        }
    }
}

/// What is said of a service's streams.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) policy: Arc<ServicePolicy>,
    /// What the ServicePolicy is to say of itself.
    pub(super) status: Option<PolicyStatus>,
    pub(super) problems: Vec<Problem>,
}

/// What is said of a service: by its ServicePolicy, then its ServiceExport, then its Service.
pub(super) fn said(cx: &Context<'_>, key: &ObjectKey, export: Option<&ServiceExport>) -> Said {
    let object = cx.world.optional_object(OptionalKind::ServicePolicy, key);
    if let Some((object, stated)) = object.zip(cx.world.policies.get(key)) {
        let by = OptionalKind::ServicePolicy.kind();
        let problems = stated.wrong.iter().map(|wrong| unheeded(format!("{by}: {wrong}"))).collect();
        let status = Some(status(object, cx.now, stated.wrong.as_deref()));
        return Said { policy: stated.policy.clone(), status, problems };
    }
    let service = cx.world.services.get(key);
    let text = export.and_then(annotation).or_else(|| service.and_then(|service| annotation(&**service)));
    match text.map(policy::from_text) {
        None => Said::default(),
        Some(Ok(policy)) => Said { policy: Arc::new(policy), ..Said::default() },
        Some(Err(errors)) => {
            let problem = unheeded(format!("{POLICY}: {}", in_words(&errors)));
            Said { problems: vec![problem], ..Said::default() }
        }
    }
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

fn annotation<K: Resource>(object: &K) -> Option<&str> {
    object.annotations().get(POLICY).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &Value, before: Option<&Stated>) -> Stated {
        let object = DynamicObject::new("api", &OptionalKind::ServicePolicy.resource());
        Stated::read(&object.data(json!({ "spec": spec })), before)
    }

    #[test]
    fn one_that_is_wrong_counts_as_it_did() {
        let good = read(&json!({"balance": "roundRobin"}), None);
        assert_eq!(good.wrong, None);
        assert_ne!(*good.policy, ServicePolicy::default());
        let wrong = read(&json!({"balance": "roundRobin", "balanse": "random"}), Some(&good));
        assert_eq!(wrong.policy, good.policy);
        let why = wrong.wrong.clone().unwrap();
        assert!(why.contains("balanse") && why.ends_with("it counts as it was before"), "{why}");
        assert_eq!(read(&json!({"balanse": 1}), Some(&wrong)).policy, good.policy, "for as long as it is wrong");
        let never = read(&json!({"balanse": 1}), None);
        assert_eq!(*never.policy, ServicePolicy::default());
        assert!(never.wrong.unwrap().ends_with("defaults count"));
    }
}

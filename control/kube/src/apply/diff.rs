//! ● Whether what is wanted is there: so that nothing is written that would change nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use serde_json::Value;
use std::borrow::Cow;

/// Lists that others may add to: what they add is theirs.
const SHARED: [&str; 3] = ["conditions", "finalizers", "ownerReferences"];

/// Whether applying `wanted` would change `observed`: it lacks something of it, or it has something that `manager` once applied (through
/// `subresource`; empty: none) and that is not wanted any more.
pub fn differs(wanted: &Value, observed: &Value, manager: &str, subresource: &str) -> bool {
    !has(observed, wanted, false) || owned(observed, manager, subresource).any(|fields| beyond(&fields, wanted))
}

/// Keeps the account of what a manager has applied as text: [`differs`] reads that as well, and it takes a tenth of the memory, as each
/// of the maps in it has room for eleven fields.
pub fn pack(entry: &mut ManagedFieldsEntry) {
    if let Some(FieldsV1(fields)) = entry.fields_v1.as_mut().filter(|FieldsV1(fields)| fields.is_object()) {
        let mut text = fields.to_string();
        text.shrink_to_fit();
        *fields = Value::String(text);
    }
}

/// Whether `observed` has all of `wanted`. What the API server fills in is no difference.
fn has(observed: &Value, wanted: &Value, is_shared: bool) -> bool {
    match (wanted, observed) {
        (Value::Object(wanted), Value::Object(observed)) => {
            wanted.iter().all(|(name, value)| match observed.get(name) {
                Some(observed) => has(observed, value, SHARED.contains(&name.as_str())),
                None => is_nothing(value),
            })
        }
        (Value::Array(wanted), Value::Array(observed)) => {
            let fits = if is_shared { wanted.len() <= observed.len() } else { wanted.len() == observed.len() };
            let pairs = || wanted.iter().zip(observed);
            // The order of a list with keys is the API server's.
            fits && (pairs().all(|(wanted, observed)| has(observed, wanted, false))
                || wanted.iter().all(|wanted| observed.iter().any(|observed| has(observed, wanted, false))))
        }
        (wanted, observed) => wanted == observed,
    }
}

/// Whether a value says as much as none.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
        _ => false,
    }
}

/// The fields that `manager` has applied, as the API server keeps account of them.
fn owned<'a>(observed: &'a Value, manager: &'a str, subresource: &'a str) -> impl Iterator<Item = Cow<'a, Value>> {
    let entries = observed.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let ours = move |entry: &&Value| {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        text("manager") == manager && text("operation") == "Apply" && text("subresource") == subresource
    };
    entries.filter(ours).filter_map(|entry| match entry.get("fieldsV1")? {
        Value::String(packed) => serde_json::from_str(packed).ok().map(Cow::Owned),
        fields => Some(Cow::Borrowed(fields)),
    })
}

/// Whether `fields` (FieldsV1: `f:` a field, `k:` an item by its keys, `v:` a value of a set) has anything that `value` has not.
fn beyond(fields: &Value, value: &Value) -> bool {
    let Value::Object(fields) = fields else { return false };
    fields.iter().any(|(path, below)| match path.split_at_checked(2) {
        Some(("f:", name)) => value.get(name).is_none_or(|value| beyond(below, value)),
        Some(("k:", keys)) => item(value, keys).is_none_or(|item| beyond(below, item)),
        Some(("v:", text)) => {
            let wanted = serde_json::from_str::<Value>(text).unwrap_or_default();
            !value.as_array().is_some_and(|items| items.contains(&wanted))
        }
        _ => false,
    })
}

/// The item of a list that has these keys, those left out taken for their defaults.
fn item<'a>(list: &'a Value, keys: &str) -> Option<&'a Value> {
    let keys: Value = serde_json::from_str(keys).ok()?;
    let fits = |item: &&Value| {
        keys.as_object().is_some_and(|keys| keys.iter().all(|(name, key)| item.get(name).is_none_or(|v| v == key)))
    };
    list.as_array()?.iter().find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn wanted() -> Value {
        json!({
            "metadata": {"name": "derived-1", "labels": {"a": "1"}, "ownerReferences": [{"uid": "u"}]},
            "spec": {"ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": null},
        })
    }

    fn observed() -> Value {
        let fields = json!({
            "f:metadata": {"f:labels": {"f:a": {}}, "f:ownerReferences": {".": {}, "k:{\"uid\":\"u\"}": {}}},
            "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}},
        });
        json!({
            "metadata": {
                "name": "derived-1", "uid": "x", "labels": {"a": "1", "theirs": "2"}, "ownerReferences": [{"uid": "u", "name": "n"}],
                "managedFields": [{"manager": "isthmus", "operation": "Apply", "fieldsV1": fields}],
            },
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 53, "protocol": "UDP"}, {"port": 80, "protocol": "TCP", "targetPort": 80}]},
        })
    }

    fn differs_by(change: impl FnOnce(&mut Value, &mut Value)) -> bool {
        let (mut wanted, mut observed) = (wanted(), observed());
        change(&mut wanted, &mut observed);
        differs(&wanted, &observed, "isthmus", "")
    }

    #[test]
    fn what_others_and_the_server_add_is_no_difference() {
        assert!(!differs_by(|_, _| {}));
        assert!(!differs_by(|_, observed| observed["metadata"]["finalizers"] = json!(["theirs"])));
    }

    #[test]
    fn what_is_lacking_or_other_is_a_difference() {
        assert!(differs_by(|wanted, _| wanted["metadata"]["labels"]["b"] = json!("2")));
        assert!(differs_by(|_, observed| observed["metadata"]["labels"]["a"] = json!("3")));
        assert!(differs_by(|_, observed| observed["spec"]["ports"][1]["port"] = json!(81)));
        assert!(differs_by(|_, observed| observed["spec"]["ports"].as_array_mut().unwrap().push(json!({"port": 1}))));
        assert!(differs_by(|_, observed| observed["metadata"]["ownerReferences"] = json!([])));
    }

    #[test]
    fn what_we_applied_once_and_want_no_more_is_a_difference() {
        assert!(differs_by(|wanted, _| drop(wanted["metadata"]["labels"].as_object_mut().unwrap().remove("a"))));
        assert!(differs_by(|wanted, observed| {
            // Nothing is lacking, and one port is too much.
            wanted["spec"]["ports"] = json!([{"port": 53, "protocol": "UDP"}]);
            observed["spec"]["ports"] = json!([{"port": 53, "protocol": "UDP"}]);
        }));
        assert!(!differs_by(|wanted, observed| {
            wanted["metadata"]["labels"] = json!({});
            observed["metadata"]["managedFields"][0]["manager"] = json!("kubectl");
        }));
        assert!(!differs_by(|wanted, observed| {
            wanted["metadata"]["labels"] = json!({});
            observed["metadata"]["managedFields"][0]["subresource"] = json!("status");
        }));
    }

    #[test]
    fn conditions_of_others_are_theirs() {
        let wanted = json!({"status": {"conditions": [{"type": "Valid", "status": "True"}]}});
        let both =
            json!({"status": {"conditions": [{"type": "Theirs"}, {"type": "Valid", "status": "True", "reason": "r"}]}});
        assert!(!differs(&wanted, &both, "isthmus-status", "status"));
        assert!(differs(&wanted, &json!({"status": {"conditions": [{"type": "Theirs"}]}}), "isthmus-status", "status"));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(1)), Just(json!("a")), Just(json!(true))];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Array),
                prop::collection::btree_map("[a-c]", inner, 1..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_has_itself_and_lacks_what_is_taken_away(value in values()) {
            prop_assert!(!differs(&value, &value, "isthmus", ""));
            if let Value::Object(fields) = &value {
                for name in fields.keys() {
                    let mut less = value.clone();
                    less.as_object_mut().unwrap().remove(name);
                    prop_assert!(differs(&value, &less, "isthmus", ""));
                }
            }
        }
    }
}

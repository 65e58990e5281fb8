//! ● The AccessPolicies of namespaces, as gateways have them.

use super::{ObjectKey, policy};
use isthmus_control::config::access;
use isthmus_control_api::{
    AccessPolicy, PolicyName,
    access::{MOST_POLICIES, MOST_RULES, Services},
};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The policy that closes the namespaces of those for which there is no room.
const NO_ROOM: &str = "no-room";

/// What AccessPolicies say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// By their names, as `namespace/name`.
    pub policies: BTreeMap<PolicyName, Arc<AccessPolicy>>,
    /// Those that are not taken as they are, and why.
    pub wrong: BTreeMap<ObjectKey, String>,
}

/// What all AccessPolicies say together. One that is wrong counts as it was when it was right; one that has never been, and one for
/// which there is no room, lets nobody use the services of its namespace: what was to be closed is never open by mistake. Room is given
/// first to what comes early in its own namespace, by age: no namespace uses up that of another that has less.
pub(crate) fn access(objects: &BTreeMap<ObjectKey, Arc<DynamicObject>>, before: &Access) -> Access {
    let mut all = Access::default();
    let mut used = BTreeMap::<&str, usize>::new();
    let mut by_turn = Vec::new();
    for (key, object) in by_age(objects) {
        // What the API server takes for a name is one.
        let Ok(name) = key.to_string().parse::<PolicyName>() else { continue };
        let policy = read(key, object).map(Arc::new).unwrap_or_else(|why| {
            let (policy, now) = instead(key, before.policies.get(&name));
            all.wrong.insert(key.clone(), format!("{why}; until then {now}"));
            policy
        });
        let used = used.entry(&*key.namespace).or_default();
        by_turn.push((*used, by_turn.len(), key, name, policy.clone()));
        *used += 1 + policy.rules.len();
    }
    by_turn.sort_unstable_by_key(|(used, age, ..)| (*used, *age));
    let (mut rules, mut no_room) = (0, AccessPolicy::default());
    for (_, _, key, name, policy) in by_turn {
        // One is kept for those that have no room.
        if all.policies.len() + 1 >= MOST_POLICIES || rules + policy.rules.len() > MOST_RULES {
            let why = format!(
                "there are more than {MOST_POLICIES} policies or {MOST_RULES} rules; nobody may use its namespace's services"
            );
            all.wrong.insert(key.clone(), why);
            no_room.services.insert(Services::Namespace(key.namespace.clone()));
            continue;
        }
        rules += policy.rules.len();
        all.policies.insert(name, policy);
    }
    if !no_room.services.is_empty() {
        all.policies.extend(NO_ROOM.parse().ok().map(|name| (name, Arc::new(no_room))));
    }
    all
}

/// The oldest first.
fn by_age(objects: &BTreeMap<ObjectKey, Arc<DynamicObject>>) -> Vec<(&ObjectKey, &DynamicObject)> {
    let mut all: Vec<_> = objects.iter().map(|(key, object)| (key, &**object)).collect();
    all.sort_by_key(|(key, object)| (object.metadata.creation_timestamp.clone().map(|time| time.0), (*key).clone()));
    all
}

/// What counts instead of a policy that is wrong, in words as well. `before`: what counted until now.
fn instead(key: &ObjectKey, before: Option<&Arc<AccessPolicy>>) -> (Arc<AccessPolicy>, &'static str) {
    let all_of = Services::Namespace(key.namespace.clone());
    let closed = Arc::new(AccessPolicy { services: [all_of].into(), ..AccessPolicy::default() });
    match before {
        Some(before) if *before != closed => (before.clone(), "it counts as it was before"),
        _ => (closed, "nobody may use its namespace's services"),
    }
}

fn read(key: &ObjectKey, object: &DynamicObject) -> Result<AccessPolicy, String> {
    let mut spec = policy::spec(object);
    let services = spec.get_mut("services").map(Value::take);
    spec["services"] = named(key, services.as_ref())?;
    let (_, policy) = access::from_json(&key.to_string(), &spec).map_err(|errors| policy::in_words(&errors))?;
    Ok(policy)
}

/// Services of the policy's own namespace, by their whole names: all of them, where none is named.
fn named(key: &ObjectKey, services: Option<&Value>) -> Result<Value, String> {
    let all = [json!("*")];
    let names: &[Value] = match services {
        None | Some(Value::Null) => &all,
        Some(Value::Array(names)) => names,
        Some(other) => return Err(format!("services: found {other}, expected a list of names")),
    };
    let whole = |(index, name): (usize, &Value)| match name.as_str() {
        Some(name) if !name.contains('/') => Ok(json!(format!("{}/{name}", key.namespace))),
        _ => Err(format!("services[{index}]: found {name}, expected the name of a Service of this namespace, or *")),
    };
    names.iter().enumerate().map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optional::OptionalKind;

    fn objects(of: &[(&str, Value)]) -> BTreeMap<ObjectKey, Arc<DynamicObject>> {
        let object = |(name, spec): &(&str, Value)| {
            let (namespace, name) = name.split_once('/').unwrap();
            let object = DynamicObject::new(name, &OptionalKind::AccessPolicy.resource()).within(namespace);
            (ObjectKey::new(namespace, name), Arc::new(object.data(json!({"spec": spec}))))
        };
        of.iter().map(object).collect()
    }

    fn services(access: &Access, name: &str) -> Vec<String> {
        access.policies[&name.parse().unwrap()].services.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_policy_is_for_services_of_its_own_namespace() {
        let rules = json!([{"name": "web", "action": "allow", "from": [{"clusters": ["east"]}]}]);
        let of = [
            ("shop/some", json!({"services": ["api", "db"], "rules": rules})),
            ("shop/all", json!({"rules": rules})),
            ("shop/theirs", json!({"services": ["bank/api"], "rules": rules})),
        ];
        let access = access(&objects(&of), &Access::default());
        assert_eq!(services(&access, "shop/some"), ["shop/api", "shop/db"]);
        assert_eq!(services(&access, "shop/all"), ["shop/*"]);
        assert_eq!(access.policies[&"shop/some".parse().unwrap()].rules.len(), 1);
        let wrong = &access.wrong[&ObjectKey::new("shop", "theirs")];
        assert!(wrong.starts_with("services[0]: found \"bank/api\", expected the name of a Service"), "{wrong}");
    }

    #[test]
    fn what_is_wrong_counts_as_before_and_else_closes_its_namespace() {
        let good = objects(&[("shop/a", json!({"services": ["api"], "rules": []}))]);
        let wrong = objects(&[("shop/a", json!({"services": ["api"], "rulez": []}))]);
        let before = access(&good, &Access::default());
        let after = access(&wrong, &before);
        assert_eq!(after.policies, before.policies);
        assert!(after.wrong[&ObjectKey::new("shop", "a")].contains("rulez"), "{:?}", after.wrong);
        assert_eq!(access(&wrong, &after).policies, before.policies, "for as long as it is wrong");
        let new = access(&wrong, &Access::default());
        assert_eq!((services(&new, "shop/a"), new.wrong.len()), (vec!["shop/*".to_owned()], 1));
        assert_eq!(access(&wrong, &new), new, "and says so for as long as it does");
        assert!(new.policies[&"shop/a".parse().unwrap()].rules.is_empty());
    }

    #[test]
    fn those_without_room_close_their_namespaces() {
        let names: Vec<_> = (0..MOST_POLICIES + 5).map(|n| format!("ns{}/p{n:05}", n / 700)).collect();
        let of: Vec<_> = names.iter().map(|name| (&**name, json!({"rules": []}))).collect();
        let access = access(&objects(&of), &Access::default());
        assert_eq!((access.policies.len(), access.wrong.len()), (MOST_POLICIES, 6));
        assert_eq!(services(&access, NO_ROOM), ["ns0/*"], "it has more than the other");
    }
}

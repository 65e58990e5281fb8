//! ● An object that is to be there, in little memory.

use super::ObjectKey;
use kube::Resource;
use serde::Serialize;
use serde_json::Value;
use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// An object as it is to be applied, as JSON. Nearly always nothing is done with it but to compare it with the one of the plan before: as
/// text that takes a third of the memory, and the two can be one.
#[derive(Clone)]
pub struct Wanted(Arc<Inner>);

struct Inner {
    key: ObjectKey,
    body: Box<str>,
    /// Which state of the object that is there was found to be as it should be, in short; 0: none yet.
    right: AtomicU64,
}

impl Wanted {
    /// An object. `None` of one that no JSON can be made of, as which it could not be applied either.
    pub(crate) fn of<K: Resource + Serialize>(object: &K) -> Option<Self> {
        let body = serde_json::to_string(object).ok()?.into();
        Some(Self(Arc::new(Inner { key: ObjectKey::of(object), body, right: AtomicU64::new(0) })))
    }

    /// Its name.
    pub fn key(&self) -> &ObjectKey {
        &self.0.key
    }

    /// What it is to say; `None`: never.
    pub fn body(&self) -> Option<Value> {
        serde_json::from_str(&self.0.body).ok()
    }

    /// What is there has been compared, and is as it should be.
    pub fn found_right<K: Resource>(&self, observed: &K) {
        self.0.right.store(state(observed).unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether this very state of what is there has been found right before: it need not be compared again. A service has an object for each
    /// cluster, and is looked at for the change of any.
    pub fn is_known_right<K: Resource>(&self, observed: &K) -> bool {
        state(observed).is_some_and(|state| state == self.0.right.load(Ordering::Relaxed))
    }

    /// The object.
    #[cfg(test)]
    pub(crate) fn object<K: serde::de::DeserializeOwned>(&self) -> K {
        serde_json::from_str(&self.0.body).unwrap()
    }

    /// Whether both are one and the same in memory.
    #[cfg(test)]
    pub(crate) fn is_shared(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The state of an object in short, never 0: by what the API server tells states apart. `None` where it has not said.
fn state<K: Resource>(object: &K) -> Option<u64> {
    let meta = object.meta();
    let mut hasher = DefaultHasher::new();
    (meta.uid.as_ref()?, meta.resource_version.as_ref()?).hash(&mut hasher);
    Some(hasher.finish().max(1))
}

/// By what is to be there: not by what has been found out about it.
impl PartialEq for Wanted {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.key == other.0.key && self.0.body == other.0.body
    }
}

impl Eq for Wanted {}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcs::tests::{service, slice};
    use k8s_openapi::api::discovery::v1::EndpointSlice;

    fn observed(uid: &str, version: &str) -> EndpointSlice {
        let mut slice = slice(&service("shop/api", &[]), &[]);
        (slice.metadata.uid, slice.metadata.resource_version) = (Some(uid.into()), Some(version.into()));
        slice
    }

    #[test]
    fn what_was_found_right_is_known_until_it_changes() {
        let wanted = Wanted::of(&observed("a", "1")).unwrap();
        assert!(!wanted.is_known_right(&observed("a", "1")));
        wanted.found_right(&observed("a", "1"));
        assert!(wanted.is_known_right(&observed("a", "1")));
        assert!(!wanted.is_known_right(&observed("a", "2")) && !wanted.is_known_right(&observed("b", "1")));
    }

    #[test]
    fn of_what_has_no_version_nothing_is_known() {
        let mut bare = observed("a", "1");
        bare.metadata.resource_version = None;
        let wanted = Wanted::of(&bare).unwrap();
        wanted.found_right(&bare);
        assert!(!wanted.is_known_right(&bare));
    }

    #[test]
    fn what_was_found_out_is_no_difference() {
        let [one, other] = [(); 2].map(|()| Wanted::of(&observed("a", "1")).unwrap());
        one.found_right(&observed("a", "1"));
        assert!(one == other && !one.is_shared(&other) && one.is_shared(&one.clone()));
        assert_ne!(one, Wanted::of(&observed("a", "2")).unwrap());
    }
}

//! ● The events of a watch, as changes of a collection of objects.

use crate::mcs::{Grouped, ObjectKey, Objects};
use kube::{Resource, runtime::watcher::Event};
use std::{collections::BTreeMap, sync::Arc};

/// A collection of objects by name.
pub(crate) trait Collection<K> {
    /// The object of that name.
    fn at(&self, key: &ObjectKey) -> Option<&Arc<K>>;
    /// Takes an object in place of an older one.
    fn put(&mut self, object: Arc<K>);
    /// Forgets an object; whether it was there.
    fn forget(&mut self, key: &ObjectKey) -> bool;
    /// All names.
    fn keys(&self) -> Vec<ObjectKey>;
}

impl<K: Grouped> Collection<K> for Objects<K> {
    fn at(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.get(key)
    }

    fn put(&mut self, object: Arc<K>) {
        self.insert(object);
    }

    fn forget(&mut self, key: &ObjectKey) -> bool {
        self.remove(key).is_some()
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.iter().map(|(key, _)| key.clone()).collect()
    }
}

impl<K: Resource> Collection<K> for BTreeMap<ObjectKey, Arc<K>> {
    fn at(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.get(key)
    }

    fn put(&mut self, object: Arc<K>) {
        self.insert(ObjectKey::of(&*object), object);
    }

    fn forget(&mut self, key: &ObjectKey) -> bool {
        self.remove(key).is_some()
    }

    fn keys(&self) -> Vec<ObjectKey> {
        self.keys().cloned().collect()
    }
}

/// What is known of a watch, beside the objects themselves.
///
/// A list that breaks off, or has not begun, changes nothing: only a complete one is truth.
#[derive(Debug)]
pub(crate) struct Listing<K> {
    /// A list under way.
    listed: Option<BTreeMap<ObjectKey, Arc<K>>>,
    is_complete: bool,
}

impl<K> Default for Listing<K> {
    fn default() -> Self {
        Self { listed: None, is_complete: false }
    }
}

impl<K: Resource> Listing<K> {
    /// Whether a whole list has ever come: before, what is missing may well be there.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes what the watch says into `objects`. What changed.
    pub(crate) fn take(&mut self, event: Event<K>, objects: &mut impl Collection<K>) -> Changed {
        match event {
            Event::Apply(object) => {
                let key = ObjectKey::of(&object);
                if objects.at(&key).is_some_and(|known| is_same(&**known, &object)) {
                    return Changed::Nothing;
                }
                objects.put(Arc::new(object));
                Changed::Object(key)
            }
            Event::Delete(object) => {
                let key = ObjectKey::of(&object);
                if objects.forget(&key) { Changed::Object(key) } else { Changed::Nothing }
            }
            Event::Init => {
                // One that was under way counts for nothing.
                self.listed = Some(BTreeMap::new());
                Changed::Nothing
            }
            Event::InitApply(object) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(ObjectKey::of(&object), Arc::new(object));
                }
                Changed::Nothing
            }
            Event::InitDone => self.complete(objects),
        }
    }

    /// The list is complete: what is not in it is gone.
    fn complete(&mut self, objects: &mut impl Collection<K>) -> Changed {
        let Some(listed) = self.listed.take() else { return Changed::Nothing };
        let mut changed = !self.is_complete;
        self.is_complete = true;
        for key in objects.keys() {
            if !listed.contains_key(&key) {
                changed |= objects.forget(&key);
            }
        }
        for (key, object) in listed {
            // What has not changed stays where it is.
            if objects.at(&key).is_none_or(|known| !is_same(&**known, &object)) {
                objects.put(object);
                changed = true;
            }
        }
        if changed { Changed::All } else { Changed::Nothing }
    }
}

/// What an event changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// What was known says the same.
    Nothing,
    /// One object.
    Object(ObjectKey),
    /// A list was taken.
    All,
}

impl Changed {
    pub(crate) fn is_any(&self) -> bool {
        *self != Self::Nothing
    }
}

/// Whether the API server calls them the same: one object, one version.
fn is_same<K: Resource>(one: &K, other: &K) -> bool {
    let (one, other) = (one.meta(), other.meta());
    one.resource_version.is_some() && one.uid == other.uid && one.resource_version == other.resource_version
}

#[cfg(test)]
mod tests;

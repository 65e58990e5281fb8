//! ● What the API server last said of one kind of object: a store keyed by namespace and name.
//!
//! ```text
//! apply, delete ──────────▶ ┐
//! begin … listed … complete ▶ Store ──▶ objects (shared, never changed)
//! ```
//!
//! A list that breaks off, or has not begun, changes nothing: only a complete one is truth.

use kube::{Resource, runtime::watcher::Event};
use std::{collections::BTreeMap, sync::Arc};

/// Namespace and name. The namespace of what has none is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// All objects of a kind.
#[derive(Debug)]
pub struct Store<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// A list under way.
    listed: Option<BTreeMap<Key, Arc<K>>>,
    is_complete: bool,
}

impl Key {
    /// The key of `object`.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

/// As people write it: `namespace/name`, or the name alone.
impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), listed: None, is_complete: false }
    }
}

impl<K: Resource> Store<K> {
    /// What is known, by key.
    pub fn objects(&self) -> &BTreeMap<Key, Arc<K>> {
        &self.objects
    }

    /// Whether a whole list has ever come: before, what is missing here may well be there.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes what a watch says; whether that changed what is known.
    pub fn take(&mut self, event: Event<K>) -> bool {
        match event {
            Event::Apply(object) => self.apply(object),
            Event::Delete(object) => self.delete(&object),
            Event::Init => {
                self.begin();
                false
            }
            Event::InitApply(object) => {
                self.list(object);
                false
            }
            Event::InitDone => self.complete(),
        }
    }

    /// The object is new, or has changed.
    pub fn apply(&mut self, object: K) -> bool {
        let key = Key::of(&object);
        if self.objects.get(&key).is_some_and(|known| is_same(known, &object)) {
            return false;
        }
        self.objects.insert(key, Arc::new(object));
        true
    }

    /// The object is gone.
    pub fn delete(&mut self, object: &K) -> bool {
        self.objects.remove(&Key::of(object)).is_some()
    }

    /// A list begins. One that was under way counts for nothing.
    pub fn begin(&mut self) {
        self.listed = Some(BTreeMap::new());
    }

    /// An object of the list that has begun.
    pub fn list(&mut self, object: K) {
        if let Some(listed) = &mut self.listed {
            let key = Key::of(&object);
            // What has not changed stays where it is.
            let known = self.objects.get(&key).filter(|known| is_same(known, &object)).cloned();
            listed.insert(key, known.unwrap_or_else(|| Arc::new(object)));
        }
    }

    /// The list is complete: what is not in it is gone.
    pub fn complete(&mut self) -> bool {
        let Some(listed) = self.listed.take() else { return false };
        let alike = listed.len() == self.objects.len()
            && listed.iter().zip(&self.objects).all(|(new, old)| new.0 == old.0 && Arc::ptr_eq(new.1, old.1));
        let changed = !alike || !self.is_complete;
        self.objects = listed;
        self.is_complete = true;
        changed
    }
}

/// Whether the API server calls them the same: one object, one version.
fn is_same<K: Resource>(one: &K, other: &K) -> bool {
    let (one, other) = (one.meta(), other.meta());
    one.resource_version.is_some() && one.uid == other.uid && one.resource_version == other.resource_version
}

#[cfg(test)]
mod tests;

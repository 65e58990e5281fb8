//! ● Usage by key, in a table of a fixed size: sets of a few places each, a key's set given by its hash.
//!
//! What is idle is the same as what is not there, so its place can be given away. A key for which its set has no place is refused:
//! whoever comes from very many addresses takes places as long as he has streams, and no longer.

use super::usage::Usage;
use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// Places of a set.
const PLACES: usize = 8;

/// Usage by key.
#[derive(Debug)]
pub struct Table<K> {
    /// Nobody outside can foresee which keys share a set.
    hasher: RandomState,
    /// Made when the first key comes: most processes have no such limits.
    sets: OnceLock<Box<[Mutex<Set<K>>]>>,
    count: usize,
}

type Set<K> = Vec<(K, Arc<Usage>)>;

impl<K: Hash + Eq> Table<K> {
    /// One of `sets` times eight places, at least one set.
    pub fn new(sets: usize) -> Self {
        Self { hasher: RandomState::new(), sets: OnceLock::new(), count: sets.max(1) }
    }

    /// The usage of `key`; `None` if there is no place for it. It is held for a few comparisons, by cores only.
    pub fn get(&self, key: K, now: u64) -> Option<Arc<Usage>> {
        let sets = self.sets.get_or_init(|| (0..self.count).map(|_| Mutex::default()).collect());
        let index = usize::try_from(self.hasher.hash_one(&key)).unwrap_or(usize::MAX) % sets.len();
        let mut set = sets[index].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, usage)) = set.iter().find(|(known, _)| *known == key) {
            return Some(usage.clone());
        }
        if set.len() >= PLACES {
            // One that somebody holds may be used in a moment.
            let idle = set.iter().position(|(_, usage)| Arc::strong_count(usage) == 1 && usage.is_idle(now))?;
            set.swap_remove(idle);
        }
        let usage = Arc::new(Usage::default());
        set.push((key, usage.clone()));
        Some(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control_api::Limits;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// By a naive model: who has streams is counted right, however many others come and go, and the table does not grow.
        #[test]
        fn who_has_streams_is_never_forgotten(steps in prop::collection::vec((any::<bool>(), 0_u8..40), 1..300)) {
            let table = Table::new(2);
            let none = Limits::default();
            let mut open: HashMap<u8, Vec<Arc<Usage>>> = HashMap::new();
            for (opens, key) in steps {
                if opens {
                    let Some(usage) = table.get(key, 0) else {
                        prop_assert!(open.values().filter(|open| !open.is_empty()).count() >= PLACES);
                        continue;
                    };
                    prop_assert!(usage.enter(&none, 0).is_ok());
                    usage.taken();
                    open.entry(key).or_default().push(usage);
                } else if let Some(usage) = open.get_mut(&key).and_then(Vec::pop) {
                    usage.leave();
                }
                for (key, open) in open.iter().filter(|(_, open)| !open.is_empty()) {
                    prop_assert_eq!(table.get(*key, 0).map(|usage| usage.streams() as usize), Some(open.len()));
                }
                prop_assert!(table.sets.get().into_iter().flatten().all(|set| set.lock().unwrap().len() <= PLACES));
            }
        }
    }
}

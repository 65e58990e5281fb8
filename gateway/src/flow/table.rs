//! ● The flows of one core: bounded, and when it is full, who has been silent longest gives way.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::{Duration, Instant},
};

/// A flow that has been silent for less does not give way: its answer may be under way.
pub(crate) const SILENT: Duration = Duration::from_secs(1);
/// Flows that are looked at to find one that gives way, so that a full table costs a newcomer little.
const LOOKS: usize = 16;

/// What the table has to know of a flow.
pub(crate) trait Known {
    /// When it last moved a datagram.
    fn last(&self) -> Instant;
}

/// See the module. Flows stand in line by when they were last looked at; the line may hold keys that have gone.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    flows: HashMap<K, V>,
    line: VecDeque<K>,
    most: usize,
}

/// There is no room, and nobody has been silent long enough to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl<K: Eq + Hash + Clone, V: Known> Table<K, V> {
    /// A table of at most `most` flows.
    pub(crate) fn new(most: usize) -> Self {
        Self { flows: HashMap::new(), line: VecDeque::new(), most }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.flows.get(key)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.flows.len()
    }

    /// Adds a flow, in place of an older one of the same key. The flow that gave way for it, if one had to.
    ///
    /// # Errors
    /// None could: it is not added.
    pub(crate) fn insert(&mut self, key: K, flow: V, now: Instant) -> Result<Option<V>, Full> {
        let mut gone = None;
        if self.flows.len() >= self.most && !self.flows.contains_key(&key) {
            gone = Some(self.evict(now).ok_or(Full)?);
        }
        if self.flows.insert(key.clone(), flow).is_none() {
            self.line.push_back(key);
        }
        if self.line.len() > 2 * self.flows.len() + LOOKS {
            self.tidy();
        }
        Ok(gone)
    }

    /// Removes a flow, if it is still the one that `is_it` knows.
    pub(crate) fn remove(&mut self, key: &K, is_it: impl FnOnce(&V) -> bool) {
        if self.flows.get(key).is_some_and(is_it) {
            self.flows.remove(key);
        }
    }

    /// Removes the flows that `goes` says; they are given to it once.
    pub(crate) fn remove_if(&mut self, mut goes: impl FnMut(&K, &V) -> bool) {
        let before = self.flows.len();
        self.flows.retain(|key, flow| !goes(key, flow));
        if self.flows.len() < before {
            self.tidy();
        }
    }

    fn evict(&mut self, now: Instant) -> Option<V> {
        let mut looks = 0;
        while looks < LOOKS {
            let key = self.line.pop_front()?;
            let Some(flow) = self.flows.get(&key) else { continue };
            if now.saturating_duration_since(flow.last()) >= SILENT {
                return self.flows.remove(&key);
            }
            self.line.push_back(key);
            looks += 1;
        }
        None
    }

    /// Takes those that have gone, and repetitions, out of the line.
    fn tidy(&mut self) {
        let mut seen = std::collections::HashSet::new();
        let flows = &self.flows;
        self.line.retain(|key| flows.contains_key(key) && seen.insert(key.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::{cell::Cell, rc::Rc};

    #[derive(Debug, Clone)]
    struct Flow(Rc<Cell<Instant>>);

    impl Known for Flow {
        fn last(&self) -> Instant {
            self.0.get()
        }
    }

    fn flow(now: Instant) -> Flow {
        Flow(Rc::new(Cell::new(now)))
    }

    #[derive(Debug, Clone)]
    enum Step {
        Datagram(u8),
        End(u8),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..40).prop_map(Step::Datagram),
            1 => (0u8..40).prop_map(Step::End),
            1 => (0u64..1500).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn it_holds_no_more_than_it_may_and_only_the_silent_give_way(steps in vec(step(), 0..300)) {
            let mut now = Instant::now();
            let mut table = Table::new(10);
            for step in steps {
                match step {
                    Step::Wait(millis) => now += Duration::from_millis(millis),
                    Step::End(key) => table.remove(&key, |_| true),
                    Step::Datagram(key) => match table.get(&key) {
                        Some(Flow(last)) => last.set(now),
                        None => {
                            let all_active = table.flows.values().all(|flow| now - flow.last() < SILENT);
                            let before = table.len();
                            match table.insert(key, flow(now), now) {
                                Ok(None) => prop_assert!(before < 10),
                                Ok(Some(gone)) => prop_assert!(now - gone.last() >= SILENT),
                                Err(Full) => prop_assert!(all_active && before == 10),
                            }
                        }
                    },
                }
                prop_assert!(table.len() <= 10);
                prop_assert!(table.line.len() <= 2 * table.len() + LOOKS + 1);
                prop_assert!(table.flows.keys().all(|key| table.line.contains(key)), "every flow can be found to give way");
            }
        }
    }

    #[test]
    fn who_has_been_silent_longest_gives_way() {
        let now = Instant::now();
        let mut table = Table::new(3);
        let flows = [0, 1, 2].map(|key| (key, flow(now + Duration::from_millis(key))));
        for (key, flow) in &flows {
            table.insert(*key, flow.clone(), now).unwrap();
        }
        let later = now + Duration::from_mins(1);
        flows[0].1.0.set(later);
        assert!(table.insert(3, flow(later), later).unwrap().is_some());
        assert!(table.get(&1).is_none() && table.get(&0).is_some());
    }

    #[test]
    fn a_successor_of_the_same_key_is_not_removed_by_its_predecessor() {
        let now = Instant::now();
        let mut table = Table::new(3);
        let (old, new) = (flow(now), flow(now));
        table.insert(1, old.clone(), now).unwrap();
        table.insert(1, new, now).unwrap();
        table.remove(&1, |flow| Rc::ptr_eq(&flow.0, &old.0));
        assert_eq!(table.len(), 1);
    }
}

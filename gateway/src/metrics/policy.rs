//! What is counted of the decisions of access policies, and the limit on how many rules are counted apart.

use super::{counter::Counter, streams::OTHER};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many rules are counted apart. Further ones, in the order in which they first decide, are counted together as [`OTHER`].
pub const MOST_RULES: usize = 1_000;

/// What one rule has decided. All cores count here: a stream is decided on once, not for each byte.
#[derive(Debug, Default)]
pub struct RuleMetrics {
    /// Streams that it has allowed.
    pub allowed: Counter,
    /// Streams that it has denied, open ones among them.
    pub denied: Counter,
    /// Streams that it would have allowed, were its policy no dry run.
    pub would_allow: Counter,
    /// Streams that it would have denied.
    pub would_deny: Counter,
}

/// All of them, by the rules' names.
#[derive(Debug, Default)]
pub struct PolicyMetrics {
    /// Taken when policies change, when a rule first decides on a core, and by scrapes.
    by_rule: Mutex<BTreeMap<Arc<str>, Arc<RuleMetrics>>>,
    other: Arc<RuleMetrics>,
}

impl RuleMetrics {
    /// What it has decided, with the words of the label.
    pub(super) fn decisions(&self) -> [(&'static str, u64); 4] {
        [
            ("allow", self.allowed.get()),
            ("deny", self.denied.get()),
            ("would_allow", self.would_allow.get()),
            ("would_deny", self.would_deny.get()),
        ]
    }
}

impl PolicyMetrics {
    /// Where the rule of this name is counted. It takes a lock: keep it until policies change.
    pub fn get(&self, name: &Arc<str>) -> Arc<RuleMetrics> {
        let mut by_rule = self.lock();
        if let Some(rule) = by_rule.get(name) {
            return rule.clone();
        }
        if by_rule.len() >= MOST_RULES {
            return self.other.clone();
        }
        by_rule.entry(name.clone()).or_default().clone()
    }

    /// Forgets the rules that are not among these.
    pub(crate) fn keep<'n>(&self, names: impl Iterator<Item = &'n Arc<str>>) {
        let names: HashSet<_> = names.collect();
        self.lock().retain(|name, _| names.contains(name));
    }

    /// What each has decided, by name.
    pub(super) fn totals(&self) -> Vec<(String, [(&'static str, u64); 4])> {
        let mut totals: Vec<_> = self.lock().iter().map(|(name, rule)| (name.to_string(), rule.decisions())).collect();
        let other = self.other.decisions();
        if other.iter().any(|&(_, count)| count > 0) {
            totals.push((OTHER.to_owned(), other));
        }
        totals
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<RuleMetrics>>> {
        self.by_rule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_beyond_the_limit_are_counted_together_and_those_that_go_make_room() {
        let metrics = PolicyMetrics::default();
        let names: Vec<Arc<str>> = (0..=MOST_RULES).map(|n| format!("p:r{n}").into()).collect();
        names.iter().for_each(|name| metrics.get(name).denied.add(1));
        let totals = metrics.totals();
        assert_eq!(totals.len(), MOST_RULES + 1);
        assert_eq!(totals.last().map(|(name, of)| (name.as_str(), of[1])), Some((OTHER, ("deny", 1))));
        metrics.keep(names[1..].iter());
        metrics.get(&names[MOST_RULES]).allowed.add(2);
        let last = metrics.totals().into_iter().find(|(name, _)| **name == *names[MOST_RULES]);
        assert_eq!(last.map(|(_, of)| of[0]), Some(("allow", 2)));
    }
}

//! ● When a write may be made: at once, the first time; later and later where it changes nothing or fails.

use super::{Action, Target, Write};
use crate::mcs::ObjectKey;
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, Instant},
};

/// After a write, before the same is written again: what was written is seen through the watch, which takes a moment.
const ECHO: Duration = Duration::from_secs(2);
/// After one that failed. Doubled each time.
const RETRY: Duration = Duration::from_millis(250);
/// No pause is longer.
const LONGEST: Duration = Duration::from_mins(5);
/// What has been right for so long is forgotten.
const FORGET: Duration = Duration::from_mins(2);

/// What was written lately, by the group that it belongs to.
#[derive(Debug, Default)]
pub struct Pace {
    tried: BTreeMap<ObjectKey, BTreeMap<Target, Tried>>,
}

/// The writes of one object.
#[derive(Debug)]
struct Tried {
    /// What was written, in short.
    digest: u64,
    /// Whether that makes the object.
    makes: bool,
    /// How often the same was.
    times: u32,
    /// Not again before then.
    rest: Instant,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Flying,
    /// It was taken, and still differs as far as is known; or it failed.
    Waiting(Option<String>),
    /// It is as it should be, since then.
    Right(Instant),
}

impl Pace {
    /// Whether the write may be made now.
    pub fn may(&self, group: &ObjectKey, write: &Write, now: Instant) -> bool {
        match self.tried.get(group).and_then(|tried| tried.get(&write.target)) {
            None => true,
            Some(tried) if tried.state == State::Flying => false,
            // What is new is written at once; but what has been made is not made again before it can have been seen.
            Some(tried) => (tried.digest != digest(write) && !tried.has_made(write)) || now >= tried.rest,
        }
    }

    /// The write is on its way.
    pub fn begun(&mut self, group: &ObjectKey, write: &Write, now: Instant) {
        let (digest, makes) = (digest(write), makes(write));
        let of_group = self.tried.entry(group.clone()).or_default();
        let tried = of_group.entry(write.target.clone());
        let tried = tried.or_insert(Tried { digest, makes, times: 0, rest: now, state: State::Flying });
        tried.times = if tried.digest == digest { tried.times.saturating_add(1) } else { 1 };
        (tried.digest, tried.makes, tried.state) = (digest, makes, State::Flying);
    }

    /// It has ended.
    pub fn ended(&mut self, group: &ObjectKey, target: &Target, result: Result<(), String>, now: Instant) {
        let Some(tried) = self.tried.get_mut(group).and_then(|tried| tried.get_mut(target)) else { return };
        let first = if result.is_ok() { ECHO } else { RETRY };
        let doubled = tried.times.saturating_sub(1).min(16);
        tried.rest = now + (first * 2_u32.pow(doubled)).min(LONGEST);
        tried.state = State::Waiting(result.err());
    }

    /// Of the group these alone differ: the others are as they should be.
    pub fn keep<'a>(&mut self, group: &ObjectKey, differing: impl Iterator<Item = &'a Target>, now: Instant) {
        let Some(of_group) = self.tried.get_mut(group) else { return };
        let differing: BTreeSet<_> = differing.collect();
        of_group.retain(|target, tried| match tried.state {
            State::Flying => true,
            _ if differing.contains(target) => true,
            State::Right(since) => now < since + FORGET,
            State::Waiting(_) => {
                tried.state = State::Right(now);
                true
            }
        });
        if of_group.is_empty() {
            self.tried.remove(group);
        }
    }

    /// When a write that was put off is due, or something can be forgotten.
    pub fn due(&self) -> Option<Instant> {
        self.tried.values().flat_map(BTreeMap::values).filter_map(Tried::due).min()
    }

    /// The groups in which something is due.
    pub fn overdue(&self, now: Instant) -> Vec<ObjectKey> {
        let is_due = |tried: &Tried| tried.due().is_some_and(|due| due <= now);
        let groups = self.tried.iter().filter(|(_, tried)| tried.values().any(is_due));
        groups.map(|(group, _)| group.clone()).collect()
    }

    /// Whether a failure is to be told: the first one, and each time that they have doubled.
    pub fn is_news(&self, group: &ObjectKey, target: &Target) -> bool {
        let tried = self.tried.get(group).and_then(|tried| tried.get(target));
        tried.is_none_or(|tried| tried.times.is_power_of_two())
    }

    /// What failed last, and why.
    pub fn failures(&self) -> BTreeMap<Target, String> {
        let tried = self.tried.values().flatten();
        let failed = tried.filter_map(|(target, tried)| match &tried.state {
            State::Waiting(Some(error)) => Some((target.clone(), error.clone())),
            _ => None,
        });
        failed.collect()
    }
}

impl Tried {
    /// Whether the object that `write` makes was made by the last one.
    fn has_made(&self, write: &Write) -> bool {
        self.makes && self.state == State::Waiting(None) && makes(write)
    }

    fn due(&self) -> Option<Instant> {
        match self.state {
            State::Flying => None,
            State::Waiting(_) => Some(self.rest),
            State::Right(since) => Some(since + FORGET),
        }
    }
}

fn makes(write: &Write) -> bool {
    matches!(write.action, Action::Create(_))
}

fn digest(write: &Write) -> u64 {
    let mut hasher = DefaultHasher::new();
    write.action.to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;

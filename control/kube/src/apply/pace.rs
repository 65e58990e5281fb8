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
    groups: BTreeMap<ObjectKey, Group>,
    /// When something is due next in a group, if ever.
    due: BTreeSet<(Instant, ObjectKey)>,
}

#[derive(Debug, Default)]
struct Group {
    tried: BTreeMap<Target, Tried>,
    /// As `Pace::due` has it.
    due: Option<Instant>,
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
        match self.tried(group, &write.target) {
            None => true,
            Some(tried) if tried.state == State::Flying => false,
            // What is new is written at once; but what has been made is not made again before it can have been seen.
            Some(tried) => (tried.digest != digest(write) && !tried.has_made(write)) || now >= tried.rest,
        }
    }

    /// The write is on its way.
    pub fn begun(&mut self, group: &ObjectKey, write: &Write, now: Instant) {
        let (digest, makes) = (digest(write), makes(write));
        let of_group = self.groups.entry(group.clone()).or_default();
        let tried = of_group.tried.entry(write.target.clone());
        let tried = tried.or_insert(Tried { digest, makes, times: 0, rest: now, state: State::Flying });
        tried.times = if tried.digest == digest { tried.times.saturating_add(1) } else { 1 };
        (tried.digest, tried.makes, tried.state) = (digest, makes, State::Flying);
        self.schedule(group);
    }

    /// It has ended.
    pub fn ended(&mut self, group: &ObjectKey, target: &Target, result: Result<(), String>, now: Instant) {
        let of_group = self.groups.get_mut(group);
        let Some(tried) = of_group.and_then(|of_group| of_group.tried.get_mut(target)) else { return };
        let first = if result.is_ok() { ECHO } else { RETRY };
        let doubled = tried.times.saturating_sub(1).min(16);
        tried.rest = now + (first * 2_u32.pow(doubled)).min(LONGEST);
        tried.state = State::Waiting(result.err());
        self.schedule(group);
    }

    /// Of the group these alone differ: the others are as they should be.
    pub fn keep<'a>(&mut self, group: &ObjectKey, differing: impl Iterator<Item = &'a Target>, now: Instant) {
        let Some(of_group) = self.groups.get_mut(group) else { return };
        let differing: BTreeSet<_> = differing.collect();
        of_group.tried.retain(|target, tried| match tried.state {
            State::Flying => true,
            _ if differing.contains(target) => {
                if matches!(tried.state, State::Right(_)) {
                    // It was right, and somebody has changed it: it waits for its turn again.
                    tried.state = State::Waiting(None);
                }
                true
            }
            State::Right(since) => now < since + FORGET,
            State::Waiting(_) => {
                tried.state = State::Right(now);
                true
            }
        });
        self.schedule(group);
    }

    /// When a write that was put off is due, or something can be forgotten, but for these groups, which are looked at anyway.
    pub fn due(&self, but_for: &BTreeSet<ObjectKey>) -> Option<Instant> {
        self.due.iter().find(|(_, group)| !but_for.contains(group)).map(|(due, _)| *due)
    }

    /// The groups in which something is due.
    pub fn overdue(&self, now: Instant) -> Vec<ObjectKey> {
        self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, group)| group.clone()).collect()
    }

    /// Keeps account of when something is due in a group, and forgets one of which nothing is known.
    fn schedule(&mut self, group: &ObjectKey) {
        let Some(of_group) = self.groups.get_mut(group) else { return };
        let due = of_group.tried.values().filter_map(Tried::due).min();
        let before = std::mem::replace(&mut of_group.due, due);
        if before != due {
            before.map(|before| self.due.remove(&(before, group.clone())));
            self.due.extend(due.map(|due| (due, group.clone())));
        }
        if of_group.tried.is_empty() {
            self.groups.remove(group);
        }
    }

    fn tried(&self, group: &ObjectKey, target: &Target) -> Option<&Tried> {
        self.groups.get(group)?.tried.get(target)
    }

    /// Whether a failure is to be told: the first one, and each time that they have doubled.
    pub fn is_news(&self, group: &ObjectKey, target: &Target) -> bool {
        self.tried(group, target).is_none_or(|tried| tried.times.is_power_of_two())
    }

    /// What failed last, and why.
    pub fn failures(&self) -> BTreeMap<Target, String> {
        let tried = self.groups.values().flat_map(|of_group| &of_group.tried);
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

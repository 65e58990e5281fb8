use super::*;
use crate::apply::{Kind, Part};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

fn group() -> ObjectKey {
    ObjectKey::new("shop", "api")
}

fn write(content: u32) -> Write {
    let target = Target { kind: Kind::Import, key: group(), part: Part::Object };
    Write { target, action: Action::Apply(json!({"n": content})) }
}

#[test]
fn what_was_made_is_not_made_again_before_it_is_seen() {
    let (start, mut pace) = (Instant::now(), Pace::default());
    let create = |content: u32| Write { action: Action::Create(json!({"n": content})), ..write(0) };
    let made = create(1);
    pace.begun(&group(), &made, start);
    pace.ended(&group(), &made.target, Ok(()), start);
    assert!(!pace.may(&group(), &create(2), start), "it is wanted otherwise, and not yet seen");
    assert!(pace.may(&group(), &write(2), start), "it has been seen");
    assert!(pace.may(&group(), &create(2), start + ECHO), "it was removed at once");
    // One that could not be made is tried as anything else.
    pace.begun(&group(), &made, start);
    pace.ended(&group(), &made.target, Err("no".into()), start);
    assert!(pace.may(&group(), &create(2), start));
}

/// Writes whenever it may for as long as `lasts`, looking every tenth of a second: how often it did.
fn writes(pace: &mut Pace, start: Instant, lasts: Duration, result: &Result<(), String>) -> u32 {
    let (mut now, mut count) = (start, 0);
    while now < start + lasts {
        let write = write(1);
        pace.keep(&group(), std::iter::once(&write.target), now);
        if pace.may(&group(), &write, now) {
            pace.begun(&group(), &write, now);
            pace.ended(&group(), &write.target, result.clone(), now);
            count += 1;
        }
        now += SECOND / 10;
    }
    count
}

#[test]
fn what_changes_nothing_or_fails_is_written_ever_more_seldom() {
    let start = Instant::now();
    assert_eq!(writes(&mut Pace::default(), start, 60 * SECOND, &Ok(())), 5, "after 0, 2, 6, 14, 30 s");
    let failed = Err("no".to_owned());
    let mut pace = Pace::default();
    assert_eq!(writes(&mut pace, start, 60 * SECOND, &failed), 8);
    assert_eq!(pace.failures().into_values().collect::<Vec<_>>(), ["no"]);
}

#[test]
fn what_is_new_is_written_at_once_but_never_twice_at_a_time() {
    let (now, mut pace) = (Instant::now(), Pace::default());
    assert!(pace.may(&group(), &write(1), now));
    pace.begun(&group(), &write(1), now);
    assert!(!pace.may(&group(), &write(2), now), "one is on its way");
    assert_eq!(pace.due(&BTreeSet::new()), None);
    pace.ended(&group(), &write(1).target, Ok(()), now);
    assert!(!pace.may(&group(), &write(1), now), "what was written has not been seen yet");
    assert!(pace.may(&group(), &write(2), now));
}

#[test]
fn what_is_right_is_no_failure_and_is_forgotten() {
    let (now, mut pace) = (Instant::now(), Pace::default());
    pace.begun(&group(), &write(1), now);
    pace.ended(&group(), &write(1).target, Err("no".into()), now);
    assert_eq!(pace.overdue(now + SECOND), [group()]);
    pace.keep(&group(), std::iter::empty(), now + SECOND);
    assert!(pace.failures().is_empty());
    let later = pace.due(&BTreeSet::new()).unwrap();
    pace.keep(&group(), std::iter::empty(), later);
    assert_eq!(pace.due(&BTreeSet::new()), None, "nothing is kept of it");
}

#[test]
fn who_fights_over_an_object_slows_down() {
    let (mut now, mut pace, mut count) = (Instant::now(), Pace::default(), 0);
    // It is put right, and changed by somebody again at once.
    for _ in 0..600 {
        if pace.may(&group(), &write(1), now) {
            pace.begun(&group(), &write(1), now);
            pace.ended(&group(), &write(1).target, Ok(()), now);
            pace.keep(&group(), std::iter::empty(), now);
            count += 1;
        }
        now += SECOND / 10;
    }
    assert_eq!(count, 5);
}

#[test]
fn a_group_that_is_looked_at_anyway_is_not_due() {
    let (mut pace, start) = (Pace::default(), Instant::now());
    let write = write(1);
    pace.begun(&group(), &write, start);
    pace.ended(&group(), &write.target, Ok(()), start);
    assert_eq!(pace.due(&BTreeSet::new()), Some(start + ECHO));
    assert_eq!(pace.due(&[group()].into()), None);
    pace.keep(&group(), [].into_iter(), start + ECHO);
    assert_eq!(pace.due(&BTreeSet::new()), Some(start + ECHO + FORGET));
    pace.keep(&group(), [].into_iter(), start + ECHO + FORGET);
    assert_eq!((pace.due(&BTreeSet::new()), pace.groups.len(), pace.due.len()), (None, 0, 0), "all is forgotten");
}

/// Else it would be mended minutes late, or be looked at without end.
#[test]
fn what_was_right_and_is_changed_again_is_due_when_it_may_be_written() {
    let (mut pace, start) = (Pace::default(), Instant::now());
    let write = write(1);
    pace.begun(&group(), &write, start);
    pace.ended(&group(), &write.target, Ok(()), start);
    pace.keep(&group(), [].into_iter(), start);
    pace.keep(&group(), std::iter::once(&write.target), start + SECOND);
    assert!(!pace.may(&group(), &write, start + SECOND));
    let due = pace.due(&BTreeSet::new()).unwrap();
    assert_eq!(due, start + ECHO);
    assert!(pace.may(&group(), &write, due));
}

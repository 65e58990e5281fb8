//! Renewal and reload: with a clock of the test's own, and once with real files and notifications.

use super::{
    directory::{bundle_file, fresh, trust},
    forge::Cluster,
};
use crate::{Directory, IdentityStore, issue::SVID_LIFETIME, pem, watch::keeper::Keeper};
use isthmus_control_api::ClusterName;
use std::{
    fs,
    time::{Duration, SystemTime},
};
use tokio::task::JoinSet;

fn open(directory: &Directory, now: SystemTime) -> Keeper {
    Keeper::open(directory.clone(), now, || 0.5).unwrap()
}

fn tick(keeper: &mut Keeper, now: SystemTime) -> Duration {
    keeper.tick(now, || 0.5)
}

fn east() -> ClusterName {
    "east".parse().unwrap()
}

#[test]
fn the_svid_is_renewed_at_half_its_life_and_written() {
    let (_parent, directory) = fresh("west.demo");
    let now = SystemTime::now();
    let mut keeper = open(&directory, now);
    let store = keeper.store().clone();
    let first = store.current();
    let half = first.validity().not_before + SVID_LIFETIME / 2;
    let wait = tick(&mut keeper, now);
    assert_eq!(now + wait, half);
    assert_eq!(store.status().renewal_due, Some(half));
    assert_eq!(store.current().serial(), first.serial());

    tick(&mut keeper, half);
    let second = store.current();
    assert_ne!(second.serial(), first.serial());
    assert_eq!(second.validity().lifetime(), first.validity().lifetime());
    assert!(second.validity().not_after > first.validity().not_after);
    assert_eq!(directory.load().unwrap().serial(), second.serial());
    let status = store.status();
    assert_eq!((status.renewals, status.changes, status.failures), (1, 1, 0));

    // What was written is no change to take over.
    tick(&mut keeper, half);
    assert_eq!(store.status().changes, 1);
}

#[test]
fn a_short_life_stays_short() {
    let parent = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let lifetime = Duration::from_secs(30);
    let (directory, _) = Directory::init(parent.path(), "west.demo".parse().unwrap(), lifetime, now).unwrap();
    let mut keeper = open(&directory, now);
    let mut at = now;
    for renewals in 1..5 {
        at += tick(&mut keeper, at);
        tick(&mut keeper, at);
        assert_eq!(keeper.store().status().renewals, renewals);
        assert_eq!(keeper.store().current().validity().lifetime(), lifetime);
        assert!(keeper.store().current().validity().contains(at));
    }
}

#[test]
fn a_bundle_is_taken_over_and_withdrawn() {
    let (_parent, directory) = fresh("west.demo");
    let now = SystemTime::now();
    let mut keeper = open(&directory, now);
    let mut changed = keeper.store().subscribe();
    trust(&directory, &Cluster::new("east.demo"));
    tick(&mut keeper, now);
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    assert!(keeper.store().current().bundle(&east()).is_some());
    fs::remove_file(directory.bundle_path(&east())).unwrap();
    tick(&mut keeper, now);
    assert!(changed.has_changed().unwrap());
    assert!(keeper.store().current().bundle(&east()).is_none());
}

#[test]
fn a_bad_change_leaves_the_identity_as_it_is() {
    let (_parent, directory) = fresh("west.demo");
    let now = SystemTime::now();
    trust(&directory, &Cluster::new("east.demo"));
    let mut keeper = open(&directory, now);
    let store = keeper.store().clone();
    let before = store.current();
    let good = fs::read(directory.bundle_path(&east())).unwrap();
    fs::write(directory.bundle_path(&east()), "nonsense").unwrap();
    // It is said once, not at every look.
    for _ in 0..3 {
        tick(&mut keeper, now);
        let status = store.status();
        assert_eq!((status.failures, status.changes), (1, 0));
        assert!(status.last_error.as_ref().unwrap().contains("east.pem: found no PEM section"), "{status:?}");
        assert_eq!(store.current().serial(), before.serial());
        assert!(store.current().bundle(&east()).is_some());
    }
    fs::write(directory.bundle_path(&east()), good).unwrap();
    tick(&mut keeper, now);
    assert_eq!(store.status().last_error, None);
}

#[test]
fn a_bundle_that_goes_is_withdrawn_in_spite_of_another_file_that_is_bad() {
    let (_parent, directory) = fresh("west.demo");
    let now = SystemTime::now();
    let south: ClusterName = "south".parse().unwrap();
    trust(&directory, &Cluster::new("east.demo"));
    trust(&directory, &Cluster::new("south.demo"));
    let mut keeper = open(&directory, now);
    let store = keeper.store().clone();
    // Bad content, and what cannot be read at all.
    fs::write(directory.bundle_path(&"north".parse().unwrap()), "nonsense").unwrap();
    directory.distrust(&east()).unwrap();
    tick(&mut keeper, now);
    assert!(store.current().bundle(&east()).is_none() && store.current().bundle(&south).is_some());
    assert!(store.status().last_error.as_ref().unwrap().contains("north.pem"));
    fs::remove_file(directory.bundle_path(&"north".parse().unwrap())).unwrap();
    fs::create_dir(directory.bundle_path(&"north".parse().unwrap())).unwrap();
    directory.distrust(&south).unwrap();
    tick(&mut keeper, now);
    assert!(store.current().bundles().is_empty());
}

#[test]
fn files_that_vanish_leave_the_identity_as_it_is() {
    let (parent, directory) = fresh("west.demo");
    let now = SystemTime::now();
    let mut keeper = open(&directory, now);
    let store = keeper.store().clone();
    let before = store.current();
    let away = parent.path().join("away");
    fs::rename(directory.path(), &away).unwrap();
    tick(&mut keeper, now);
    tick(&mut keeper, now);
    assert_eq!(store.current().serial(), before.serial());
    assert_eq!(store.status().failures, 1);
    fs::rename(&away, directory.path()).unwrap();
    tick(&mut keeper, now);
    assert_eq!(store.status().last_error, None);
}

#[test]
fn a_bad_bundle_does_not_cost_the_svid() {
    let (_parent, directory) = fresh("west.demo");
    let mut keeper = open(&directory, SystemTime::now());
    let first = keeper.store().current();
    fs::write(directory.bundle_path(&east()), "nonsense").unwrap();
    tick(&mut keeper, first.validity().not_before + SVID_LIFETIME * 3 / 4);
    assert_eq!(keeper.store().status().renewals, 1);
    assert_ne!(keeper.store().current().serial(), first.serial());
}

#[test]
fn a_renewed_svid_that_cannot_be_written_is_used_all_the_same() {
    let (_parent, directory) = fresh("west.demo");
    let mut keeper = open(&directory, SystemTime::now());
    let first = keeper.store().current();
    // Nothing can be renamed to a directory's name.
    let key = directory.path().join("svid.key");
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    let half = first.validity().not_before + SVID_LIFETIME * 3 / 4;
    let wait = tick(&mut keeper, half);
    assert_ne!(keeper.store().current().serial(), first.serial());
    let error = keeper.store().status().last_error.clone().unwrap();
    assert!(error.contains("in use in memory only"), "{error}");
    assert!(wait > SVID_LIFETIME / 4, "{wait:?}");
}

#[test]
fn a_broken_ca_is_tried_again_ever_less_often() {
    let (_parent, directory) = fresh("west.demo");
    let mut keeper = open(&directory, SystemTime::now());
    let store = keeper.store().clone();
    let first = store.current();
    let ca_key = directory.path().join("ca.key");
    let good = fs::read(&ca_key).unwrap();
    fs::write(&ca_key, "nonsense").unwrap();
    let mut at = first.validity().not_before + SVID_LIFETIME / 2;
    let mut waits = Vec::new();
    for _ in 0..12 {
        let wait = tick(&mut keeper, at);
        at += wait;
        waits.push(wait);
    }
    assert!(waits.is_sorted() && waits[0] < Duration::from_secs(1) && waits[11] < Duration::from_mins(5), "{waits:?}");
    assert!(store.status().last_error.as_ref().unwrap().contains("ca.key: found something else"));
    fs::write(&ca_key, good).unwrap();
    tick(&mut keeper, at);
    assert_eq!(store.status().last_error, None);
    assert_ne!(store.current().serial(), first.serial());
}

#[test]
fn without_the_ca_others_renew() {
    let (_parent, directory) = fresh("west.demo");
    let authority = directory.authority().unwrap().unwrap();
    fs::remove_file(directory.path().join("ca.key")).unwrap();
    let mut keeper = open(&directory, SystemTime::now());
    let store = keeper.store().clone();
    let first = store.current();
    let late = first.validity().not_before + SVID_LIFETIME * 3 / 4;
    tick(&mut keeper, late);
    let status = store.status();
    assert_eq!((status.renewals, status.failures, status.renewal_due), (0, 0, None));
    directory.write_own(&authority.issue(first.id(), SVID_LIFETIME, late).unwrap()).unwrap();
    tick(&mut keeper, late);
    assert_ne!(store.current().serial(), first.serial());
    assert!(store.current().validity().contains(late + SVID_LIFETIME / 2));
}

#[test]
fn another_cluster_cannot_take_the_place() {
    let (_parent, directory) = fresh("west.demo");
    let now = SystemTime::now();
    let mut keeper = open(&directory, now);
    directory.write_own(&Cluster::new("east.demo").svid()).unwrap();
    tick(&mut keeper, now);
    let error = keeper.store().status().last_error.clone().unwrap();
    assert!(error.contains("found an SVID of spiffe://east.demo/ns/isthmus-system/sa/gateway, expected one of spiffe://west.demo/ns/isthmus-system/sa/gateway"), "{error}");
    assert_eq!(keeper.store().current().domain().to_string(), "west.demo");
}

#[test]
fn an_svid_that_is_over_or_broken_is_made_anew_at_the_start() {
    let (_parent, directory) = fresh("west.demo");
    let later = SystemTime::now() + Duration::from_hours(48);
    let over = directory.load().unwrap();
    let keeper = open(&directory, later);
    assert_ne!(keeper.store().current().serial(), over.serial());
    assert!(keeper.store().current().validity().contains(later));
    assert_eq!(keeper.store().status().renewals, 1);

    // As after a crash between the key and the certificate.
    let other = Cluster::new("west.demo").svid();
    fs::write(directory.path().join("svid.key"), pem::encode_key(&other.key)).unwrap();
    open(&directory, later);
    fs::remove_file(directory.path().join("svid.pem")).unwrap();
    open(&directory, later);
    assert_eq!(open(&directory, later).store().status().renewals, 0);

    fs::remove_file(directory.path().join("ca.key")).unwrap();
    fs::remove_file(directory.path().join("svid.pem")).unwrap();
    let refused = Keeper::open(directory, later, || 0.5).map(drop).unwrap_err().to_string();
    assert!(refused.contains("svid.pem"), "{refused}");
}

#[tokio::test]
async fn a_running_watch_takes_over_what_changes() {
    let (_parent, directory) = fresh("west.demo");
    let (store, watch) = IdentityStore::open(directory.clone()).unwrap();
    let mut changed = store.subscribe();
    let mut tasks = JoinSet::new();
    tasks.spawn(watch.run());

    let (_file, bundle) = bundle_file(&Cluster::new("east.demo"));
    directory.trust(&east(), &bundle).unwrap();
    changed.changed().await.unwrap();
    assert!(store.current().bundle(&east()).is_some());

    let first = store.current();
    directory.write_own(&directory.issue_own(SVID_LIFETIME, SystemTime::now()).unwrap().unwrap()).unwrap();
    changed.changed().await.unwrap();
    assert_ne!(store.current().serial(), first.serial());

    // Dropping the watch ends the upkeep; the store stays.
    tasks.shutdown().await;
    assert!(!store.current().bundles().is_empty());
}

use super::*;
use isthmus_certs::Authority;
use std::{time::Duration, time::SystemTime};

fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

fn bundle(cas: &[&Authority]) -> TrustAnchors {
    let certificates = cas.iter().map(|ca| ca.certificate().clone()).collect();
    TrustAnchors::new(domain("east.demo"), certificates).unwrap()
}

#[test]
fn another_ca_of_a_linked_cluster_is_taken_only_if_that_is_wanted() {
    let parent = tempfile::tempdir().unwrap();
    let (day, now) = (Duration::from_hours(24), SystemTime::now());
    let (directory, _) = Directory::init(parent.path().join("id"), domain("west.demo"), day, now).unwrap();
    let [old, new] = [0, 1].map(|_| Authority::create(domain("east.demo"), now).unwrap());
    assert_eq!(change(&directory, &bundle(&[&old]), false, false), Ok(Change::New));
    link(&directory, &bundle(&[&old]), &["h:1".parse().unwrap()]).unwrap();
    assert_eq!(change(&directory, &bundle(&[&old]), false, false), Ok(Change::Renewed));
    assert_eq!(change(&directory, &bundle(&[&new, &old]), false, false), Ok(Change::Renewed));
    let refused = change(&directory, &bundle(&[&new]), false, false).unwrap_err();
    assert!(refused.contains("--replace"), "{refused}");
    assert_eq!(change(&directory, &bundle(&[&new]), false, true), Ok(Change::Replaced));
    let refused = change(&directory, &bundle(&[&old]), true, true).unwrap_err();
    assert!(refused.contains("under `links:` of the configuration"), "{refused}");
}

#[test]
fn who_listens_everywhere_is_dialled_here() {
    assert_eq!(local("0.0.0.0:1".parse().unwrap()), "127.0.0.1:1".parse().unwrap());
    assert_eq!(local("[::]:1".parse().unwrap()), "[::1]:1".parse().unwrap());
    assert_eq!(local("192.0.2.1:1".parse().unwrap()), "192.0.2.1:1".parse().unwrap());
}

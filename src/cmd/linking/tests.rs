use super::*;
use isthmus_certs::Authority;
use isthmus_link::Grant;
use std::{time::Duration, time::SystemTime};

fn domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

fn bundle(cas: &[&Authority]) -> TrustAnchors {
    let certificates = cas.iter().map(|ca| ca.certificate().clone()).collect();
    TrustAnchors::new(domain("east.demo"), certificates).unwrap()
}

/// West, which is linked with nobody yet.
fn west() -> (tempfile::TempDir, Directory) {
    let parent = tempfile::tempdir().unwrap();
    let (day, now) = (Duration::from_hours(24), SystemTime::now());
    let (directory, _) = Directory::init(parent.path().join("id"), domain("west.demo"), day, now).unwrap();
    (parent, directory)
}

/// Who comes with these CA certificates, and an SVID of `ca`.
fn grant(cas: &[&Authority], ca: &Authority, replace: bool) -> Grant {
    let now = SystemTime::now();
    let svid = ca.issue(&domain("east.demo").gateway(), Duration::from_hours(24), now).unwrap();
    Grant {
        invite: isthmus_link::InviteId([0; 8]),
        bundle: bundle(cas),
        endpoints: Vec::new(),
        replace,
        chain: svid.chain,
        at: now,
    }
}

fn planned(directory: &Directory, grant: &Grant) -> Result<Plan, String> {
    plan(directory, &grant.bundle, &BTreeSet::new(), grant.replace, |known| grant.proves(known))
}

#[test]
fn another_ca_of_a_linked_cluster_is_taken_only_if_that_is_wanted() {
    let (_parent, directory) = west();
    let [old, new] = [0, 1].map(|_| Authority::create(domain("east.demo"), SystemTime::now()).unwrap());
    let found = |change, cas: &[&Authority]| Ok(Plan { change, bundle: bundle(cas) });
    assert_eq!(planned(&directory, &grant(&[&old], &old, false)), found(Change::New, &[&old]));
    link(&directory, &bundle(&[&old]), &["h:1".parse().unwrap()]).unwrap();
    for replace in [false, true] {
        assert_eq!(planned(&directory, &grant(&[&old], &old, replace)), found(Change::Renewed, &[&old]));
    }
    let refused = planned(&directory, &grant(&[&new], &new, false)).unwrap_err();
    assert!(refused.contains("--replace"), "{refused}");
    assert_eq!(planned(&directory, &grant(&[&new], &new, true)), found(Change::Replaced, &[&new]));
    let both = grant(&[&new, &old], &old, true);
    assert_eq!(planned(&directory, &both), found(Change::Replaced, &[&new, &old]));
    let configured = BTreeSet::from(["east".parse().unwrap()]);
    let refused = plan(&directory, &bundle(&[&old]), &configured, true, |_| true).unwrap_err();
    assert!(refused.contains("under `links:` of the configuration"), "{refused}");
}

/// CA certificates are public: who adds the real one to his own has proven nothing by it.
#[test]
fn who_merely_names_the_ca_of_a_linked_cluster_does_not_take_its_link_over() {
    let (_parent, directory) = west();
    let [east, mallory] = [0, 1].map(|_| Authority::create(domain("east.demo"), SystemTime::now()).unwrap());
    link(&directory, &bundle(&[&east]), &[]).unwrap();
    let refused = planned(&directory, &grant(&[&mallory, &east], &mallory, false)).unwrap_err();
    assert!(refused.contains("somebody else uses its name"), "{refused}");
    // An SVID of the real one does not vouch for another CA.
    let widening = planned(&directory, &grant(&[&east, &mallory], &east, false)).unwrap();
    assert_eq!(widening, Plan { change: Change::Renewed, bundle: bundle(&[&east]) });
}

#[test]
fn one_link_more_than_may_be_is_refused() {
    let (_parent, directory) = west();
    let mut configured: BTreeSet<ClusterName> = (2..MOST_LINKS).map(|n| format!("c{n}").parse().unwrap()).collect();
    LinkFiles::of(directory.path()).write(&"made".parse().unwrap(), &[]).unwrap();
    let east = Authority::create(domain("east.demo"), SystemTime::now()).unwrap();
    let planned = |configured: &_| plan(&directory, &bundle(&[&east]), configured, false, |_| true);
    assert!(planned(&configured).is_ok());
    configured.insert("last".parse().unwrap());
    let refused = planned(&configured).unwrap_err();
    assert!(refused.contains("there are 256 links already"), "{refused}");
    LinkFiles::of(directory.path()).write(&"east".parse().unwrap(), &[]).unwrap();
    configured.remove(&"last".parse().unwrap());
    assert!(planned(&configured).is_ok(), "one that is linked may come again");
}

#[test]
fn who_listens_everywhere_is_dialled_here() {
    assert_eq!(local("0.0.0.0:1".parse().unwrap()), "127.0.0.1:1".parse().unwrap());
    assert_eq!(local("[::]:1".parse().unwrap()), "[::1]:1".parse().unwrap());
    assert_eq!(local("192.0.2.1:1".parse().unwrap()), "192.0.2.1:1".parse().unwrap());
}

#[test]
fn another_user_than_the_owner_changes_nothing() {
    let path = Path::new("west-identity");
    assert!(same_user(path, 65534, 65534).is_ok());
    let refused = same_user(path, 65534, 0).unwrap_err();
    assert!(
        refused.message().contains("west-identity is of the user 65534, and this runs as 0"),
        "{}",
        refused.message()
    );
}

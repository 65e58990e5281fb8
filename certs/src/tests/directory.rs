//! The identity directory: what is written, what is refused, and how it is said.

use super::forge::Cluster;
use crate::{
    Directory, DirectoryError,
    directory::Contents,
    issue::SVID_LIFETIME,
    pem,
    verify::{Expected, check},
};
use isthmus_control_api::ClusterName;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};
use tempfile::TempDir;

/// A fresh identity of `domain` in a directory of its own.
pub(crate) fn fresh(domain: &str) -> (TempDir, Directory) {
    let parent = tempfile::tempdir().unwrap();
    let domain = domain.parse().unwrap();
    let (directory, _) =
        Directory::init(parent.path().join("identity"), domain, SVID_LIFETIME, SystemTime::now()).unwrap();
    (parent, directory)
}

/// Trusts `peer`.
pub(super) fn trust(directory: &Directory, peer: &Cluster) {
    let (_file, bundle) = bundle_file(peer);
    directory.trust(&peer.name(), &bundle).unwrap();
}

pub(super) fn bundle_file(peer: &Cluster) -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("ca.pem");
    fs::write(&path, pem::encode([peer.authority.certificate()])).unwrap();
    (parent, path)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every file below `path` with its content.
fn snapshot(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn keys_are_for_their_owner_alone() {
    let (_parent, directory) = fresh("west.demo");
    let at = |name: &str| mode(&directory.path().join(name));
    assert_eq!((mode(directory.path()), at("bundles")), (0o700, 0o700));
    assert_eq!((at("ca.key"), at("svid.key")), (0o600, 0o600));
    directory.write_own(&directory.issue_own(SVID_LIFETIME, SystemTime::now()).unwrap().unwrap()).unwrap();
    assert_eq!(at("svid.key"), 0o600);
    assert_eq!(directory.warnings().unwrap(), Vec::<String>::new());
    let key = directory.path().join("svid.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = directory.warnings().unwrap();
    assert!(warnings[0].contains("svid.key: found mode 0644, expected 0600"), "{warnings:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(directory.warnings().unwrap().is_empty(), "its group may read it");
}

#[test]
fn what_others_can_change_is_pointed_out() {
    let (_parent, directory) = fresh("west.demo");
    trust(&directory, &Cluster::new("east.demo"));
    for name in ["", "bundles", "bundles/east.pem", "ca.pem"] {
        let path = directory.path().join(name);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let warnings = directory.warnings().unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("can change it"), "{warnings:?}");
        fs::set_permissions(&path, before).unwrap();
    }
}

#[test]
fn an_identity_is_read_as_it_was_made() {
    let (_parent, directory) = fresh("west.demo");
    let east = Cluster::new("east.demo");
    trust(&directory, &east);
    let identity = directory.load().unwrap();
    assert_eq!(identity.id().as_str(), "spiffe://west.demo/ns/isthmus-system/sa/gateway");
    let bundle = identity.bundle(&east.name()).unwrap();
    assert!(bundle.certificates().eq([east.authority.certificate()]));
    assert_eq!(directory.authority().unwrap().unwrap().domain(), identity.domain());
}

#[test]
fn an_identity_that_is_there_is_not_overwritten() {
    let (_parent, directory) = fresh("west.demo");
    let before = snapshot(directory.path());
    let again =
        Directory::init(directory.path(), "west.demo".parse().unwrap(), SVID_LIFETIME, SystemTime::now()).unwrap_err();
    assert!(matches!(again, DirectoryError::Exists(_)), "{again}");
    let svid = Cluster::new("west.demo").svid();
    let export = directory.export(&svid, directory.path()).unwrap_err();
    assert!(matches!(export, DirectoryError::Exists(_)), "{export}");
    assert_eq!(snapshot(directory.path()), before);
}

#[test]
fn a_broken_bundle_is_replaced_by_a_good_one() {
    let (_parent, directory) = fresh("west.demo");
    let (east, north) = (Cluster::new("east.demo"), Cluster::new("north.demo"));
    trust(&directory, &east);
    for peer in [&east, &north] {
        fs::write(directory.bundle_path(&peer.name()), "nonsense").unwrap();
    }
    for peer in [&east, &north] {
        assert!(directory.load().is_err());
        trust(&directory, peer);
    }
    assert_eq!(directory.load().unwrap().bundles().len(), 2);
}

#[test]
fn a_bundle_of_someone_else_is_not_trusted() {
    let (_parent, directory) = fresh("west.demo");
    let before = snapshot(directory.path());
    let east: ClusterName = "east".parse().unwrap();
    for (other, why) in [
        ("north.demo", "found the CA of \"spiffe://north.demo\", expected the CA of spiffe://east.demo"),
        ("east.prod", "found the CA of \"spiffe://east.prod\", expected the CA of spiffe://east.demo"),
    ] {
        let (_file, bundle) = bundle_file(&Cluster::new(other));
        let refused = directory.trust(&east, &bundle).unwrap_err().to_string();
        assert_eq!(refused, format!("{}: {why}", bundle.display()));
    }
    let (_file, bundle) = bundle_file(&Cluster::new("west.demo"));
    assert!(directory.trust(&"west".parse().unwrap(), &bundle).is_err(), "itself");
    let leaf = pem::encode(&Cluster::new("east.demo").svid().chain);
    fs::write(&bundle, leaf).unwrap();
    let refused = directory.trust(&east, &bundle).unwrap_err().to_string();
    assert!(refused.contains("expected a CA certificate"), "{refused}");
    assert_eq!(snapshot(directory.path()), before);
}

#[test]
fn damage_is_named_with_its_file() {
    let other = Cluster::new("west.demo");
    let other_key = pem::encode_key(&other.svid().key);
    let workload = Cluster::new("west.demo").sign(&super::forge::leaf(&["spiffe://west.demo/ns/shop/sa/api"]));
    let workload = pem::encode(&workload.chain);
    let key_in_bundle = pem::encode([other.authority.certificate()]) + &other_key;
    let north = pem::encode([Cluster::new("north.demo").authority.certificate()]);
    let own = pem::encode([other.authority.certificate()]);
    for (file, content, why) in [
        ("svid.pem", "", "svid.pem: found no PEM section, expected certificates as PEM"),
        ("svid.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n", "svid.pem: found broken PEM"),
        ("svid.pem", &workload, "svid.pem: found spiffe://west.demo/ns/shop/sa/api, expected a gateway's id"),
        ("svid.key", "", "svid.key: found something else, expected one private key as PEM"),
        ("svid.key", &other_key, "svid.key: found a private key of another certificate, expected the key of the SVID"),
        ("bundles/east.pem", &north, "bundles/east.pem: found the CA of \"spiffe://north.demo\", expected the CA of"),
        ("bundles/East.pem", &north, "bundles/East.pem: found \"East\" is not a cluster name"),
        ("bundles/west.pem", &own, "bundles/west.pem: found a bundle of this cluster itself"),
        ("bundles/east.pem", &key_in_bundle, "bundles/east.pem: found a section PrivateKey"),
        ("bundles/east.pem", &" ".repeat((1 << 20) + 1), "bundles/east.pem: found a larger file"),
    ] {
        let (_parent, directory) = fresh("west.demo");
        fs::write(directory.path().join(file), content).unwrap();
        let refused = directory.load().unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}\n  should say {why}");
        assert!(refused.starts_with(directory.path().to_str().unwrap()), "{refused}");
    }
}

#[test]
fn missing_files_are_named() {
    for file in ["svid.pem", "svid.key"] {
        let (_parent, directory) = fresh("west.demo");
        fs::remove_file(directory.path().join(file)).unwrap();
        let refused = directory.load().unwrap_err().to_string();
        assert!(refused.starts_with("cannot read ") && refused.contains(file), "{refused}");
    }
    // Without the CA it is an identity that someone else renews.
    let (_parent, directory) = fresh("west.demo");
    fs::remove_file(directory.path().join("ca.key")).unwrap();
    fs::remove_file(directory.path().join("ca.pem")).unwrap();
    fs::remove_dir(directory.path().join("bundles")).unwrap();
    directory.load().unwrap();
    assert!(directory.authority().unwrap().is_none());
}

#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
    let (_parent, directory) = fresh("west.demo");
    let path = directory.path().join("bundles/east.pem");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let refused = directory.load().unwrap_err().to_string();
    assert!(refused.contains("found something that is no file"), "{refused}");
}

#[test]
fn files_that_are_no_bundles_are_left_alone() {
    let (_parent, directory) = fresh("west.demo");
    fs::write(directory.path().join("bundles/README"), "hello").unwrap();
    fs::write(directory.path().join("bundles/.isthmus-x1.pem"), "half").unwrap();
    assert!(directory.load().unwrap().bundles().is_empty());
}

#[test]
fn nothing_temporary_is_left_behind() {
    let (_parent, directory) = fresh("west.demo");
    trust(&directory, &Cluster::new("east.demo"));
    let names: Vec<_> = snapshot(directory.path()).into_keys().collect();
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn two_processes_do_not_mix_their_svids() {
    let (_parent, directory) = fresh("west.demo");
    let before = snapshot(directory.path());
    let svid = directory.issue_own(SVID_LIFETIME, SystemTime::now()).unwrap().unwrap();
    let other = fs::File::open(directory.path()).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(directory.write_own(&svid).is_err());
    assert_eq!(snapshot(directory.path()), before);
    drop(other);
    directory.write_own(&svid).unwrap();
}

#[test]
fn an_svid_that_the_ca_did_not_issue_is_pointed_out() {
    let (_parent, directory) = fresh("west.demo");
    let other = Cluster::new("west.demo");
    fs::write(directory.ca_path(), pem::encode([other.authority.certificate()])).unwrap();
    let warnings = directory.warnings().unwrap();
    assert!(warnings[0].contains("svid.pem: found an SVID issued by"), "{warnings:?}");
}

#[test]
fn the_digest_tells_changes_apart() {
    let (_parent, directory) = fresh("west.demo");
    let digest = || Contents::read(&directory).unwrap().digest();
    let first = digest();
    assert_eq!(digest(), first);
    trust(&directory, &Cluster::new("east.demo"));
    let second = digest();
    assert_ne!(second, first);
    fs::rename(directory.path().join("bundles/east.pem"), directory.path().join("bundles/north.pem")).unwrap();
    assert_ne!(digest(), second);
    fs::remove_file(directory.path().join("bundles/north.pem")).unwrap();
    assert_eq!(digest(), first);
}

#[test]
fn a_ca_is_replaced_as_the_operations_manual_says() {
    let (_west, west) = fresh("west.demo");
    let (_new, new) = fresh("west.demo");
    let (_east, east) = fresh("east.demo");
    let name: ClusterName = "west".parse().unwrap();
    let both = new.path().join("both.pem");
    fs::write(&both, [fs::read(new.ca_path()).unwrap(), fs::read(west.ca_path()).unwrap()].concat()).unwrap();
    let now = SystemTime::now();
    let accepts = || {
        let chain = pem::certificates(&fs::read(west.path().join("svid.pem")).unwrap()).unwrap();
        check(&east.load().unwrap(), &Expected::Server(name.clone()), &chain, now).is_ok()
    };
    east.trust(&name, &west.ca_path()).unwrap();
    assert!(accepts());
    assert_eq!(east.trust(&name, &both).unwrap().certificates().count(), 2);
    assert!(accepts());
    for file in ["ca.pem", "ca.key"] {
        fs::copy(new.path().join(file), west.path().join(file)).unwrap();
    }
    assert!(accepts());
    west.write_own(&west.issue_own(SVID_LIFETIME, now).unwrap().unwrap()).unwrap();
    assert!(accepts());
    east.trust(&name, &new.ca_path()).unwrap();
    assert!(accepts());
    assert_eq!(west.warnings().unwrap(), Vec::<String>::new());
}

//! dpkg installs the package below a directory, and what it has installed runs.

use crate::made::{file, scratch, succeed};
use isthmus_tests::{Netns, Process, admin, eventually};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};
use tempfile::TempDir;

/// A system of nothing but dpkg's own files.
fn system() -> TempDir {
    let scratch = scratch();
    let root = scratch.path();
    fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
    fs::create_dir_all(root.join("var/lib/dpkg/updates")).unwrap();
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    fs::create_dir_all(root.join("etc")).unwrap();
    scratch
}

/// Its scripts run outside of it: there is no shell in it. What the package depends on is not in it either.
fn dpkg(root: &Path, args: &[&str]) -> String {
    let mut command = Command::new("dpkg");
    command.arg("--root").arg(root).args(["--force-script-chrootless", "--force-depends"]).args(args);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    succeed(&mut command)
}

fn exists(root: &Path, path: &str) -> bool {
    root.join(path).symlink_metadata().is_ok()
}

#[test]
fn what_dpkg_installs_is_a_gateway_of_its_own_user() {
    let system = system();
    let root = system.path();
    dpkg(root, &["--install", file(".deb").to_str().unwrap()]);

    let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
    let user = users.lines().find(|line| line.starts_with("isthmus:")).unwrap();
    let fields: Vec<_> = user.split(':').collect();
    let (uid, gid, home) = (fields[2], fields[3], root.join("var/lib/isthmus"));
    assert_eq!(fields[5], "/var/lib/isthmus", "{user}");
    let kept = fs::metadata(&home).unwrap();
    assert_eq!((kept.uid().to_string(), kept.permissions().mode() & 0o777), (uid.to_owned(), 0o700));
    assert!(exists(root, "etc/systemd/system/multi-user.target.wants/isthmus.service"));

    let binary = root.join("usr/bin/isthmus");
    let version = succeed(Command::new(&binary).arg("--version"));
    assert_eq!(version.trim(), concat!("isthmus ", env!("CARGO_PKG_VERSION")));

    // As /usr/share/doc/isthmus/examples says, for a system that begins at `root`.
    let directory = home.to_str().unwrap();
    let example = fs::read_to_string(root.join("usr/share/doc/isthmus/examples/isthmus.yaml")).unwrap();
    let config = root.join("etc/isthmus/isthmus.yaml");
    fs::write(&config, example.replace("/var/lib/isthmus", directory)).unwrap();
    let as_user = ["--reuid", uid, "--regid", gid, "--clear-groups", "--"];
    let (identity, program) = (home.join("identity"), binary.to_str().unwrap());
    let init = ["identity", "init", "--clusterset", "demo", "--cluster", "west", "--out", identity.to_str().unwrap()];
    succeed(Command::new("setpriv").args(as_user).arg(program).args(init));
    let netns = Netns::new("installed");
    let run = [&as_user[..], &[program, "run", "--config", config.to_str().unwrap()]].concat();
    let gateway = Process::start(&netns, "the installed gateway", &root.join("log"), Path::new("setpriv"), &run);
    eventually("the installed gateway is ready", || match admin::get(&netns, admin::ADDRESS, "/readyz") {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}\n{}", gateway.log())),
    });
}

#[test]
fn removing_leaves_the_identity_and_nothing_else() {
    let system = system();
    let root = system.path();
    dpkg(root, &["--install", file(".deb").to_str().unwrap()]);
    fs::write(root.join("var/lib/isthmus/ca.key"), "").unwrap();
    dpkg(root, &["--remove", "isthmus"]);
    dpkg(root, &["--purge", "isthmus"]);
    assert!(exists(root, "var/lib/isthmus/ca.key"));
    for path in ["usr/bin/isthmus", "usr/share/doc/isthmus", "etc/isthmus"] {
        assert!(!exists(root, path), "{path} is left");
    }
    assert!(!exists(root, "etc/systemd/system/multi-user.target.wants/isthmus.service"));
    assert!(!exists(root, "etc/systemd/system/isthmus.service"), "it stays masked");
}

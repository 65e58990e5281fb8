//! The unit of systemd.

use crate::made::{file, scratch, succeed};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Of 10, by `systemd-analyze security`, in tenths: less is better. Its versions differ by some. docs/packages.md states it.
const EXPOSURE: u32 = 20;

/// Unpacked, with its program where that was unpacked to.
fn unit(root: &Path) -> PathBuf {
    succeed(Command::new("dpkg-deb").arg("--extract").arg(file(".deb")).arg(root));
    let unit = root.join("usr/lib/systemd/system/isthmus.service");
    let text = fs::read_to_string(&unit).unwrap();
    let program = root.join("usr/bin/isthmus");
    assert!(text.contains("ExecStart=/usr/bin/isthmus run --config /etc/isthmus/isthmus.yaml\n"), "{text}");
    fs::write(&unit, text.replace("ExecStart=/usr/bin/isthmus", &format!("ExecStart={}", program.display()))).unwrap();
    unit
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let root = scratch();
    let unit = unit(root.path());
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let said = String::from_utf8(verified.stderr).unwrap();
    // Keys that it does not know are warnings.
    assert!(verified.status.success() && !said.contains("isthmus.service"), "{}: {said}", verified.status);
}

#[test]
fn the_unit_exposes_no_more_than_is_documented() {
    let root = scratch();
    let unit = unit(root.path());
    let threshold = format!("--threshold={EXPOSURE}");
    succeed(Command::new("systemd-analyze").args(["security", "--no-pager", "--offline=true", &threshold]).arg(unit));
    let documented = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/packages.md");
    let documented = fs::read_to_string(documented).unwrap();
    let stated = format!("below {} of 10", EXPOSURE / 10);
    assert!(documented.contains(&stated), "docs/packages.md does not say {stated:?}");
}

//! What is in .deb and tarball, and that it is the same each time.

use crate::made::{EPOCH, file, pack, packages, scratch, script, succeed};
use std::{fs, path::Path, process::Command};

#[test]
fn packing_twice_gives_the_same_bytes() {
    let surroundings = [("TZ", "Pacific/Kiritimati"), ("LC_ALL", "C.UTF-8")];
    let again = pack("again", EPOCH, &surroundings);
    succeed(Command::new(script("same.sh")).arg(packages()).arg(&again));
    succeed(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&again));
    let listed = fs::read_to_string(again.join("SHA256SUMS")).unwrap();
    assert_eq!(listed.lines().count() + 1, fs::read_dir(&again).unwrap().count(), "{listed}");
}

#[test]
fn what_differs_is_named_inside_of_archives_too() {
    let [first, second] = ["one", "other"].map(|word| {
        let out = scratch();
        let content = out.path().join("content");
        fs::create_dir(&content).unwrap();
        fs::write(content.join("greeting"), word).unwrap();
        fs::write(content.join("same"), "same").unwrap();
        succeed(
            Command::new("tar")
                .arg("-C")
                .arg(&content)
                .arg("-cf")
                .arg(out.path().join("a.tar"))
                .args(["greeting", "same"]),
        );
        fs::remove_dir_all(&content).unwrap();
        out
    });
    fs::write(second.path().join("more"), "").unwrap();
    let compared = Command::new(script("same.sh")).arg(first.path()).arg(second.path()).output().unwrap();
    let said = String::from_utf8(compared.stderr).unwrap();
    assert_eq!(compared.status.code(), Some(1), "{said}");
    assert!(said.contains("a.tar differs") && said.contains("a.tar/greeting differ"), "{said}");
    assert!(said.contains("> more") && !said.contains("same"), "{said}");
}

/// Modes, owners and places of everything but the manual pages, of which there is one a command.
#[test]
fn deb_and_tarball_hold_the_same_files_of_root() {
    let deb = file(".deb");
    let from_deb =
        listing(Command::new("sh").args(["-c", "dpkg-deb --fsys-tarfile \"$0\" | tar -tv --numeric-owner"]).arg(&deb));
    let name = format!("{}/", file(".tar.xz").file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.xz"));
    let from_tarball = listing(Command::new("tar").args(["-tvJ", "--numeric-owner", "-f"]).arg(file(".tar.xz")));
    let from_tarball: Vec<_> = from_tarball.iter().filter_map(|line| line.split_once(&name)).collect();
    let files = |line: &&String| !line.ends_with(['/', ' ']) || line.ends_with("etc/isthmus/");
    let from_tarball: Vec<_> = from_tarball.iter().map(|(mode, path)| format!("{mode}{path}")).collect();
    assert_eq!(
        from_deb.iter().filter(files).collect::<Vec<_>>(),
        from_tarball.iter().filter(files).collect::<Vec<_>>()
    );
    let (pages, others): (Vec<_>, Vec<_>) = from_deb.iter().filter(files).partition(|line| line.contains("/man1/"));
    assert!(pages.iter().all(|page| page.starts_with("-rw-r--r-- 0/0 ") && page.ends_with(".1.gz")), "{pages:?}");
    assert!(pages.iter().any(|page| page.ends_with("/isthmus-run.1.gz")), "{pages:?}");
    assert_eq!(
        others,
        [
            "drwxr-xr-x 0/0 etc/isthmus/",
            "-rwxr-xr-x 0/0 usr/bin/isthmus",
            "-rw-r--r-- 0/0 usr/lib/systemd/system/isthmus.service",
            "-rw-r--r-- 0/0 usr/lib/sysusers.d/isthmus.conf",
            "-rw-r--r-- 0/0 usr/lib/tmpfiles.d/isthmus.conf",
            "-rw-r--r-- 0/0 usr/share/bash-completion/completions/isthmus",
            "-rw-r--r-- 0/0 usr/share/doc/isthmus/NEWS.gz",
            "-rw-r--r-- 0/0 usr/share/doc/isthmus/changelog.gz",
            "-rw-r--r-- 0/0 usr/share/doc/isthmus/copyright",
            "-rw-r--r-- 0/0 usr/share/doc/isthmus/examples/isthmus.yaml",
            "-rw-r--r-- 0/0 usr/share/doc/isthmus/isthmus.cdx.json",
            "-rw-r--r-- 0/0 usr/share/fish/vendor_completions.d/isthmus.fish",
            "-rw-r--r-- 0/0 usr/share/zsh/vendor-completions/_isthmus",
        ]
    );
}

/// A library that is younger than what the package asks for would be found out at the first start only.
#[test]
fn the_package_asks_for_the_c_library_that_the_binary_needs() {
    let out = scratch();
    let root = out.path().join("root");
    succeed(Command::new("dpkg-deb").arg("--raw-extract").arg(file(".deb")).arg(&root));
    let control = fs::read_to_string(root.join("DEBIAN/control")).unwrap();
    let asked = control.lines().find_map(|line| line.strip_prefix("Depends: libc6 (>= 2.")).unwrap();
    let asked: u32 = asked.split(')').next().unwrap().parse().unwrap();
    let most = needed(&root.join("usr/bin/isthmus"));
    assert_eq!(asked, most, "{control}");
    assert!(!control.contains('@') || control.matches('@').count() == 1, "{control}");
    succeed(Command::new("md5sum").args(["--check", "--strict", "DEBIAN/md5sums"]).current_dir(&root));
}

/// Of the versions 2.x of glibc that a binary names, the last.
fn needed(binary: &Path) -> u32 {
    let symbols = succeed(Command::new("readelf").args(["--version-info", "--wide"]).arg(binary));
    let packed = symbols.contains("GLIBC_ABI_DT_RELR").then_some(36);
    let numbers =
        symbols.split("Name: GLIBC_2.").skip(1).filter_map(|rest| rest.split([' ', '.']).next()?.parse().ok());
    numbers.chain(packed).max().unwrap()
}

/// "mode owner path" for each line of `tar -tv`, in order.
fn listing(command: &mut Command) -> Vec<String> {
    let mut lines: Vec<_> = succeed(command)
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5].trim_start_matches("./"))
        })
        .collect();
    lines.sort_by(|one, other| one[15..].cmp(&other[15..]));
    lines
}

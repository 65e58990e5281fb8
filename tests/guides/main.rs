//! The guides, run from their text: each command on its machine, each output compared. How they are read: `isthmus_tests::guide`.

#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

mod crds;

use isthmus_tests::{
    Guide, NatKind, Topology,
    guide::{Step, uncommented},
};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a guide of docs/guides.
fn run(name: &str, topology: &Topology) {
    Guide::read(&root().join("docs/guides").join(format!("{name}.md"))).run(topology);
}

#[test]
fn link_behind_nat() {
    run("link-behind-nat", &Topology::behind_nats(NatKind::PortRestricted, NatKind::PortRestricted));
}

#[test]
fn failover_drill() {
    run("failover-drill", &Topology::new(&["west", "east", "north"]));
}

#[test]
fn certificate_rotation() {
    run("certificate-rotation", &west_and_east());
}

#[test]
fn upgrade() {
    run("upgrade", &west_and_east());
}

#[test]
fn tuning() {
    run("tuning", &west_and_east());
}

#[test]
fn troubleshooting() {
    run("troubleshooting", &west_and_east());
}

#[test]
fn postgresql() {
    run("postgresql", &west_and_east());
}

/// The README's own two clusters.
#[test]
fn readme() {
    Guide::read_section(&root().join("README.md"), "Link two clusters").run(&west_and_east());
}

/// Two machines that have nothing yet: the guide makes identities.
fn west_and_east() -> Topology {
    Topology::new(&["west", "east"])
}

/// What has a test above.
const RUN: [&str; 7] =
    ["certificate-rotation", "failover-drill", "link-behind-nat", "postgresql", "troubleshooting", "tuning", "upgrade"];

/// A guide without commands of ours is held to the rest: what it shows is a file that another test uses, or marked.
#[test]
fn every_guide_is_run_or_shows_what_others_run() {
    let (mut run, mut quoted) = (Vec::new(), 0);
    for entry in std::fs::read_dir(root().join("docs/guides")).unwrap() {
        let path = entry.unwrap().path();
        let guide = Guide::read(&path);
        for step in guide.steps() {
            if let Step::Quote { line, path: of, text } = step {
                let file = std::fs::read_to_string(root().join(of)).unwrap_or_else(|e| panic!("{of}: {e}"));
                assert_eq!(uncommented(text), uncommented(&file), "{}:{line}: {of}", path.display());
                quoted += 1;
            }
        }
        if guide.steps().iter().any(|step| matches!(step, Step::Section { .. })) {
            run.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
    }
    run.sort();
    assert_eq!(run, RUN, "a guide with commands has a test of its own here");
    assert!(quoted > 0, "the guides have lost their manifests, or this test its eyes");
}

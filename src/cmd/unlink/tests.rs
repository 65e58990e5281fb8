use super::*;
use crate::cmd::linking;
use clap::Parser;
use isthmus_certs::{Authority, TrustAnchors, TrustDomain};
use std::{fs, path::Path, time::Duration, time::SystemTime};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn unlink(directory: &Path, line: &str) -> Result<Report, Failure> {
    let line = line.replace('@', directory.to_str().unwrap());
    let words = std::iter::once("unlink").chain(line.split(' '));
    report(&Line::try_parse_from(words).map_err(|e| Failure::usage(e.to_string()))?.args)
}

/// West, linked with east as `join` does it.
fn linked(links: &str) -> tempfile::TempDir {
    let parent = tempfile::tempdir().unwrap();
    let (day, now) = (Duration::from_hours(24), SystemTime::now());
    let domain = |name: &str| name.parse::<TrustDomain>().unwrap();
    let (directory, _) = Directory::init(parent.path().join("id"), domain("west.demo"), day, now).unwrap();
    let east = Authority::create(domain("east.demo"), now).unwrap();
    let bundle = TrustAnchors::new(domain("east.demo"), vec![east.certificate().clone()]).unwrap();
    linking::link(&directory, &bundle, &[]).unwrap();
    // Port 1: no gateway runs.
    let config = format!("clusterset: demo\ncluster: west\nidentity: id\nadmin: \"127.0.0.1:1\"\nlinks: {links}\n");
    fs::write(parent.path().join("isthmus.yaml"), config).unwrap();
    parent
}

#[test]
fn link_and_bundle_go() {
    let parent = linked("[]");
    let report = unlink(parent.path(), "east --config @/isthmus.yaml").unwrap();
    assert!(report.removed_link && report.removed_bundle && report.left_in.is_none());
    assert!(matches!(report.gone, Gone::NoGateway) && report.problem().is_none());
    assert!(!parent.path().join("id/bundles/east.pem").exists() && !parent.path().join("id/links/east.yaml").exists());
    let refused = unlink(parent.path(), "east --config @/isthmus.yaml").unwrap_err();
    assert!(refused.message().contains("found no link with east"), "{}", refused.message());
}

#[test]
fn a_link_of_the_configuration_stays_and_is_named() {
    let parent = linked("[{cluster: east}]");
    let report = unlink(parent.path(), "east --config @/isthmus.yaml").unwrap();
    assert!(report.removed_bundle);
    assert_eq!(report.left_in, Some(parent.path().join("isthmus.yaml")));
}

#[test]
fn a_broken_configuration_is_no_obstacle() {
    let parent = linked(": [");
    assert!(unlink(parent.path(), "east --config @/isthmus.yaml").is_err());
    let report = unlink(parent.path(), "east --identity @/id").unwrap();
    assert!(report.removed_bundle);
    assert!(report.problem().unwrap().contains("its admin address is not known"));
    let parent = linked(": [");
    assert!(unlink(parent.path(), "east --identity @/id --admin 127.0.0.1:1").unwrap().problem().is_none());
}

/// A gateway that answers, but does not do it.
#[test]
fn tunnels_that_stay_open_are_said_to() {
    let report =
        |gone| Report { peer: "east".parse().unwrap(), removed_link: true, removed_bundle: true, left_in: None, gone };
    let open = report(Gone::Open);
    assert!(open.problem().unwrap().contains("still has tunnels with east") && open.to_string().contains("still open"));
    assert!(report(Gone::Unknown { message: "stuck".into() }).problem().unwrap().contains("is not known: stuck"));
    assert!(report(Gone::Closed).problem().is_none());
}

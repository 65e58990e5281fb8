//! The commands as people and scripts use them.

use super::{Args, Command, init, issue, renew, revoke, show, trust};
use crate::cmd::Failure;
use clap::Parser;
use serde_json::Value;
use std::{fs, path::Path};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

/// Runs `isthmus identity <line>` in `directory` (`@` in the line stands for it): what it prints for people, and for scripts.
fn identity(directory: &Path, line: &str) -> Result<(String, Value), Failure> {
    let line = line.replace('@', directory.to_str().unwrap());
    let words = std::iter::once("identity").chain(line.split(' '));
    let Line { args } = Line::try_parse_from(words).map_err(|e| Failure::usage(e.to_string()))?;
    fn both<T: ToString + serde::Serialize>(report: T) -> (String, Value) {
        (report.to_string(), serde_json::to_value(report).unwrap())
    }
    Ok(match &args.command {
        Command::Init(args) => both(init::report(args)?),
        Command::Trust(args) => both(trust::report(args)?),
        Command::Show(args) => both(show::report(args)?),
        Command::Issue(args) => both(issue::report(args)?),
        Command::Renew(args) => both(renew::report(args)?),
        Command::Revoke(args) => both(revoke::report(args)?),
    })
}

fn clusters() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for cluster in ["west", "east"] {
        identity(directory.path(), &format!("init --clusterset demo --cluster {cluster} --out @/{cluster}")).unwrap();
    }
    directory
}

#[test]
fn two_clusters_are_set_up_as_the_readme_says() {
    let directory = clusters();
    let at = directory.path();
    let (_, before) = identity(at, "show @/west").unwrap();
    assert_eq!(
        before["problems"][0],
        "no other cluster is trusted: link with one (`isthmus join`), or run `isthmus identity trust`"
    );
    let (text, json) = identity(at, "trust --identity @/west --cluster east --bundle @/east/ca.pem").unwrap();
    assert!(text.contains("1 CA certificate of east.demo"), "{text}");
    assert_eq!(json["trust_domain"], "east.demo");
    let (text, json) = identity(at, "show @/west").unwrap();
    assert_eq!(json["id"], "spiffe://west.demo/ns/isthmus-system/sa/gateway");
    assert_eq!(json["bundles"][0]["cluster"], "east");
    assert_eq!(json["problems"], Value::Array(vec![]));
    assert_eq!(json["renews_itself"], true);
    let left = json["remaining_seconds"].as_u64().unwrap();
    assert!((86_000..86_400).contains(&left), "{left}");
    assert!(text.contains("east    east.demo     1 "), "{text}");
}

#[test]
fn no_output_has_a_key() {
    let directory = clusters();
    let at = directory.path();
    let issue = "issue --identity @/west --service-account shop/api --out @/api";
    let lines = ["trust --identity @/west --cluster east --bundle @/east/ca.pem", issue, "renew @/west", "show @/west"];
    let said: Vec<_> = lines.into_iter().map(|line| identity(at, line).unwrap()).collect();
    for key in ["west/ca.key", "west/svid.key", "api/svid.key"] {
        let key = fs::read_to_string(at.join(key)).unwrap();
        let secret = key.lines().nth(1).unwrap();
        assert!(said.iter().all(|(text, json)| !text.contains(secret) && !json.to_string().contains(secret)));
    }
}

#[test]
fn svids_for_workloads() {
    let directory = clusters();
    let at = directory.path();
    let (text, json) = identity(at, "issue --identity @/west --service-account shop/api --out @/api --ttl 1h").unwrap();
    assert_eq!(json["id"], "spiffe://west.demo/ns/shop/sa/api");
    assert!(text.contains("run the same command again"), "{text}");
    assert_eq!(fs::read(at.join("api/ca.pem")).unwrap(), fs::read(at.join("west/ca.pem")).unwrap());
    let first = fs::read(at.join("api/svid.pem")).unwrap();
    identity(at, "issue --identity @/west --id spiffe://west.demo/vm/7 --out @/api").unwrap();
    assert_ne!(fs::read(at.join("api/svid.pem")).unwrap(), first);
}

#[test]
fn a_renewal_keeps_the_lifetime_or_sets_it() {
    let directory = clusters();
    let at = directory.path();
    let lifetime = || {
        let identity = isthmus_certs::Directory::new(at.join("west")).load().unwrap();
        identity.validity().lifetime().as_secs()
    };
    identity(at, "renew @/west --ttl 30m").unwrap();
    assert_eq!(lifetime(), 1800);
    identity(at, "renew @/west").unwrap();
    assert_eq!(lifetime(), 1800);
}

#[test]
fn what_a_cluster_revokes_is_taken_by_its_peers() {
    let directory = clusters();
    let at = directory.path();
    identity(at, "trust --identity @/east --cluster west --bundle @/west/ca.pem").unwrap();
    let (text, json) = identity(at, "revoke --identity @/west --svid @/west/svid.pem").unwrap();
    assert_eq!(json["revoked"], 1);
    assert!(text.contains("isthmus identity renew"), "{text}");
    let (_, json) = identity(at, "revoke --identity @/west --serial 0a:ff --serial 0AFF").unwrap();
    assert_eq!(json["revoked"], 2);
    let (text, json) = identity(at, "trust --identity @/east --cluster west --crl @/west/crl.pem").unwrap();
    assert_eq!(json["revoked"], 2, "{text}");
    for (code, line, why) in [
        (1, "trust --identity @/east --cluster west --crl @/west/ca.pem", "found a section Certificate"),
        (1, "trust --identity @/west --cluster east --crl @/west/crl.pem", "east.pem: entity not found"),
        (1, "revoke --identity @/west --svid @/east/svid.pem", "expected one that this cluster's CA has signed"),
        (1, "revoke --identity @/west --serial xyz", "found \"xyz\", expected a serial number"),
        (2, "revoke --identity @/west", "required arguments were not provided"),
        (2, "trust --identity @/east --cluster west", "required arguments were not provided"),
    ] {
        let failure = identity(at, line).unwrap_err();
        assert!(failure.message().contains(why), "{line}\n  {}\n  should say {why}", failure.message());
        assert_eq!(failure.code(), code, "{line}");
    }
}

#[test]
fn refusals_say_what_was_found_and_expected() {
    let directory = clusters();
    let at = directory.path();
    fs::copy(at.join("west/ca.pem"), at.join("copy.pem")).unwrap();
    for (code, line, why) in [
        (1, "init --clusterset demo --cluster west --out @/west", "found an identity, expected none"),
        (1, "trust --identity @/west --cluster north --bundle @/east/ca.pem", "expected the CA of spiffe://north.demo"),
        (1, "trust --identity @/west --cluster east --bundle @/east/ca.key", "found a section PrivateKey"),
        (1, "trust --identity @/west --cluster east --bundle @/none.pem", "none.pem: No such file or directory"),
        (1, "issue --identity @/west --id spiffe://east.demo/a --out @/x", "expected one of this CA's trust domain"),
        (1, "issue --identity @/west --service-account a/b --out @/west", "found an identity, expected none"),
        (
            1,
            "issue --identity @/west --service-account a/b --out @/x --ttl 1s",
            "found a lifetime of 1s, expected 10s to",
        ),
        (1, "issue --identity @/none --service-account a/b --out @/x", "found no ca.key"),
        (1, "show @/none", "svid.pem: No such file or directory"),
        (2, "issue --identity @/west --out @/x", "required arguments were not provided"),
        (2, "issue --identity @/west --service-account a/b --id spiffe://west.demo/a --out @/x", "cannot be used with"),
        (2, "init --clusterset demo --cluster West --out @/x", "\"West\" is not a cluster name"),
        (2, "init --clusterset demo --cluster north --out @/x --ttl 1w", "expected a number and one of s, m, h, d"),
    ] {
        let failure = identity(at, line).unwrap_err();
        assert!(failure.message().contains(why), "{line}\n  {}\n  should say {why}", failure.message());
        assert_eq!(failure.code(), code, "{line}");
    }
    assert!(!at.join("x").exists());
}

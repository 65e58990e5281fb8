//! Whether Grafana can read the dashboard, by the schema that Grafana itself is made from: grafana/check.mjs.

use crate::prometheus::file;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Runs the checker on files.
fn check(paths: &[PathBuf]) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring/grafana/check.mjs");
    let output = Command::new("node").arg(script).args(paths).output();
    output.unwrap_or_else(|e| panic!("node: {e} (run `make setup`)"))
}

#[test]
fn grafana_can_read_the_dashboard() {
    let output = check(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring/dashboard.json")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_dashboard_that_grafana_would_not_show_is_refused() {
    type Change = fn(&mut Value);
    let broken: [(Change, &str); 9] = [
        (|all| all["panels"][8]["option"] = json!({}), "'\"option\"' does not exist"),
        (|all| all["panels"][8]["type"] = json!("timeserie"), "\"timeserie\""),
        (|all| all["panels"][8]["options"]["legend"]["displayMode"] = json!("grid"), "\"grid\""),
        (|all| all["panels"][8]["targets"][0]["exp"] = json!("up"), "'\"exp\"' does not exist"),
        (|all| all["panels"][8]["fieldConfig"]["defaults"]["custom"]["lineWidth"] = json!("1"), "'string' is not"),
        (|all| all["schemaVersion"] = json!("39"), "'string' is not"),
        (|all| all["panels"][8]["id"] = all["panels"][9]["id"].clone(), "expected one of its own"),
        (|all| all["panels"][8]["gridPos"]["x"] = json!(20), "expected one within 24 columns"),
        (|all| all["panels"][8]["targets"][0]["expr"] = json!("up{c=~\"$clutser\"}"), "found the variable $clutser"),
    ];
    let (dir, whole) = (tempfile::tempdir().unwrap(), file("dashboard.json"));
    let path = |n: usize| dir.path().join(format!("broken-{n}.json"));
    for (n, (change, _)) in broken.iter().enumerate() {
        let mut dashboard: Value = serde_json::from_str(&whole).unwrap();
        change(&mut dashboard);
        std::fs::write(path(n), serde_json::to_string_pretty(&dashboard).unwrap()).unwrap();
    }
    let half = path(broken.len());
    std::fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    let output = check(&(0..=broken.len()).map(path).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (n, words) in broken.iter().map(|(_, words)| *words).chain(["found no JSON"]).enumerate() {
        let name = format!("broken-{n}.json:");
        assert!(said.lines().any(|line| line.contains(&name) && line.contains(words)), "{name} {words}: {said}");
    }
}
